from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian

from tests.wara.imaging.files import png, tiff
from wara.errors import InputError, UnreadableImage
from wara.imaging import read_image
from wara.imaging.mask import covered, mask
from wara.imaging.text_detector import Box
from wara.imaging.text_look import look_at

BOX = Box(8, 4, 32, 20)


def picture(mode: str, seed: int = 0, size: tuple[int, int] = (40, 48)) -> Image.Image:
    """Noise without any black, so that what was covered can be told from what was not."""
    noise = np.random.default_rng(seed).integers(60, 250, (*size, 4), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(noise[..., 0].astype(np.uint16) * 200 + noise[..., 1])
    if mode == "F":
        return Image.fromarray(noise[..., 0].astype(np.float32) / 7 - 5)
    if mode == "1":
        return Image.fromarray(noise[..., 0] > 0).convert("1")
    if mode == "P":
        return Image.fromarray(noise[..., :3]).quantize(64)
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
    return Image.fromarray(noise[..., 0] if channels == 1 else noise[..., :channels], mode)


LOSSLESS = [
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("TIFF", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "I;16", "F")),
    ("BMP", "L"), ("BMP", "RGB"), ("BMP", "P"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "mode"), LOSSLESS)
@given(
    boxes=st.lists(st.tuples(*(st.integers(-4, 52) for _ in range(4))).map(lambda b: Box(*b)), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_outside_nothing_changes_and_inside_nothing_of_it_is_left(kind, mode, boxes, seed, encode):
    content = encode(picture(mode, seed), kind)
    try:
        masked = mask(content, "a", boxes)
    except InputError as refused:
        assert refused.code == "mask-rectangle"
        return
    before, after = (np.asarray(Image.open(io.BytesIO(c))) for c in (content, masked))
    if mode == "P":
        before, after = (np.asarray(Image.open(io.BytesIO(c)).convert("RGB")) for c in (content, masked))
    inner = [Box(max(0, b.left), max(0, b.top), min(48, b.right), min(40, b.bottom)) for b in boxes]
    hidden = covered([b for b in inner if b.right > b.left and b.bottom > b.top], 48, 40)
    np.testing.assert_array_equal(after[~hidden], before[~hidden])
    assert Image.open(io.BytesIO(masked)).format == kind
    assert len(np.unique(after[hidden].reshape(hidden.sum(), -1), axis=0)) == 1
    shown = read_image(masked, "a").pixels
    assert shown[hidden].max() <= (shown[~hidden].min() if (~hidden).any() else 0)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("quality", [60, 92])
def test_a_jpeg_is_black_inside_and_the_same_outside_but_for_its_own_loss(mode, quality, encode):
    smooth = picture(mode, size=(64, 80)).resize((80, 64)).reduce(4).resize((80, 64), Image.Resampling.BICUBIC)
    content = encode(smooth, "JPEG", quality=quality)
    masked = mask(content, "a", [Box(10, 9, 30, 22)])
    before, after = read_image(content, "a").pixels.astype(int), read_image(masked, "a").pixels.astype(int)
    hidden = covered([Box(8, 8, 32, 24)], 80, 64)
    assert after[hidden].max() <= 2
    assert np.abs(after - before)[~hidden].max() <= (2 if mode == "L" else 12)
    assert np.abs(after - before)[~hidden].mean() < 1
    assert masked[:2] == b"\xff\xd8"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_rectangles_are_those_of_the_image_as_it_is_shown(orientation, kind, encode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(picture("L"), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    before = read_image(content, "a")
    after = read_image(mask(content, "a", [BOX]), "a")
    assert (after.width, after.height) == (before.width, before.height)
    hidden = covered([Box(8, 0, 32, 24) if kind == "JPEG" else BOX], before.width, before.height)
    assert after.pixels[hidden].max() <= 2
    difference = np.abs(after.pixels.astype(int) - before.pixels)[~hidden]
    assert difference.max() <= (12 if kind == "JPEG" else 0)


def test_what_stands_beside_the_picture_is_left_out(encode):
    exif = Image.Exif()
    exif[0x010E] = "DOE JANE"
    content = encode(picture("RGB"), "JPEG", exif=exif, comment=b"DOE JANE")
    assert b"DOE JANE" in content
    assert b"DOE JANE" not in mask(content, "a", [BOX])


def test_white_is_zero_and_webp_are_shown_as_before(encode):
    deep = encode(picture("I;16"), "TIFF", tiffinfo={262: 0})
    webp = encode(picture("RGBA"), "WEBP", lossless=True, exact=True)
    for content in (deep, webp):
        before, after = read_image(content, "a").pixels, read_image(mask(content, "a", [BOX]), "a").pixels
        hidden = covered([BOX], 48, 40)
        assert after[hidden].max() == 0
        np.testing.assert_array_equal(after[~hidden], before[~hidden])


def test_what_cannot_be_kept_or_covered_is_refused(encode):
    with pytest.raises(InputError) as refused:
        mask(encode(picture("L"), "PNG"), "a.png", [Box(60, 0, 70, 9)])
    assert refused.value.code == "mask-rectangle"
    with pytest.raises(UnreadableImage) as refused:
        mask(b"GIF89a", "a.gif", [BOX])
    deep_colour = b"\x89PNG\r\n\x1a\n" + _deep_png()
    with pytest.raises(UnreadableImage, match="16 bits") as refused:
        mask(deep_colour, "a.png", [BOX])
    assert refused.value.code == "mask-kind"


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.arange(1920, dtype=np.uint32).reshape(40, 48) * 2_000_000, "above 2,147,483,647"),
        ((np.arange(1920).reshape(40, 48) % 256 - 128).astype(np.int8), "have a sign"),
    ],
)
def test_grey_that_would_be_written_in_another_order_is_refused(values, what):
    with pytest.raises(UnreadableImage, match=what) as refused:
        mask(tiff(values), "a.tif", [BOX])
    assert refused.value.code == "mask-kind"
    small = tiff(np.arange(1920, dtype=np.uint32).reshape(40, 48))
    before, after = read_image(small, "a").pixels, read_image(mask(small, "a", [BOX]), "a").pixels
    hidden = covered([BOX], 48, 40)
    assert not after[hidden].any()
    np.testing.assert_array_equal(after[~hidden], before[~hidden])


@pytest.mark.parametrize("bits", [1, 4, 8, 16])
@pytest.mark.parametrize("key", [0, 1])
def test_a_see_through_grey_stays_so(bits, key):
    values = np.random.default_rng(0).integers(0, 2**bits, (40, 48)).astype(np.uint16)
    values[:, ::3] = key * (2**bits - 1)
    content = png(values, (b"tRNS", (key * (2**bits - 1)).to_bytes(2, "big")), bits=bits)
    before, after = read_image(content, "a").pixels, read_image(mask(content, "a", [BOX]), "a").pixels
    hidden = covered([BOX], 48, 40)
    assert not after[hidden].any()
    np.testing.assert_array_equal(after[~hidden], before[~hidden])


def _deep_png() -> bytes:
    """The chunks of a PNG with colours of 16 bits, which Pillow reads but cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(48 * 6) for _ in range(40))
    head = struct.pack(">IIBBBBB", 48, 40, 16, 2, 0, 0, 0)
    return chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# ---- DICOM -------------------------------------------------------------------------------------------------------


def stored(content: bytes) -> np.ndarray:
    return pydicom.dcmread(io.BytesIO(content)).pixel_array


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("slope", [1, -2])
def test_grey_dicom_gets_the_value_that_is_shown_darkest(photometric, dtype, slope, make_dicom, dicom_bytes):
    values = np.random.default_rng(1).integers(20, 120, (3, 40, 48)).astype(dtype)
    if dtype == np.int16:
        values -= 70
    values[:, 0, 0] = -100 if dtype == np.int16 else 0  # padding
    elements = {
        "NumberOfFrames": 3, "Rows": 40, "Columns": 48, "SamplesPerPixel": 1, "PhotometricInterpretation": photometric,
        "RescaleSlope": slope, "RescaleIntercept": 5, "PixelData": values.tobytes(),
    }  # fmt: skip
    dataset = make_dicom(values[0], **elements)
    dataset.add_new(0x00280120, "SS" if dtype == np.int16 else "US", int(values[0, 0, 0]))
    content = dicom_bytes(dataset)
    masked = mask(content, "a", [BOX, Box(-3, 30, 5, 99)])
    hidden = covered([BOX, Box(0, 30, 5, 40)], 48, 40)
    after = stored(masked)
    np.testing.assert_array_equal(after[:, ~hidden], values[:, ~hidden])
    for frame in range(3):
        assert len(np.unique(after[frame][hidden])) == 1
        before_shown = read_image(content, "a", frame=frame + 1).pixels
        shown = read_image(masked, "a", frame=frame + 1).pixels
        np.testing.assert_array_equal(shown[~hidden], before_shown[~hidden])
        assert shown[hidden].max() == shown[~hidden].min() == 0


def test_a_window_and_the_header_stay_and_only_a_settled_file_says_no(make_dicom, dicom_bytes):
    values = np.random.default_rng(1).integers(0, 4000, (40, 48)).astype(np.uint16)
    named = {"WindowCenter": 2000, "WindowWidth": 1000, "BurnedInAnnotation": "YES", "PixelSpacing": [0.5, 0.4]}
    content = dicom_bytes(make_dicom(values, **named))
    assert look_at(content, "a")[1] == "stated"
    masked = mask(content, "a", [BOX])
    assert look_at(masked, "a")[1] == "stated"
    settled = mask(content, "a", [BOX], settled=True)
    assert look_at(settled, "a")[1] == ""
    dataset = pydicom.dcmread(io.BytesIO(settled))
    assert (dataset.WindowCenter, dataset.PatientID, list(dataset.PixelSpacing)) == (2000, "4711", [0.5, 0.4])
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm", "examples_palette.dcm", "examples_ybr_color.dcm",
        "examples_rgb_color.dcm", "JPEG2000.dcm", "image_dfl.dcm", "SC_rgb_rle.dcm", "MR_small_implicit.dcm",
    ],
)  # fmt: skip
def test_files_of_many_kinds_are_shown_as_before_outside_and_black_inside(name):
    path = get_testdata_file(name)
    content = Path(str(path)).read_bytes()
    before = read_image(content, name)
    masked = mask(content, name, [BOX])
    after = read_image(masked, name)
    hidden = covered([BOX], before.width, before.height)
    np.testing.assert_array_equal(after.pixels[~hidden], before.pixels[~hidden])
    assert after.pixels[hidden].max() <= after.pixels[~hidden].min() + 3
    assert (after.frames, after.spacing, after.modality) == (before.frames, before.spacing, before.modality)


def test_small_copies_and_overlays_go(make_dicom, dicom_bytes):
    icon = pydicom.Dataset()
    icon.Rows, icon.Columns, icon.SamplesPerPixel, icon.PhotometricInterpretation = 2, 4, 1, "MONOCHROME2"
    icon.BitsAllocated = icon.BitsStored = 8
    icon.HighBit, icon.PixelRepresentation, icon.PixelData = 7, 0, b"DOE JANE"
    dataset = make_dicom(np.full((40, 48), 90, np.uint8), IconImageSequence=[icon])
    dataset.add_new(0x60003000, "OW", b"DOE JANE")
    content = dicom_bytes(dataset)
    assert content.count(b"DOE JANE") == 2
    assert b"DOE JANE" not in mask(content, "a", [BOX])


def test_dicom_that_cannot_be_written_again_is_refused(dicom_bytes, make_dicom):
    big = Path(str(get_testdata_file("MR_small_bigendian.dcm"))).read_bytes()
    with pytest.raises(UnreadableImage, match="big-endian"):
        mask(big, "a", [BOX])
    with pytest.raises(UnreadableImage):
        mask(dicom_bytes(make_dicom(np.zeros((40, 48), np.uint8)))[:-900], "a", [BOX])
    with pytest.raises(InputError) as refused:
        mask(dicom_bytes(make_dicom(np.zeros((40, 48), np.uint8))), "a", [Box(50, 0, 60, 5)])
    assert refused.value.code == "mask-rectangle"
