from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from wara.errors import UnreadableImage
from wara.imaging import read_image
from wara.imaging.code_streams import jpeg_head, strip_jpeg, strip_jpeg2000
from wara.imaging.deidentify import deidentify

SECRET = b"PLANTED"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int = 1) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010E] = block[0x013B] = "PLANTED SECRET"  # description, artist
    block[0x0132] = "2020:01:02 03:04:05"
    block.get_ifd(0x8825)[1] = "N"  # where it was taken
    block.get_ifd(0x8825)[29] = "PLANTED"
    return block.tobytes()


def planted(encode, colours: np.ndarray, kind: str, orientation: int) -> bytes:
    image = Image.fromarray(colours)
    match kind:
        case "JPEG":
            data = encode(image, kind, exif=exif(orientation), comment=b"PLANTED", icc_profile=PROFILE, quality=90)
            return data + SECRET
        case "PNG":
            text = PngImagePlugin.PngInfo()
            text.add_text("Patient", "PLANTED")
            text.add_itxt("Name", "PLANTED")
            text.add_text("Other", "PLANTED", zip=True)
            return encode(image, kind, pnginfo=text, exif=exif(orientation), icc_profile=PROFILE, dpi=(90, 90)) + SECRET
        case "WebP":
            return encode(image, "WEBP", exif=exif(orientation), xmp=b"<x>PLANTED</x>", icc_profile=PROFILE)
        case _:
            tags = Image.Exif()
            tags[0x0112] = orientation
            tags[0x013B] = tags[270] = tags[33432] = tags[305] = "PLANTED SECRET"
            tags.get_ifd(0x8825)[29] = "PLANTED"
            return encode(image, kind, exif=tags, icc_profile=PROFILE)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF"])
def test_metadata_goes_and_pixels_profile_and_orientation_stay(encode, colours, kind, orientation):
    data = planted(encode, colours, kind, orientation)
    assert SECRET in data
    kept = deidentify(data, "a")
    assert SECRET not in kept and b"2020:01" not in kept
    before, after = read_image(data, "a"), read_image(kept, "a")
    np.testing.assert_array_equal(after.pixels, before.pixels)
    assert (after.width, after.height) == ((53, 37) if orientation != 6 else (37, 53))
    with Image.open(io.BytesIO(kept)) as image:
        assert image.info.get("icc_profile") == PROFILE
        assert set(image.getexif()) - {0x0112} == set() or kind == "TIFF"
        assert not image.getexif().get_ifd(0x8825)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WebP", "BMP"])
def test_doing_it_twice_changes_nothing_more(encode, colours, kind):
    once = deidentify(encode(Image.fromarray(colours), kind), "a")
    assert deidentify(once, "a") == once


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_every_kind_of_png_and_tiff_looks_the_same(encode, colours, mode):
    image = Image.fromarray(colours).convert("L").convert("I").convert("I;16") if mode == "I;16" else (
        Image.fromarray(colours).convert(mode))  # fmt: skip
    for kind in ("PNG", "TIFF"):
        data = encode(image, kind)
        np.testing.assert_array_equal(read_image(deidentify(data, "a"), "a").pixels, read_image(data, "a").pixels)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("big", [False, True])
def test_every_compression_of_tiff_stays_as_it_is_coded(encode, colours, compression, big):
    data = encode(Image.fromarray(colours), "TIFF", compression=compression, big_tiff=big, software="PLANTED")
    kept = deidentify(data, "a")
    assert SECRET in data and SECRET not in kept
    np.testing.assert_array_equal(read_image(kept, "a").pixels, read_image(data, "a").pixels)


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": 0}])
def test_jpegs_of_several_scans_and_with_restarts_stay_as_they_are_coded(encode, colours, options):
    data = encode(Image.fromarray(colours), "JPEG", comment=b"PLANTED", **options)
    kept = deidentify(data, "a")
    assert SECRET not in kept
    np.testing.assert_array_equal(read_image(kept, "a").pixels, read_image(data, "a").pixels)


def test_a_jpeg_loses_the_thumbnail_of_its_header(encode, colours):
    data = encode(Image.fromarray(colours), "JPEG")
    size = struct.unpack_from(">H", data, 4)[0]
    header = data[6 : 4 + size][:-2] + bytes((1, 1)) + b"TMB"
    with_thumbnail = data[:4] + struct.pack(">H", len(header) + 2) + header + data[4 + size :]
    assert b"TMB" not in strip_jpeg(with_thumbnail)
    np.testing.assert_array_equal(read_image(strip_jpeg(with_thumbnail), "a").pixels, read_image(data, "a").pixels)


def test_comments_of_jpeg_2000_go(encode, colours):
    data = encode(Image.fromarray(colours), "JPEG2000", no_jp2=True, comment=b"PLANTED")
    kept = strip_jpeg2000(data)
    assert SECRET in data and SECRET not in kept
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(kept)) as after:
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))


def test_what_stands_behind_the_pixels_of_a_bmp_goes(encode, colours):
    data = encode(Image.fromarray(colours), "BMP")
    assert deidentify(data + SECRET, "a.bmp") == data


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_files_that_are_cut_short_are_still_named_so(encode, colours, kind, share):
    data = encode(Image.fromarray(colours), kind)
    cut = data[: int(len(data) * share)]
    with pytest.raises(UnreadableImage) as before:
        read_image(cut, "a")
    with pytest.raises(UnreadableImage) as after:
        read_image(deidentify(cut, "a"), "a")
    assert after.value.what == before.value.what


def test_a_tiff_whose_directory_is_damaged_is_refused():
    with pytest.raises(UnreadableImage, match="damaged"):
        deidentify(b"II*\0" + struct.pack("<I", 99999), "a.tif")


def test_an_orientation_is_found_behind_segments_that_hold_the_mark_of_a_picture(encode, colours):
    data = planted(encode, colours, "JPEG", 6)
    misleading = struct.pack(">BBH", 0xFF, 0xEC, 2 + 8) + b"ab\xff\xda\xff\xda cd"[:8]
    turned = data[:2] + misleading + b"\xff" + data[2:]
    assert jpeg_head(turned).count(b"\xff\xda") >= 2
    assert turned.startswith(jpeg_head(turned)) and turned[len(jpeg_head(turned)) :].startswith(b"\xff\xda")
    np.testing.assert_array_equal(
        read_image(deidentify(turned, "a"), "a").pixels, read_image(data, "a").pixels
    )


def test_where_segments_lead_nowhere_all_of_a_jpeg_is_its_head(encode, colours):
    data = planted(encode, colours, "JPEG", 1)
    for cut in range(2, len(jpeg_head(data)), 7):
        assert jpeg_head(data[:cut]) == data[:cut]
    assert jpeg_head(data[:2] + b"no marker" + data[2:]) == data[:2] + b"no marker" + data[2:]
