from __future__ import annotations

import io
import traceback
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from wara.errors import UnreadableImage
from wara.imaging import check_image, read_image
from wara.imaging.deidentify import clean, header_identifiers
from wara.imaging.dicom_grey import apply_window
from wara.imaging.image import MAX_PIXELS
from wara.imaging.names_in_paths import Identifiers

BUNDLED = Path(pydicom.data.__file__).parent / "test_files"


@pytest.fixture
def ramp() -> np.ndarray:
    return np.arange(0, 4000, 10, dtype=np.uint16).reshape(20, 20)


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def test_without_a_window_the_values_are_scaled_by_their_own_range(make_dicom, dicom_bytes, ramp):
    image = read_image(dicom_bytes(make_dicom(ramp)), "a.dcm")
    np.testing.assert_array_equal(image.pixels[..., 0], _scaled(ramp, 0, 3990))
    assert (image.format, image.width, image.height, image.bits) == ("DICOM", 20, 20, 16)
    assert image.greyscale
    assert image.window is None


def test_rescale_comes_before_the_window_and_the_first_window_counts(make_dicom, dicom_bytes, ramp):
    dataset = make_dicom(
        ramp, RescaleSlope="0.5", RescaleIntercept="-1000", WindowCenter=["40", "300"], WindowWidth=["400", "1500"]
    )
    image = read_image(dicom_bytes(dataset), "a.dcm")
    values = ramp * 0.5 - 1000
    expected = _scaled(values, 40 - 0.5 - 399 / 2, 40 - 0.5 + 399 / 2)
    np.testing.assert_array_equal(image.pixels[..., 0], expected)
    assert image.window == (40.0, 400.0)


def test_monochrome1_is_inverted_after_the_window(make_dicom, dicom_bytes, ramp):
    window = {"WindowCenter": "2000", "WindowWidth": "1000"}
    straight = read_image(dicom_bytes(make_dicom(ramp, **window)), "a").pixels
    inverted = read_image(dicom_bytes(make_dicom(ramp, PhotometricInterpretation="MONOCHROME1", **window)), "a").pixels
    np.testing.assert_array_equal(inverted, 255 - straight)
    assert straight[0, 0, 0] == 0


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (-600, 1500), (2047, 2), (100.5, 33.3)])
def test_windows_are_those_of_pydicom(make_dicom, function, centre, width):
    values = np.arange(-2000, 4000, dtype=np.int16).reshape(60, 100)
    dataset = make_dicom(values, WindowCenter=str(centre), WindowWidth=str(width), VOILUTFunction=function)
    with np.errstate(over="ignore"):  # pydicom's sigmoid overflows to the right value
        oracle = apply_windowing(values, dataset)
    low, high = -(2**15), 2**15 - 1  # pydicom returns the range of the stored bits
    expected = (oracle - low) / (high - low) * 255
    assert np.abs(apply_window(values.astype(np.float32), centre, width, function) - expected).max() <= 0.51


def test_a_window_one_wide_is_a_threshold():
    values = np.array([9.0, 9.4, 9.5, 9.6, 10.0], np.float32)
    assert apply_window(values, 10, 1).tolist() == [0, 0, 0, 255, 255]


@pytest.mark.parametrize("width", ["0", "-5"])
def test_a_window_without_width_is_passed_over(make_dicom, dicom_bytes, ramp, width):
    image = read_image(dicom_bytes(make_dicom(ramp, WindowCenter="0", WindowWidth=width)), "a")
    assert image.window is None
    assert image.pixels.max() == 255


def _lookup_table(entries: np.ndarray, first: int, bits: int) -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [len(entries), first, bits]
    table.LUTData = entries.tobytes()
    table["LUTData"].VR = "OW"
    return table


def test_a_lookup_table_comes_before_the_window(make_dicom, dicom_bytes):
    values = np.arange(1000, 1016, dtype=np.uint16).reshape(4, 4)
    table = _lookup_table(np.arange(4095, 4095 - 12 * 300, -300, dtype=np.uint16), 1002, 12)
    dataset = make_dicom(values, VOILUTSequence=Sequence([table]), WindowCenter="8", WindowWidth="16")
    image = read_image(dicom_bytes(dataset), "a")
    oracle = apply_voi_lut(values, pydicom.dcmread(io.BytesIO(dicom_bytes(dataset))))
    np.testing.assert_array_equal(image.pixels[..., 0], np.rint(oracle / 4095 * 255))
    assert image.window is None


