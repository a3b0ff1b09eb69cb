"""Frames, windows, functional groups, colours and palettes of DICOM files made here, against pydicom's functions."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, convert_color_space
from pydicom.sequence import Sequence

from wara.errors import InputError, UnreadableImage
from wara.imaging import DicomView, check_images, read_image, read_squares
from wara.imaging.dicom_colour import ybr_to_rgb
from wara.imaging.dicom_tables import read_segmented, read_table


def _stack(make_dicom, frames: np.ndarray, **elements) -> Dataset:
    dataset = make_dicom(frames[0], NumberOfFrames=str(len(frames)), **elements)
    dataset.PixelData = frames.tobytes()
    dataset["PixelData"].VR = "OW" if frames.dtype.itemsize == 2 else "OB"
    return dataset


def _group(**macros) -> Dataset:
    group = Dataset()
    for name, values in macros.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(group, name, Sequence([item]))
    return group


@pytest.fixture
def ramps() -> np.ndarray:
    return np.stack([np.arange(64, dtype=np.uint16).reshape(8, 8) + 100 * number for number in range(4)])


@pytest.mark.parametrize(("view", "number"), [("first", 1), ("middle", 3), ("all", 3)])
def test_one_frame_is_chosen_by_the_view(make_dicom, dicom_bytes, ramps, view, number):
    data = dicom_bytes(_stack(make_dicom, ramps, WindowCenter="200", WindowWidth="400"))
    image = read_image(data, "a", DicomView(view))
    assert (image.frame, image.frames) == (number, 4)
    np.testing.assert_array_equal(image.pixels, read_image(data, "a", frame=number).pixels)
    assert not np.array_equal(image.pixels, read_image(data, "a", frame=2).pixels)


def test_all_frames_come_one_by_one_from_one_reading(make_dicom, dicom_bytes, ramps, monkeypatch):
    import pydicom

    data = dicom_bytes(_stack(make_dicom, ramps))
    read, whole = [], pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **options: (read.append(1), whole(*args, **options))[1])
    assert [image.frame for _, image in read_squares(data, "a", 8, view=DicomView("all"))] == [1, 2, 3, 4]
    assert len(read) == 1
    assert [image.frame for image in check_images(data, "a", DicomView("all"), frame=2)] == [2]


def test_a_frame_that_is_not_there_is_refused(make_dicom, dicom_bytes, ramps, encode, colours):
    for data in (dicom_bytes(_stack(make_dicom, ramps)), encode(colours, "PNG")):
        with pytest.raises(UnreadableImage, match="frame number 5") as caught:
            read_image(data, "a", frame=5)
        assert caught.value.code == "frame-missing"


def test_the_chosen_window_is_applied_and_a_missing_one_refused(make_dicom, dicom_bytes, ramps):
    data = dicom_bytes(make_dicom(ramps[0], WindowCenter=["20", "40"], WindowWidth=["10", "60"]))
    assert read_image(data, "a").window == (20, 10)
    assert read_image(data, "a", DicomView(window=2)).window == (40, 60)
    with pytest.raises(UnreadableImage, match="no window number 3") as caught:
        read_image(data, "a", DicomView(window=3))
    assert (caught.value.code, caught.value.seen) == ("window-missing", "a: it has 2")
    with pytest.raises(UnreadableImage, match="it has none"):
        read_image(dicom_bytes(make_dicom(ramps[0])), "a", DicomView(window=2))


def test_functional_groups_of_a_frame_go_before_the_shared_ones_and_the_file(make_dicom, dicom_bytes, ramps):
    shared = _group(
        PixelValueTransformationSequence={"RescaleSlope": "2", "RescaleIntercept": "0"},
        PixelMeasuresSequence={"PixelSpacing": ["0.5", "0.75"]},
        FrameVOILUTSequence={"WindowCenter": "100", "WindowWidth": "200"},
    )
    own = [Dataset(), _group(
        PixelValueTransformationSequence={"RescaleSlope": "1", "RescaleIntercept": "-100"},
        PixelMeasuresSequence={"PixelSpacing": ["0.25", "0.25"]},
        FrameVOILUTSequence={"WindowCenter": ["10", "32"], "WindowWidth": ["20", "64"]},
    )]  # fmt: skip
    data = dicom_bytes(_stack(
        make_dicom, ramps, SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(own), WindowCenter="1", WindowWidth="1", PixelSpacing=["9", "9"],
    ))  # fmt: skip
    first, second, third = (read_image(data, "a", DicomView(window=1), frame=number) for number in (1, 2, 3))
    assert (first.window, first.spacing) == ((100, 200), (0.5, 0.75))
    assert (second.window, second.spacing) == ((10, 20), (0.25, 0.25))
    assert (third.window, third.spacing) == ((100, 200), (0.5, 0.75))
    plain = make_dicom(ramps[1], RescaleSlope="1", RescaleIntercept="-100", WindowCenter="32", WindowWidth="64")
    np.testing.assert_array_equal(
        read_image(data, "a", DicomView(window=2), frame=2).pixels, read_image(dicom_bytes(plain), "a").pixels
    )


@pytest.mark.parametrize(("elements", "spacing"), [
    ({"PixelSpacing": ["0.5", "0.25"], "ImagerPixelSpacing": ["1", "1"]}, (0.5, 0.25)),
    ({"ImagerPixelSpacing": ["0.1", "0.2"]}, (0.1, 0.2)),
    ({"PixelSpacing": ["0", "0"], "NominalScannedPixelSpacing": ["0.3", "0.3"]}, (0.3, 0.3)),
    ({"PixelSpacing": "0.5"}, None),
    ({}, None),
])  # fmt: skip
def test_spacing_is_kept_where_it_can_be(make_dicom, dicom_bytes, ramps, elements, spacing):
    assert read_image(dicom_bytes(make_dicom(ramps[0], **elements)), "a").spacing == spacing


@pytest.mark.parametrize("frames", ["last", "", 3])
def test_an_unknown_choice_of_frames_is_refused(frames):
    with pytest.raises(InputError, match="first, middle, all") as caught:
        DicomView(frames).validate()
    assert caught.value.code == "dicom-frames"


@pytest.mark.parametrize("window", [0, 65, True, "1", 1.5])
def test_a_window_that_is_no_number_from_1_is_refused(window):
    with pytest.raises(InputError) as caught:
        DicomView(window=window).validate()
    assert caught.value.code == "dicom-window"


@pytest.mark.parametrize("colour", ["XYB", "HSV", "YBR_ICT", "MONOCHROME2"])
def test_colours_of_an_unknown_meaning_are_refused(make_dicom, dicom_bytes, colours, colour):
    with pytest.raises(UnreadableImage) as caught:
        read_image(dicom_bytes(make_dicom(colours, PhotometricInterpretation=colour)), "a")
    assert (caught.value.code, caught.value.seen) == ("photometric", f"a: {colour}")


def test_full_range_ybr_is_that_of_pydicom_at_8_bits_and_follows_at_16(make_dicom, dicom_bytes, colours):
    oracle = convert_color_space(colours, "YBR_FULL", "RGB").astype(int)
    assert np.abs(ybr_to_rgb(colours, 8) - oracle).max() <= 0.51
    image = read_image(dicom_bytes(make_dicom(colours, PhotometricInterpretation="YBR_FULL")), "a")
    np.testing.assert_array_equal(image.pixels, oracle)
    wide = make_dicom(colours.astype(np.uint16) * 256, PhotometricInterpretation="YBR_FULL")
    assert np.abs(read_image(dicom_bytes(wide), "a").pixels - oracle).max() <= 2


def test_partial_range_ybr_has_black_at_16_and_white_at_235(make_dicom, dicom_bytes):
    ybr = np.full((2, 4, 3), 128, np.uint8)
    ybr[:, :2, 0], ybr[:, 2:, 0] = 16, 235
    dataset = make_dicom(ybr, PhotometricInterpretation="YBR_PARTIAL_422")
    pairs = ybr.reshape(-1, 2, 3)  # stored as Y1 Y2 CB CR (C.7.6.3.1.2)
    dataset.PixelData = np.concatenate([pairs[:, :, 0], pairs[:, 0, 1:]], axis=1).tobytes()
    pixels = read_image(dicom_bytes(dataset), "a").pixels
    assert pixels[:, :2].max() <= 1
    assert pixels[:, 2:].min() >= 254


def _palette(make_dicom, stored: np.ndarray, bits: int, segmented: bool, words: np.ndarray, count: int) -> Dataset:
    dataset = make_dicom(stored, PhotometricInterpretation="PALETTE COLOR")
    for place, colour in enumerate(("Red", "Green", "Blue")):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [count, 0, bits])
        keyword = f"{'Segmented' if segmented else ''}{colour}PaletteColorLookupTableData"
        setattr(dataset, keyword, np.roll(words, 0 if segmented else place).tobytes())
        dataset[keyword].VR = "OW"
    return dataset


@pytest.mark.parametrize("segmented", [False, True])
def test_palettes_plain_and_in_segments_are_those_of_pydicom(make_dicom, dicom_bytes, segmented):
    stored = np.arange(16, dtype=np.uint8).reshape(4, 4)
    words = np.array([0, 3, 100, 200, 65535, 1, 7, 1000] if segmented else range(0, 60000, 6000), np.uint16)
    dataset = _palette(make_dicom, stored, 16, segmented, words, 10)
    pixels = read_image(dicom_bytes(dataset), "a").pixels
    assert np.abs(pixels - apply_color_lut(stored, dataset) / 65535 * 255).max() <= 0.51


def test_a_palette_of_8_bits_takes_values_of_16(make_dicom, dicom_bytes):
    stored = np.array([[0, 255], [256, 299]], np.uint16)
    words = (np.arange(300) % 256).astype(np.uint16)
    pixels = read_image(dicom_bytes(_palette(make_dicom, stored, 8, False, words, 300)), "a").pixels
    assert pixels[..., 0].tolist() == [[0, 255], [0, 43]]


def test_repeated_segments_are_found_by_their_byte():
    numbers = [0, 2, 5, 9, 1, 2, 3, 2, 2, 0, 0]  # two entries, a line of two, then both again from byte 0
    wide = read_segmented([8, 0, 16], np.array(numbers, "<u2").tobytes(), True)
    narrow = read_segmented([8, 0, 8], np.array([*numbers, 0, 0], "u1").tobytes(), True)
    assert wide.entries.tolist() == narrow.entries.tolist() == [5, 9, 6, 3, 5, 9, 6, 3]


@pytest.mark.parametrize("numbers", [[1, 3, 5], [7, 1, 1], [0, 1, 4, 2, 1, 6, 0, 2, 1, 0, 0], []])
def test_segments_that_break_the_rules_are_refused(numbers):
    with pytest.raises(ValueError, match=r"segment|repetition|without entries"):
        read_segmented([8, 0, 16], np.array(numbers, "<u2").tobytes(), True)


def test_packed_entries_are_read_in_the_order_of_bytes_of_the_file():
    assert read_table([4, 0, 8], bytes([1, 2, 3, 4]), True).entries.tolist() == [1, 2, 3, 4]
    assert read_table([4, 0, 8], bytes([2, 1, 4, 3]), False).entries.tolist() == [1, 2, 3, 4]
    assert read_table([2, 0, 16], bytes([1, 0, 0, 2]), False).entries.tolist() == [256, 2]
