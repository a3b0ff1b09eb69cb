"""Cover rectangles of an image file for good: the pixels that stood there are in no byte of what is returned.

Outside the rectangles PNG, TIFF, WebP, BMP and DICOM keep every value; JPEG keeps them to within its own loss. What
stands beside a raster's picture (EXIF with its small copy of it, comments) is left out.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from wara.errors import InputError, UnreadableImage
from wara.imaging.formats import sniff
from wara.imaging.image import finite_range
from wara.imaging.quiet import quiet_decoders
from wara.imaging.raster import PILLOW_FORMATS, decode_raster, numbers_of, read_orientation, settle_transparency
from wara.imaging.text_detector import Box

# A JPEG is coded in blocks of so many pixels: a rectangle that ends inside one would blur beyond its edge.
_BLOCK = 8
_QUALITY = 97
_WHITE_IS_ZERO = 0
_TAG_PHOTOMETRIC = 262
# Modes that are written as they are; the value that is black in each.
_BLACK: dict[str, int | tuple[int, ...]] = {
    "1": 0, "L": 0, "LA": (0, 255), "RGB": (0, 0, 0), "RGBA": (0, 0, 0, 255), "CMYK": (0, 0, 0, 255),
}  # fmt: skip
_WRITABLE = {
    "PNG": ("1", "L", "LA", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "RGB", "RGBA", "CMYK"),
    "WebP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "RGB"),
    "JPEG": ("L", "RGB"),
}


def mask(content: bytes, name: str, rectangles: Sequence[Box], *, settled: bool = False) -> bytes:
    """Return the file with black in the rectangles, in every frame, in its own format.

    16-bit and float greyscale is shown by its own range, and so takes the smallest value that stands outside the
    rectangles. Rectangles grow to whole blocks of 8 pixels in a JPEG. DICOM: see ``wara.imaging.mask_dicom``.

    Args:
        content: the whole file.
        name: the file's name, for errors only.
        rectangles: in pixels of the image as it is shown, after the EXIF orientation; parts beyond its edges do not
            count.
        settled: whether a person has dealt with all text in the picture: a DICOM header then says so.

    Raises:
        UnreadableImage: the file cannot be decoded, or is of a kind that cannot be written without loss (code
            "mask-kind").
        InputError: no rectangle covers a pixel; code "mask-rectangle".
    """
    kind = sniff(content, name)
    with quiet_decoders():
        if kind == "DICOM":
            # Imported on first use: most data sets hold no DICOM, and the package takes a moment.
            from wara.imaging.mask_dicom import mask_dicom

            return mask_dicom(content, name, rectangles, settled=settled)
        return _mask_raster(content, name, kind, rectangles)


def inside(rectangles: Sequence[Box], width: int, height: int) -> list[Box]:
    """Return the parts of rectangles that lie on a picture.

    Raises:
        InputError: there are none; code "mask-rectangle".
    """
    cut = [Box(max(0, r.left), max(0, r.top), min(width, r.right), min(height, r.bottom)) for r in rectangles]
    kept = [box for box in cut if box.right > box.left and box.bottom > box.top]
    if not kept:
        seen = ", ".join(f"{r.left}, {r.top} to {r.right}, {r.bottom}" for r in rectangles[:3]) or "none"
        raise InputError(
            "No rectangle covers a part of the image",
            seen=f"{seen}, on {width} x {height} pixels",
            remedy="Draw at least one over what is to be covered.",
            code="mask-rectangle",
        )
    return kept


def covered(rectangles: Sequence[Box], width: int, height: int) -> npt.NDArray[np.bool_]:
    """Return which pixels (height, width) the rectangles cover."""
    plane = np.zeros((height, width), dtype=bool)
    for box in rectangles:
        plane[box.top : box.bottom, box.left : box.right] = True
    return plane


def not_without_loss(name: str, what: str) -> UnreadableImage:
    """Return the refusal of a file that could not be written again as it is."""
    return UnreadableImage(
        f"This image cannot be masked without loss: {what}",
        seen=name,
        remedy="Leave it out, or export it as an 8-bit image and upload it again.",
        code="mask-kind",
    )


def _mask_raster(content: bytes, name: str, kind: str, rectangles: Sequence[Box]) -> bytes:
    bits = decode_raster(content, name, kind).bits  # words every damage
    with Image.open(io.BytesIO(content), formats=PILLOW_FORMATS[kind]) as opened:
        deep = opened.mode.startswith("I") or opened.mode == "F"
        if bits > 8 and not deep:
            raise not_without_loss(name, f"it has colours of {bits} bits")
        if kind == "TIFF" and deep and bits < 16:
            raise not_without_loss(name, f"it has grey values of {bits} bits")
        settle_transparency(opened, bits)
        upside = read_orientation(opened) == 1
        opened.load()
        image = opened if upside else ImageOps.exif_transpose(opened)
        boxes = inside(rectangles, image.width, image.height)
        _refuse_sign(image, opened, name)
        if kind == "JPEG":
            return _jpeg(image, boxes, opened.quantization if upside else None)  # type: ignore[attr-defined]
        if deep:
            inverted = getattr(opened, "tag_v2", {}).get(_TAG_PHOTOMETRIC) == _WHITE_IS_ZERO
            key = image.info.get("transparency")
            return _write(_mask_deep(image, boxes, key, inverted=inverted), kind, key)
        return _write(_mask_plain(image, boxes, _WRITABLE[kind]), kind)


def _refuse_sign(image: Image.Image, opened: Image.Image, name: str) -> None:
    """Refuse grey of a TIFF that Pillow would write with another sign, and so in another order."""
    if image.mode not in ("L", "I"):
        return
    values = numbers_of(image, opened)
    if values.dtype == np.int8:
        raise not_without_loss(name, "its grey values of 8 bits have a sign")
    if values.dtype == np.uint32 and values.max() >= 2**31:
        raise not_without_loss(name, "it has grey values above 2,147,483,647")


def _mask_plain(image: Image.Image, boxes: Sequence[Box], writable: Sequence[str]) -> Image.Image:
    # A palette may have no black, so it becomes the colours that it stands for.
    if image.mode not in writable or (image.mode in ("1", "L", "RGB") and "transparency" in image.info):
        # What looks the same in a mode that the format takes: transparent parts stay so, and count as black.
        see_through = image.mode in ("La", "RGBa", "PA", "LA", "RGBA") or "transparency" in image.info
        image = image.convert("RGBA" if see_through and "RGBA" in writable else "RGB")
    masked = image.copy()
    for box in boxes:
        masked.paste(_BLACK[masked.mode], (box.left, box.top, box.right, box.bottom))
    return masked


def _mask_deep(image: Image.Image, boxes: Sequence[Box], key: int | None, *, inverted: bool) -> Image.Image:
    values = np.array(image)
    if inverted:  # large values are dark: they are turned round, for Pillow writes the other kind
        values = values.max() + values.min() - values
    hidden = covered(boxes, image.width, image.height)
    outside = values[~hidden]
    # What a PNG shows as see-through takes no part in the range, unless there is nothing else.
    outside = outside if key is None or (outside == key).all() else outside[outside != key]
    values[hidden] = finite_range(outside.astype(np.float32))[0] if values.dtype.kind == "f" else (
        outside.min() if outside.size else 0
    )  # fmt: skip
    return Image.fromarray(values)


def _write(image: Image.Image, kind: str, see_through: int | None = None) -> bytes:
    options: dict[str, dict[str, Any]] = {
        "TIFF": {"compression": "tiff_adobe_deflate"}, "WebP": {"lossless": True, "exact": True, "method": 2},
    }  # fmt: skip
    image.info.clear()
    if see_through is not None:
        image.info["transparency"] = see_through
    file = io.BytesIO()
    image.save(file, PILLOW_FORMATS[kind][0], **options.get(kind, {}))
    return file.getvalue()


def _jpeg(image: Image.Image, boxes: Sequence[Box], tables: dict[int, list[int]] | None) -> bytes:
    """Write anew: a grey image by its own tables, so that untouched blocks come out as they were, to a rounding."""
    masked = image.convert("L" if image.mode == "L" else "RGB")
    for box in boxes:
        left, top = box.left // _BLOCK * _BLOCK, box.top // _BLOCK * _BLOCK
        masked.paste(0, (left, top, -(-box.right // _BLOCK) * _BLOCK, -(-box.bottom // _BLOCK) * _BLOCK))
    masked.info.clear()
    file = io.BytesIO()
    if tables is not None and masked.mode == "L":
        masked.save(file, "JPEG", qtables=[tables[0]])
    else:
        masked.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()