@pytest.mark.parametrize("entry", [np.uint8, np.uint16])
def test_values_beyond_a_lookup_table_take_its_ends(make_dicom, dicom_bytes, entry):
    values = np.array([[-30000, -1, 0], [1, 15, 30000]], np.int16)
    table = _lookup_table(np.arange(16, dtype=entry) * 17, 0, 8)
    pixels = read_image(dicom_bytes(make_dicom(values, VOILUTSequence=Sequence([table]))), "a").pixels[..., 0]
    assert pixels.tolist() == [[0, 0, 0], [17, 255, 255]]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_table_that_begins_below_zero_meets_unsigned_pixels_with_a_negative_intercept(
    make_dicom, dicom_bytes, syntax
):
    values = np.arange(0, 2016, 12, dtype=np.uint16).reshape(12, 14)
    table = _lookup_table(np.arange(2016, dtype=np.uint16) * 32, -1024, 16)
    table["LUTDescriptor"].VR = "SS"
    dataset = make_dicom(values, VOILUTSequence=Sequence([table]), RescaleIntercept=-1024, RescaleSlope=1)
    dataset.file_meta.TransferSyntaxUID = syntax
    pixels = read_image(dicom_bytes(dataset), "a").pixels[..., 0]
    assert np.abs(pixels - values * 32 / 65535 * 255).max() <= 0.51


@pytest.mark.parametrize(("first", "shown"), [(40000, [0, 0, 0, 255]), (50000, [0, 0, 0, 0])])
def test_a_table_that_begins_high_stays_high_where_values_lie_there_or_nowhere_near_it(
    make_dicom, dicom_bytes, first, shown
):
    values = np.array([[0, 100], [40000, 40015]], np.uint16)
    table = _lookup_table(np.arange(16, dtype=np.uint16) * 17, first, 8)
    pixels = read_image(dicom_bytes(make_dicom(values, VOILUTSequence=Sequence([table]))), "a").pixels[..., 0]
    assert pixels.ravel().tolist() == shown


def _with_texts(dataset: Dataset, dicom_bytes, **texts: str) -> bytes:
    """Return the file with texts where its elements hold numbers as long as these."""
    content = dicom_bytes(dataset)
    for keyword, text in texts.items():
        number = str(dataset[keyword].value).encode()
        assert content.count(number) == 1
        content = content.replace(number, text.encode())
    return content


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_decimal_comma_is_a_point(make_dicom, dicom_bytes, ramp, syntax):
    numbers = {"WindowCenter": "1024.5", "WindowWidth": "2048.5", "RescaleSlope": "1.53", "RescaleIntercept": "-333.5"}
    dataset = make_dicom(ramp, **numbers, PixelSpacing=["0.25", "0.51"])
    dataset.file_meta.TransferSyntaxUID = syntax
    with_points = dicom_bytes(dataset)
    texts = {keyword: text.replace(".", ",") for keyword, text in numbers.items()}
    with_commas = _with_texts(dataset, dicom_bytes, **texts).replace(b"0.25\\0.51", b"0,25\\0,51")
    shown, expected = read_image(with_commas, "a"), read_image(with_points, "a")
    np.testing.assert_array_equal(shown.pixels, expected.pixels)
    assert shown.window == (1024.5, 2048.5)
    assert shown.spacing == expected.spacing == (0.25, 0.51)


@pytest.mark.parametrize("text", ["1,024,5", "wide", "1,02.5"])
def test_a_window_that_is_no_number_is_passed_over_and_a_slope_is_not(make_dicom, dicom_bytes, ramp, text):
    number = "1024567"[: len(text)]
    dataset = make_dicom(ramp, WindowCenter=number, WindowWidth="400")
    image = read_image(_with_texts(dataset, dicom_bytes, WindowCenter=text), "a")
    assert image.window is None
    np.testing.assert_array_equal(image.pixels[..., 0], _scaled(ramp, 0, 3990))
    sloping = make_dicom(ramp, RescaleSlope=number)
    assert _refusal(_with_texts(sloping, dicom_bytes, RescaleSlope=text)).code == "damaged"


def test_a_modality_table_is_applied(make_dicom, dicom_bytes):
    values = np.arange(4, dtype=np.uint8).reshape(2, 2)
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 16], np.array([0, 1000, 10, 500], np.uint16).tobytes()
    table["LUTData"].VR = "OW"
    table.ModalityLUTType = "US"
    dataset = make_dicom(values, ModalityLUTSequence=Sequence([table]))
    expected = _scaled(apply_modality_lut(values, dataset), 0, 1000)
    np.testing.assert_array_equal(read_image(dicom_bytes(dataset), "a").pixels[..., 0], expected)


def test_padding_around_the_image_does_not_take_the_range(make_dicom, dicom_bytes):
    values = np.array([[-2000, -2000, 0], [50, 75, 100]], np.int16)
    dataset = make_dicom(values, PixelPaddingValue=-2000)
    dataset["PixelPaddingValue"].VR = "SS"
    pixels = read_image(dicom_bytes(dataset), "a").pixels[..., 0]
    assert pixels.tolist() == [[0, 0, 0], [128, 191, 255]]


