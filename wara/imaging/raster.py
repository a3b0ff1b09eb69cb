"""PNG, JPEG, TIFF, WebP and BMP to pixels, by Pillow."""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, TiffImagePlugin

from wara.errors import UnreadableImage
from wara.imaging.deep_colour import is_deep, show_deep
from wara.imaging.image import MAX_PIXELS, DecodedImage, Pixels, finite_range, is_grey, to_uint8

PILLOW_FORMATS = {"PNG": ["PNG"], "JPEG": ["JPEG", "MPO"], "TIFF": ["TIFF"], "WebP": ["WEBP"], "BMP": ["BMP"]}

# What Pillow's plugins raise on damaged files, as seen by cutting and altering good ones.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_DAMAGED = "Copy or export it again from where it came."
_CONVERT = "Export it as an 8-bit greyscale or RGB PNG."
_EXIF_ORIENTATION = 0x0112
# Smaller ones are decoded whole: thumbnails are made of these pixels, and decoding twice costs more than that saves.
_HALVED_AT_LEAST = 256
_TAG_BITS, _TAG_PHOTOMETRIC, _TAG_SAMPLES, _TAG_SUBFILE, _TAG_FORMAT = 258, 262, 277, 254, 339
_UNSIGNED, _SIGNED = 1, 2


def decode_raster(
    data: bytes, name: str, kind: str, at_least: int | None = None, *, half: bool = False
) -> DecodedImage:
    """Decode one raster image; ``pixels`` is (H, W) where the file holds one channel, else (H, W, 3).

    Args:
        data: the whole file.
        name: shown in errors.
        kind: the format that ``formats.sniff`` found.
        at_least: when given, a JPEG may be decoded at 1/2, 1/4 or 1/8 scale as long as its shorter side keeps
            this many pixels; decoding a large photograph is several times faster so.
        half: a JPEG may be decoded at 1/2 scale even where its shorter side then keeps fewer, but 256 pixels.

    Raises:
        UnreadableImage: damaged, cut short, too large, several pages, or channels that are not grey or colour.
    """
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS[kind]) as image:
            _check(image, name, kind)
            bits = _bits(image, data, kind)
            width, height = image.size
            if at_least is not None and kind == "JPEG":
                side = min(at_least, max(_HALVED_AT_LEAST, min(width, height) // 2)) if half else at_least
                image.draft(None, (max(1, side), max(1, side)))
            if is_deep(image, bits):
                pixels, grey = _one_channel_if_grey(show_deep(image, data, name, _upright))
            else:
                settle_transparency(image, bits)
                image.load()
                pixels, grey = _to_pixels(_upright(image), image)
            if read_orientation(image) in (5, 6, 7, 8):
                width, height = height, width
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        counted = re.search(r"(\d+) pixels", str(error))  # Pillow refuses before it tells width and height
        shown = f"{int(counted.group(1)) / 1e6:,.0f} megapixels" if counted else "too many pixels"
        raise _too_large(name, shown) from error
    except MemoryError as error:
        raise UnreadableImage(
            "The image does not fit into memory", seen=name, remedy="Export it smaller.", code="too-large"
        ) from error
    except _DECODER_ERRORS as error:
        raise _explain(error, data, name, kind) from error
    return DecodedImage(pixels, kind, width, height, bits, grey)


def _check(image: Image.Image, name: str, kind: str) -> None:
    """Refuse, before decoding, what must not or cannot be decoded."""
    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableImage(
            "The image has no pixels", seen=f"{name}: {width} x {height}", remedy=_DAMAGED, code="no-pixels"
        )
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} x {height} pixels")
    if kind == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        _check_channels(int(tags.get(_TAG_SAMPLES, 1)), name)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO" and not (kind == "TIFF" and _rest_is_reduced(image, frames)):
        what = "pages" if kind == "TIFF" else "frames"
        raise UnreadableImage(
            f"The file has {frames} {what}; only files with one image are read for now",
            seen=name,
            remedy="Export each as an image of its own.",
            code="multi-frame",
        )


def _rest_is_reduced(image: Image.Image, frames: int) -> bool:
    """Whether all pages of a TIFF after the first are thumbnails or smaller copies (TIFF 6.0, NewSubfileType)."""
    full = image.size
    try:
        for index in range(1, frames):
            image.seek(index)
            marked = int(image.tag_v2.get(_TAG_SUBFILE, 0)) & 1  # type: ignore[attr-defined]
            if not marked or image.size[0] * image.size[1] >= full[0] * full[1]:
                return False
    finally:
        image.seek(0)
    return True


def _bits(image: Image.Image, data: bytes, kind: str) -> int:
    if kind == "PNG":
        return data[24]  # IHDR's bit depth
    if kind == "TIFF":
        bits = image.tag_v2.get(_TAG_BITS, (1,))  # type: ignore[attr-defined]
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    return 1 if image.mode == "1" else 8


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where it is missing or its block is damaged."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except _DECODER_ERRORS:
        return 1  # the pixels are whole; only what the camera wrote about them is not
    return orientation if orientation in range(1, 9) else 1


def settle_transparency(image: Image.Image, bits: int) -> None:
    """Give the see-through grey of a PNG of 2 or 4 bits on the scale of the pixels: Pillow stretches only these."""
    key = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int):
        most = 2**bits - 1
        image.info["transparency"] = (key & most) * 255 // most


