from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.wara.imaging.files import png, tiff
from wara.errors import UnreadableImage
from wara.imaging import check_image, fit_square, read_image, read_square


@pytest.mark.parametrize(
    ("format_", "options", "name"),
    [
        ("PNG", {}, "PNG"),
        ("BMP", {}, "BMP"),
        ("TIFF", {}, "TIFF"),
        ("TIFF", {"compression": "tiff_lzw"}, "TIFF"),
        ("TIFF", {"compression": "tiff_deflate"}, "TIFF"),
        ("WEBP", {"lossless": True}, "WebP"),
    ],
)
def test_lossless_formats_come_back_as_they_were(encode, colours, format_, options, name):
    image = read_image(encode(colours, format_, **options), "a")
    np.testing.assert_array_equal(image.pixels, colours)
    assert image.pixels.dtype == np.uint8
    assert (image.format, image.width, image.height, image.bits, image.greyscale) == (name, 53, 37, 8, False)
    assert image.window is None
    assert image.patient is None


def test_a_jpeg_is_decoded_as_pillow_decodes_it(encode, colours):
    data = encode(colours, "JPEG", quality=90)
    np.testing.assert_array_equal(read_image(data, "a.jpg").pixels, np.asarray(Image.open(io.BytesIO(data))))


def test_the_content_decides_and_not_the_name(encode, colours):
    assert read_image(encode(colours, "JPEG"), "a.png").format == "JPEG"
    assert read_image(encode(colours, "PNG"), "no-suffix").format == "PNG"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_orientation_of_the_camera_is_applied(encode, format_, orientation):
    upright = Image.new("RGB", (40, 24), (0, 0, 0))
    upright.paste((255, 0, 0), (0, 0, 10, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(upright, format_, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    image = read_image(data, "a")
    np.testing.assert_array_equal(image.pixels, expected)
    assert (image.height, image.width) == ((40, 24) if orientation >= 5 else (24, 40))
    assert image.pixels.shape[:2] == (image.height, image.width)


def test_an_orientation_that_does_not_exist_leaves_the_image_as_it_is(encode, colours):
    exif = Image.Exif()
    exif[0x0112] = 99
    np.testing.assert_array_equal(read_image(encode(colours, "PNG", exif=exif), "a").pixels, colours)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_sixteen_bit_greyscale_is_scaled_by_its_own_range(encode, format_):
    values = np.linspace(1000, 5000, 30 * 20).reshape(20, 30).astype(np.uint16)
    image = read_image(encode(Image.fromarray(values), format_), "a")
    expected = np.rint((values.astype(float) - 1000) / 4000 * 255)
    assert np.abs(image.pixels[..., 0] - expected).max() <= 1
    assert (image.pixels.min(), image.pixels.max()) == (0, 255)
    assert image.greyscale
    assert image.bits == 16


def test_float_greyscale_is_scaled_and_what_is_no_number_becomes_black(encode):
    values = np.linspace(-2, 3, 12, dtype=np.float32).reshape(3, 4)
    values[0, 1], values[1, 1] = np.nan, np.inf
    image = read_image(encode(Image.fromarray(values), "TIFF"), "a.tif")
    assert image.pixels[0, 1].tolist() == [0, 0, 0]
    assert image.pixels[0, 0].tolist() == [0, 0, 0]
    assert image.pixels[2, 3].tolist() == [255, 255, 255]
    assert image.bits == 32


def test_a_flat_sixteen_bit_image_becomes_black(encode):
    assert not read_image(encode(Image.fromarray(np.full((4, 4), 900, np.uint16)), "PNG"), "a").pixels.any()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_white_is_zero_is_inverted(bits):
    white_is_zero, black_is_zero = _tiff(1, bits=bits, photometric=0), _tiff(1, bits=bits, photometric=1)
    straight = read_image(black_is_zero, "a.tif").pixels
    assert straight.min() < straight.max()
    np.testing.assert_array_equal(read_image(white_is_zero, "a.tif").pixels, 255 - straight)


@pytest.mark.parametrize("compressed", [False, True])
def test_large_unsigned_and_negative_whole_numbers_of_a_tiff_keep_their_order(compressed):
    steps = np.arange(256).reshape(8, 32)
    for values in ((steps * 16_000_000).astype(np.uint32), (steps - 128).astype(np.int8), steps.astype(np.int32) - 99):
        image = read_image(tiff(values, compressed=compressed), "a.tif")
        assert np.abs(image.pixels[..., 0].astype(int) - steps).max() <= 1
        assert image.greyscale


def test_one_bit_images_become_black_and_white(encode):
    image = read_image(encode(Image.fromarray(np.eye(9, dtype=bool)), "PNG"), "a")
    np.testing.assert_array_equal(image.pixels[..., 1], np.eye(9, dtype=np.uint8) * 255)
    assert (image.bits, image.greyscale) == (1, True)


def test_transparency_is_laid_over_black(encode):
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[..., 0], pixels[0, :, 3], pixels[1, :, 3] = 200, 255, [0, 51, 255]
    image = read_image(encode(pixels, "PNG"), "a.png")
    np.testing.assert_array_equal(image.pixels[0, :, 0], [200, 200, 200])
    np.testing.assert_allclose(image.pixels[1, :, 0], [0, 40, 200], atol=1)
    grey = np.dstack([np.full((2, 2), 100, np.uint8), np.array([[0, 255], [255, 0]], np.uint8)])
    np.testing.assert_array_equal(read_image(encode(grey, "PNG"), "a").pixels[..., 2], [[0, 100], [100, 0]])


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_see_through_grey_becomes_black(bits):
    most = 2**bits - 1
    values = np.array([[0, most, most, 0], [most, 0, most, most]], np.uint16)
    image = read_image(png(values, (b"tRNS", most.to_bytes(2, "big")), bits=bits), "a.png")
    assert not image.pixels.any()
    image = read_image(png(values, (b"tRNS", b"\0\0"), bits=bits), "a.png")
    assert set(np.unique(image.pixels)) == ({0, 255} if bits < 16 else {0})


def test_a_see_through_grey_of_four_or_sixteen_bits_hides_itself_alone():
    values = np.arange(16, dtype=np.uint16).reshape(2, 8)
    expected = np.where(values == 9, 0, values * 17)
    shown = read_image(png(values, (b"tRNS", b"\0\x09"), bits=4), "a.png")
    np.testing.assert_array_equal(shown.pixels[..., 0], expected)
    values = np.array([[1000, 1500, 65535], [2000, 65535, 1000]], np.uint16)
    shown = read_image(png(values, (b"tRNS", b"\xff\xff")), "a.png")
    np.testing.assert_array_equal(shown.pixels[..., 0], [[0, 128, 0], [255, 0, 0]])


def test_a_palette_becomes_its_colours_and_its_transparent_entry_black(encode):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    assert read_image(encode(image, "PNG"), "a").pixels.tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert read_image(encode(image, "PNG", transparency=1), "a").pixels.tolist() == [[[10, 20, 30], [0, 0, 0]]]


def test_cmyk_becomes_rgb(encode):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for format_ in ("TIFF", "JPEG"):
        red, green, blue = read_image(encode(image, format_), "a").pixels[4, 4].tolist()
        assert red > 240
        assert green < 20
        assert blue < 20


def test_colour_files_that_are_grey_everywhere_are_called_grey(encode, colours):
    grey = np.repeat(colours[..., :1], 3, axis=2)
    assert read_image(encode(grey, "PNG"), "a").greyscale
    assert read_image(encode(Image.fromarray(colours[..., 0]), "PNG"), "a").greyscale
    grey[20, 31, 2] ^= 1  # a single pixel, off the coarse grid that is looked at first
    image = read_image(encode(grey, "PNG"), "a")
    assert not image.greyscale
    np.testing.assert_array_equal(image.pixels, grey)


def _refusal(data: bytes, name: str = "scan.png") -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        read_image(data, name)
    with pytest.raises(UnreadableImage) as checked:
        check_image(data, name)
    assert checked.value.code == caught.value.code
    assert caught.value.seen is not None
    assert name in caught.value.seen
    return caught.value


def test_a_text_file_named_png_is_called_a_text_file():
    for text in (b"Findings: none.\n", "Befund: Schatten rechts, größer\n".encode(), "\ufeffa".encode("utf-16")):
        error = _refusal(text)
        assert (error.what, error.code) == ("The file is a text file, not an image", "not-an-image")


@pytest.mark.parametrize("size", [9, 50, 99])
@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_a_file_that_is_cut_short_is_called_so(encode, colours, format_, size):
    data = encode(colours, format_)
    error = _refusal(data[: len(data) * size // 100])
    assert (error.what, error.code) == (f"The {format_} file is cut short", "truncated")


def test_an_empty_file_is_called_empty():
    assert _refusal(b"").code == "empty-file"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"GIF89a" + bytes(40), "a GIF image"),
        (b"%PDF-1.7\n\xff\xff" + bytes(40), "a PDF document"),
        (b"PK\x03\x04" + bytes(40), "a zip archive"),
        (bytes(344) + b"n+1\0", "a NIfTI volume"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(40), "a HEIC or AVIF photo"),
    ],
)
def test_other_kinds_of_files_are_named(data, what):
    assert what in _refusal(data).what


def test_a_damaged_file_is_called_damaged(encode, colours):
    data = bytearray(encode(colours, "PNG"))
    data[60:90] = bytes(30)
    assert _refusal(bytes(data)).code == "damaged"


@pytest.mark.parametrize("channels", [5, 7, 12])
def test_a_tiff_of_an_unknown_count_of_channels_says_how_many(channels):
    error = _refusal(_tiff(channels), "stain.tif")
    assert error.code == "channels"
    assert f"The image has {channels} channels" in error.what


def _tiff(channels: int, bits: int = 8, photometric: int = 2) -> bytes:
    """Return a minimal 2x2 TIFF, by hand: no library here writes files of such channels and tags."""
    pixels = bytes(range(4 * channels * bits // 8))
    depths = struct.pack(f"<{channels}H", *[bits] * channels)
    place = 8 + len(pixels) if channels > 2 else bits  # up to two values stand in the entry itself
    entries = [
        (256, 3, 1, 2), (257, 3, 1, 2), (258, 3, channels, place), (259, 3, 1, 1), (262, 3, 1, photometric),
        (273, 4, 1, 8), (277, 3, 1, channels), (278, 3, 1, 2), (279, 4, 1, len(pixels)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels) + len(depths)) + pixels + depths + directory + bytes(4)


def test_several_pages_are_refused_and_thumbnails_are_not(encode, colours):
    pages = encode(Image.fromarray(colours), "TIFF", save_all=True, append_images=[Image.fromarray(colours)])
    error = _refusal(pages, "stack.tif")
    assert (error.what.split(";")[0], error.code) == ("The file has 2 pages", "multi-frame")
    thumbnail = Image.fromarray(colours[::4, ::4].copy())
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    with_thumbnail = encode(Image.fromarray(colours), "TIFF", save_all=True, append_images=[thumbnail])
    np.testing.assert_array_equal(read_image(with_thumbnail, "a.tif").pixels, colours)


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_moving_pictures_are_refused(encode, colours, format_):
    other = Image.fromarray(255 - colours)
    data = encode(Image.fromarray(colours), format_, save_all=True, append_images=[other], lossless=True)
    assert "2 frames" in _refusal(data).what


def test_an_image_beyond_a_hundred_megapixels_is_refused_before_it_is_decoded():
    error = _refusal(_png_header(20_000, 20_000))
    assert error.code == "too-large"
    assert _refusal(_png_header(10_001, 10_000)).seen == "scan.png: 10001 x 10000 pixels"


def test_an_image_without_width_is_refused():
    assert _refusal(_png_header(0, 5)).code in ("no-pixels", "damaged", "truncated")


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return start + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_a_large_jpeg_is_read_at_a_reduced_scale_that_still_oversamples(encode):
    ramp = np.linspace(0, 255, 1600, dtype=np.uint8)
    large = np.dstack([np.tile(ramp, (1200, 1)), np.tile(ramp[::-1], (1200, 1)), np.full((1200, 1600), 90, np.uint8)])
    data = encode(large, "JPEG", quality=95)
    square, image = read_square(data, "a.jpg", 100, "stretch")
    assert (image.width, image.height) == (1600, 1200)
    assert 200 <= min(image.pixels.shape[:2]) < 1200
    exact = np.asarray(Image.fromarray(large).resize((100, 100), Image.Resampling.BICUBIC))
    assert np.abs(square.astype(int) - exact).mean() < 1.5


def test_the_square_is_that_of_read_and_fit(encode, colours):
    data = encode(colours, "PNG")
    np.testing.assert_array_equal(read_square(data, "a", 24)[0], fit_square(read_image(data, "a").pixels, 24))
    grey = encode(colours[..., 0], "PNG")
    square = read_square(grey, "a", 24)[0]
    assert square.shape == (24, 24)
    np.testing.assert_array_equal(square, fit_square(read_image(grey, "a").pixels, 24)[..., 0])