def test_signed_pixels_keep_their_sign(make_dicom, dicom_bytes):
    values = np.array([[-100, 0], [100, 300]], np.int16)
    pixels = read_image(dicom_bytes(make_dicom(values)), "a").pixels[..., 0]
    np.testing.assert_array_equal(pixels, _scaled(values, -100, 300))


def test_colour_comes_as_it_is_stored(make_dicom, dicom_bytes, colours):
    image = read_image(dicom_bytes(make_dicom(colours)), "a")
    np.testing.assert_array_equal(image.pixels, colours)
    assert not image.greyscale


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm"),
        ("SC_rgb_rle_16bit.dcm", "SC_rgb_rle.dcm"),
        ("SC_rgb_rle_32bit.dcm", "SC_rgb_rle.dcm"),
        ("SC_rgb_gdcm_KY.dcm", "SC_rgb_rle.dcm"),
    ],
)
def test_one_image_in_several_transfer_syntaxes_gives_the_same_pixels(name, reference):
    one, other = (read_image((BUNDLED / file).read_bytes(), file) for file in (name, reference))
    difference = np.abs(one.pixels.astype(int) - other.pixels)
    assert difference.max() <= 1
    assert one.patient == other.patient


def test_a_palette_becomes_its_colours():
    image = read_image((BUNDLED / "examples_palette.dcm").read_bytes(), "palette")
    dataset = pydicom.dcmread(BUNDLED / "examples_palette.dcm")
    oracle = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset)
    full = 2 ** dataset.RedPaletteColorLookupTableDescriptor[2] - 1
    np.testing.assert_array_equal(image.pixels, np.rint(oracle / full * 255).astype(np.uint8))
    assert not image.greyscale


def test_ct_values_follow_rescale():
    image = read_image((BUNDLED / "CT_small.dcm").read_bytes(), "ct")
    dataset = pydicom.dcmread(BUNDLED / "CT_small.dcm")
    values = apply_modality_lut(dataset.pixel_array, dataset)
    np.testing.assert_array_equal(image.pixels[..., 0], _scaled(values, values.min(), values.max()))


def test_files_without_preamble_are_known_by_their_first_element(make_dicom, dicom_bytes, ramp):
    whole = dicom_bytes(make_dicom(ramp))
    np.testing.assert_array_equal(read_image(whole[132:], "IM00001").pixels, read_image(whole, "a").pixels)


def _refusal(data: bytes, name: str = "scan.dcm") -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        read_image(data, name)
    with pytest.raises(UnreadableImage):
        check_image(data, name)
    return caught.value


def test_a_file_without_pixels_says_what_it_is(make_dicom, dicom_bytes):
    report = "1.2.840.10008.5.1.4.1.1.88.22"
    for uid, kind in {
        report: "a structured report",
        "1.2.840.10008.5.1.4.1.1.88.59": "a list of key images",
        "1.2.840.10008.5.1.4.1.1.11.1": "a presentation state",
        "1.2.840.10008.5.1.4.1.1.481.3": "radiotherapy contours",
        "1.2.840.10008.5.1.4.1.1.104.1": "a document",
        "1.2.840.10008.5.1.4.1.1.66": "raw data",
        "1.2.840.10008.5.1.4.1.1.66.1": "a registration",
    }.items():
        error = _refusal(dicom_bytes(make_dicom(None, SOPClassUID=uid)))
        assert (error.what, error.code) == (f"The DICOM file holds no image (it is {kind})", "no-pixels")
    other = dicom_bytes(make_dicom(None, SOPClassUID="1.2.3", Modality="SR"))
    assert _refusal(other).what == "The DICOM file holds no image (it is a structured report)"
    assert _refusal(dicom_bytes(make_dicom(None))).what == "The DICOM file describes an image but holds no pixels"


def test_a_header_that_lost_its_pixels_is_told_from_a_report(make_dicom, dicom_bytes, ramp):
    dataset = make_dicom(ramp)
    del dataset.PixelData
    error = _refusal(dicom_bytes(dataset))
    assert (error.what, error.code) == ("The DICOM file describes an image but holds no pixels", "no-pixels")


def test_frames_that_are_not_there_are_missed_by_their_number(make_dicom, dicom_bytes):
    error = _refusal(dicom_bytes(make_dicom(np.zeros((4, 4), np.uint8), NumberOfFrames="12")))
    assert (error.code, error.seen) == ("truncated", "scan.dcm, frame 7 of 12")


def test_an_unknown_count_of_channels_is_refused(make_dicom, dicom_bytes):
    error = _refusal(dicom_bytes(make_dicom(np.zeros((4, 4, 5), np.uint8))))
    assert "5 channels" in error.what
    assert error.code == "channels"


