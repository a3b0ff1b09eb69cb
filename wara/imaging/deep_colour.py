"""Colours of 16 bits, and grey of 16 bits with transparency, by Pillow, which keeps one byte of each such sample.

It keeps the upper byte, or the lower one where it is told that the bytes stand the other way round: a file unpacked
both ways gives the whole. Source: PNG 3rd edition, 11.2.1 and 11.3.1.1; TIFF 6.0 (PlanarConfiguration, ExtraSamples).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from wara.errors import UnreadableImage
from wara.imaging.image import Pixels, to_uint8

_Samples = npt.NDArray[np.uint16]

_FULL = 2**16 - 1
_TAG_PLANAR, _TAG_EXTRA = 284, 338
_IN_PLANES, _PREMULTIPLIED = 2, 1
_SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def is_deep(image: ImageFile.ImageFile, bits: int) -> bool:
    """Whether an opened file has colours, or grey with transparency, of which Pillow would lose the lower bytes."""
    return bits == 16 and image.mode in ("RGB", "RGBA")


def show_deep(
    image: ImageFile.ImageFile, data: bytes, name: str, upright: Callable[[Image.Image], Image.Image]
) -> Pixels:
    """Return uint8, (H, W) for grey and (H, W, 3) for colour, scaled by the smallest and the largest sample.

    One range serves all channels, so that colours keep their hue. Transparency is laid over black; what cannot be seen
    at all does not take the range.

    Args:
        image: the file as Pillow opened it, not yet loaded.
        data: the whole file.
        name: shown in errors.
        upright: applies the EXIF orientation.

    Raises:
        UnreadableImage: compressed planes of one channel each, which cannot be read whole; code "planes".
    """
    if image.tile[0].args == "LA;16B":
        # Its four bytes a pixel are read as four channels.
        _unpack(image, lambda _: "RGBA")
        image.load()
        packed = np.asarray(upright(image))
        grey = _joined(packed[..., ::2], packed[..., 1::2])
        return _scaled(grey[..., :1], grey[..., 1])[..., 0]
    if image.format == "TIFF" and image.tile[0].codec_name == "libtiff" and _tag(image, _TAG_PLANAR) == _IN_PLANES:
        raise UnreadableImage(
            "The TIFF file has colours of 16 bits in compressed planes, one for each channel, which are not read",
            seen=name,
            remedy="Export it uncompressed, with its channels interleaved, or as a PNG.",
            code="planes",
        )
    with Image.open(io.BytesIO(data), formats=[str(image.format)]) as other:
        samples = _joined(_bytes_of(image, upright, lower=False), _bytes_of(other, upright, lower=True))
    colour = samples[..., :3]
    opacity = samples[..., 3] if samples.shape[2] == 4 else None
    key = image.info.get("transparency")
    if opacity is None and isinstance(key, tuple):
        opacity = np.where((colour == np.array(key, np.uint16)).all(axis=2), 0, _FULL).astype(np.uint16)
    elif opacity is not None and _tag(image, _TAG_EXTRA) == _PREMULTIPLIED:
        colour = _straight(colour, opacity)
    return _scaled(colour, opacity)


def _joined(upper: Pixels, lower: Pixels) -> _Samples:
    samples = upper.astype(np.uint16)
    samples <<= 8
    samples |= lower
    return samples


def _scaled(samples: _Samples, opacity: _Samples | None) -> Pixels:
    seen = samples if opacity is None else samples[opacity > 0]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    shown = np.empty(samples.shape, np.uint8)
    for channel in range(samples.shape[2]):  # one at a time: floats take four times the memory
        plane = to_uint8(samples[..., channel].astype(np.float32), low, high)
        shown[..., channel] = plane if opacity is None else np.rint(plane * (opacity / np.float32(_FULL)))
    return shown


def _straight(colour: _Samples, opacity: _Samples) -> _Samples:
    """Return colours that were multiplied by their opacity as they were before."""
    divided = colour.astype(np.uint32) * _FULL // np.maximum(opacity, 1)[..., np.newaxis]
    return np.minimum(divided, _FULL).astype(np.uint16)


def _bytes_of(image: ImageFile.ImageFile, upright: Callable[[Image.Image], Image.Image], *, lower: bool) -> Pixels:
    """Load one byte of each sample, (H, W, 3 or 4)."""
    own = "L" if image.format == "TIFF" and image.tag_v2.prefix == b"II" else "B"  # type: ignore[attr-defined]

    def rawmode(known: str) -> str:
        # A plane of a TIFF is named by its channel alone. The "a" of colours multiplied by their opacity would have
        # Pillow divide the bytes.
        channels, _, order = known.upper().partition(";16")
        order = order or own
        return f"{channels};16{_SWAPPED[order] if lower else order}"

    _unpack(image, rawmode)
    image.load()
    return np.asarray(upright(image))


def _unpack(image: ImageFile.ImageFile, rawmode: Callable[[str], str]) -> None:
    """Have Pillow read the samples in another way than it chose by itself."""
    tiles = []
    for tile in image.tile:
        args: Any = tile.args
        new = (rawmode(args[0]), *args[1:]) if isinstance(args, tuple) else rawmode(args)
        tiles.append(tile._replace(args=new))
    image.tile = tiles


def _tag(image: ImageFile.ImageFile, tag: int) -> int | None:
    value = getattr(image, "tag_v2", {}).get(tag)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else None