def numbers_of(image: Image.Image, opened: Image.Image) -> npt.NDArray[Any]:
    """Return a grey image's values (H, W) with the sign that a TIFF gives them, which Pillow passes over.

    Args:
        image: the image, turned or not.
        opened: the file that it came from.
    """
    values = np.asarray(image)
    if image.mode == "I" and _sample_format(opened) == _UNSIGNED:
        return values.view(np.uint32)
    return values.view(np.int8) if image.mode == "L" and _sample_format(opened) == _SIGNED else values


def _sample_format(opened: Image.Image) -> int | None:
    """Return whether a TIFF's samples are unsigned (1) or signed (2) whole numbers, or floats (3); None elsewhere."""
    if opened.format != "TIFF":
        return None
    found = opened.tag_v2.get(_TAG_FORMAT, (_UNSIGNED,))  # type: ignore[attr-defined]
    return int(found[0] if isinstance(found, tuple) else found)


def _upright(image: Image.Image) -> Image.Image:
    return image if read_orientation(image) == 1 else ImageOps.exif_transpose(image)


def _to_pixels(image: Image.Image, opened: Image.Image) -> tuple[Pixels, bool]:
    """Return uint8 (H, W) or (H, W, 3), and whether the image is grey."""
    mode = image.mode
    if mode.startswith("I") or mode == "F" or (mode == "L" and _sample_format(opened) == _SIGNED):
        return _scaled(image, opened), True
    see_through = mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info
    if mode in ("1", "L") and not see_through:
        return np.asarray(image if mode == "L" else image.convert("L")), True
    if see_through:
        image = _over_black(image.convert("RGBA"))
    elif mode != "RGB":
        image = image.convert("RGB")
    return _one_channel_if_grey(np.asarray(image))


def _scaled(image: Image.Image, opened: Image.Image) -> Pixels:
    """Scale grey values by their own range; a PNG's see-through value takes no part in it, and becomes black."""
    numbers, key = numbers_of(image, opened), image.info.get("transparency")
    values = numbers.astype(np.float32)
    seen = values if key is None else values[numbers != key]
    plane = to_uint8(values, *(finite_range(seen) if seen.size else (0.0, 0.0)))
    # Pillow inverts "white is zero" at 8 bits and fewer, but not above.
    if image.mode != "L" and getattr(opened, "tag_v2", {}).get(_TAG_PHOTOMETRIC) == 0:
        plane = 255 - plane
    if key is not None:
        plane[numbers == key] = 0
    return plane


def _one_channel_if_grey(pixels: Pixels) -> tuple[Pixels, bool]:
    if pixels.ndim == 2:
        return pixels, True
    if is_grey(pixels):
        return np.ascontiguousarray(pixels[..., 0]), True
    return pixels, False


def _over_black(image: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def _check_channels(channels: int, name: str) -> None:
    if channels not in (1, 2, 3, 4):
        raise UnreadableImage(
            f"The image has {channels} channels; only greyscale (1), colour (3) and either with transparency are read",
            seen=name,
            remedy=_CONVERT,
            code="channels",
        )


def _too_large(name: str, size: str) -> UnreadableImage:
    return UnreadableImage(
        f"The image is larger than {MAX_PIXELS // 1_000_000} megapixels",
        seen=f"{name}: {size}",
        remedy="Export it smaller; training uses a few hundred pixels a side.",
        code="too-large",
    )


def _explain(error: BaseException, data: bytes, name: str, kind: str) -> UnreadableImage:
    """Word what Pillow said: cut short, channels that it has no mode for, or damaged."""
    if kind == "TIFF":
        tags = _tiff_tags(data)
        try:
            _check_channels(int(tags.get(_TAG_SAMPLES, 1)), name)
        except UnreadableImage as refusal:
            return refusal
    text = str(error).lower()
    cut = "truncated" in text or "unexpected end" in text or "not enough" in text
    if cut or (kind == "JPEG" and b"\xff\xd9" not in data[-64:]) or (kind == "PNG" and b"IEND" not in data[-32:]):
        return UnreadableImage(f"The {kind} file is cut short", seen=name, remedy=_DAMAGED, code="truncated")
    if kind == "TIFF":
        return UnreadableImage(
            "The TIFF file is damaged, or of a kind that is not read", seen=name, remedy=_CONVERT, code="damaged"
        )
    return UnreadableImage(f"The {kind} file is damaged", seen=name, remedy=_DAMAGED, code="damaged")


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Return the whole-number tags of the first page, also where Pillow has no mode for it; {} when damaged."""
    file = io.BytesIO(data)
    try:
        # BigTIFF (version 43) has a header of 16 bytes.
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8])
        file.seek(directory.next)
        directory.load(file)
        return {tag: value for tag, value in dict(directory).items() if isinstance(value, int)}
    except _DECODER_ERRORS:
        return {}  # the caller then says that the file is damaged