def test_a_file_cut_short_is_called_so(make_dicom, dicom_bytes, ramp):
    assert _refusal(dicom_bytes(make_dicom(ramp))[:-300]).code == "truncated"


def test_a_huge_image_is_refused_before_it_is_decoded(make_dicom, dicom_bytes):
    dataset = make_dicom(np.zeros((4, 4), np.uint8), Rows=20_000, Columns=20_000)
    error = _refusal(dicom_bytes(dataset))
    assert error.code == "too-large"
    assert f"{MAX_PIXELS // 1_000_000} megapixels" in error.what


def test_an_unreadable_compression_is_named():
    error = _refusal((BUNDLED / "JPGExtended.dcm").read_bytes())
    assert JPEGExtended12Bit.name in error.what


def test_patients_are_told_apart_and_never_named(make_dicom, dicom_bytes, ramp):
    first = read_image(dicom_bytes(make_dicom(ramp, PatientID="4711")), "a").patient
    again = read_image(dicom_bytes(make_dicom(ramp + 1, PatientID=" 4711 ")), "b").patient
    other = read_image(dicom_bytes(make_dicom(ramp, PatientID="4712")), "c").patient
    nobody = read_image(dicom_bytes(make_dicom(ramp, PatientID="")), "d").patient
    assert first == again != other
    assert nobody is None
    assert first is not None
    assert len(first) == 12
    assert "4711" not in first


def test_errors_quote_nothing_of_the_header(make_dicom, dicom_bytes, ramp):
    data = dicom_bytes(make_dicom(ramp, PatientID="SECRET-4711", PatientName="Doe^Jane"))
    for cut in range(200, len(data) - 1, 40):
        shown = "".join(traceback.format_exception(_refusal(data[:cut])))
        assert "SECRET" not in shown
        assert "Doe" not in shown


def test_a_deflated_file_that_inflates_beyond_reason_is_refused(make_dicom, dicom_bytes, ramp, monkeypatch):
    dataset = make_dicom(np.zeros((600, 600), np.uint16))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = dicom_bytes(dataset)
    assert not read_image(data, "a").pixels.any()
    monkeypatch.setattr("wara.imaging.dicom_inflate.MOST_BYTES", 100_000)
    assert _refusal(data).code == "too-large"


def test_a_deflated_bomb_is_refused_whatever_lengths_it_states_and_for_its_header_alone(
    make_dicom, dicom_bytes, monkeypatch
):
    dataset = make_dicom(np.zeros((600, 600), np.uint16), PatientID="SECRET-4711")
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = dicom_bytes(dataset)
    lying = data[:140] + b"\x02\0\0\0" + data[144:]  # the length of the file meta group
    assert header_identifiers(data, "a") != Identifiers()
    monkeypatch.setattr("wara.imaging.dicom_inflate.MOST_BYTES", 100_000)
    for bomb in (data, lying):
        assert _refusal(bomb).code == "too-large"
        assert header_identifiers(bomb, "a") == Identifiers()
        with pytest.raises(UnreadableImage) as caught:
            clean(bomb, "a")
        assert caught.value.code == "too-large"


def test_a_damaged_deflated_file_has_no_identifiers_and_is_refused(make_dicom, dicom_bytes, ramp):
    dataset = make_dicom(ramp)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = dicom_bytes(dataset)
    damaged = data[:-40] + bytes(40)
    at = 144 + int.from_bytes(data[140:144], "little")
    for bad in (damaged, data[:at] + b"\xff" * 60):
        assert header_identifiers(bad, "a") == Identifiers()
        with pytest.raises(UnreadableImage):
            clean(bad, "a")


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        ("(0002,0010)", b"UI", b"1.2.840.10008.1.2.1\\1.2"),
        ("(0028,0010)", b"UL", b"\x10\x00"),
        ("(0010,0020)", b"FL", b"4711-1"),
    ],
)
def test_a_header_value_of_the_wrong_shape_is_refused_in_words(make_dicom, dicom_bytes, ramp, tag, vr, value):
    data = dicom_bytes(make_dicom(ramp, PatientID="4711-1"))
    group, element = (int(part, 16) for part in tag.strip("()").split(","))
    at = data.index(group.to_bytes(2, "little") + element.to_bytes(2, "little"))
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    value = value.ljust(len(value) + len(value) % 2, b"\0")
    bad = data[: at + 4] + vr + len(value).to_bytes(2, "little") + value + data[at + 8 + length :]
    for task in (read_image, header_identifiers, clean):
        try:
            task(bad, "a")
        except UnreadableImage as error:
            assert error.what.startswith("The DICOM file")
