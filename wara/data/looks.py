"""How an image looks, kept in a kilobyte: from it copies are found and brightness is compared, without the file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import xxhash
from PIL import Image

from wara.data.items import Item
from wara.imaging.image import Pixels

SIDE = 32
_LOW = 8  # rows and columns of the lowest frequencies that make up the hash
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as JPEG and Pillow's "L"
_FLAT = 1e-3
_BLOCK = 1024

Looks = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def look_of(pixels: Pixels) -> str:
    """Return an image as 32 x 32 grey values, each the mean of its area, as base64 text (1,368 characters).

    Args:
        pixels: uint8, (H, W) or (H, W, 3), of any proportions; they are stretched, so that a copy of another size
            looks the same.
    """
    # Shrunk before it becomes grey: a tenth of the work, and the mean of greys is the grey of means.
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0))
    if small.ndim == 3:
        small = np.rint(small.astype(np.float32) @ _LUMA).astype(np.uint8)
    return base64.b64encode(small.tobytes()).decode("ascii")


def pixel_digest(pixels: Pixels, *, greyscale: bool) -> str:
    """Return a hash of decoded pixels: the same picture in another file, or another format, has the same one.

    Grey saved as colour counts as grey. A JPEG may have been decoded at a reduced scale; then pictures are equal
    when they are at that scale, which depends on their size alone.

    Args:
        pixels: uint8, (H, W) or (H, W, 3).
        greyscale: whether all channels are equal.
    """
    plane = pixels[..., 0] if greyscale and pixels.ndim == 3 else pixels
    # Thirty times as fast as a cryptographic one, which nothing here asks for: it says which pictures are the same.
    digest = xxhash.xxh3_128(repr(plane.shape).encode())
    digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def stack_looks(items: Sequence[Item]) -> tuple[npt.NDArray[np.intp], Looks]:
    """Return the places of the items whose look is known, and their looks, uint8 (n, 32, 32)."""
    places = [place for place, item in enumerate(items) if item.look]
    data = b"".join(base64.b64decode(items[place].look or "") for place in places)
    return np.asarray(places, np.intp), np.frombuffer(data, np.uint8).reshape(len(places), SIDE, SIDE)


def perceptual_hashes(looks: Looks) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each look, uint64 (n,): alike pictures differ in few bits.

    The signs of the 8 x 8 lowest frequencies of the discrete cosine transform, each against their median; the mean
    brightness takes no part in the median (pHash; Zauner 2010, Implementation and Benchmarking of Perceptual Image
    Hash Functions, section 3.2).
    """
    basis = _cosines()
    low = np.empty((len(looks), _LOW * _LOW), np.float32)
    for start in range(0, len(looks), _BLOCK):
        some = looks[start : start + _BLOCK].astype(np.float32)
        low[start : start + _BLOCK] = (basis @ some @ basis.T).reshape(len(some), _LOW * _LOW)
    median = np.median(low[:, 1:], axis=1, keepdims=True) if len(looks) else np.zeros((0, 1), np.float32)
    return np.packbits(low > median, axis=1).view(np.uint64).reshape(len(looks))


def fine_structure(looks: Looks) -> Floats:
    """Return what is finer than the outline of each look as unit vectors, float32 (n, 1024).

    Each grey value less the mean of the nine around it, then centred and brought to length one, so that a dot
    product is the normalised correlation: brightness and contrast do not matter. Images of one body part share
    their outline, and without this step hundreds of chest X-rays of different people correlate above 0.95. A flat
    image becomes zeros, and is like no other.
    """
    unit = np.zeros((len(looks), SIDE * SIDE), np.float32)
    for start in range(0, len(looks), _BLOCK):
        values = looks[start : start + _BLOCK].astype(np.float32)
        framed = np.pad(values, ((0, 0), (1, 1), (1, 1)), "edge")
        around = sum(framed[:, row : row + SIDE, column : column + SIDE] for row in range(3) for column in range(3))
        fine = (values - around / np.float32(9)).reshape(len(values), SIDE * SIDE)
        fine -= fine.mean(axis=1, keepdims=True)
        length = np.linalg.norm(fine, axis=1, keepdims=True)
        np.divide(fine, length, out=unit[start : start + _BLOCK], where=length > _FLAT)
    return unit


def brightness(looks: Looks) -> npt.NDArray[np.float64]:
    """Return the mean grey value of each look, 0 (black) to 255 (white)."""
    mean: npt.NDArray[np.float64] = looks.reshape(len(looks), SIDE * SIDE).mean(axis=1)
    return mean


def contrast(looks: Looks) -> npt.NDArray[np.float64]:
    """Return the standard deviation of each look's grey values, 0 to 127.5: of large structures, not of noise."""
    spread = np.empty(len(looks))
    for start in range(0, len(looks), _BLOCK):  # what is squared has eight bytes a value
        some = looks[start : start + _BLOCK]
        spread[start : start + _BLOCK] = some.reshape(len(some), SIDE * SIDE).std(axis=1)
    return spread


@cache
def _cosines() -> Floats:
    """The rows of the DCT-II of length 32 for the lowest eight frequencies; scale does not matter for signs."""
    angles = np.pi / SIDE * (np.arange(SIDE) + 0.5)[np.newaxis] * np.arange(_LOW)[:, np.newaxis]
    rows: Floats = np.cos(angles).astype(np.float32)
    return rows
