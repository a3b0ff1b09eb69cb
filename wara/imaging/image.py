"""What a decoder returns: RGB pixels and the few facts about the file that a reader is shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

# Larger images are refused before they are decoded: 100 megapixels are 300 MB of RGB.
MAX_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One image as RGB, ready to be fitted and shown.

    Attributes:
        pixels: uint8, shape (H, W, 3), RGB. May be smaller than ``width`` x ``height`` where a JPEG was decoded
            at a reduced scale on request.
        format: "PNG", "JPEG", "TIFF", "WebP", "BMP" or "DICOM".
        width: columns of the image as stored, after the EXIF orientation.
        height: rows of the image as stored, after the EXIF orientation.
        bits: bits a sample in the file (DICOM: bits stored).
        greyscale: whether all three channels are equal everywhere.
        window: centre and width of the DICOM window that was applied, in the units after the rescale.
        patient: a keyed hash of the DICOM patient ID (see ``wara.imaging.identity``); None where there is none.
        spacing: distance in mm between rows and between columns, of DICOM (see ``wara.imaging.dicom_frame``); None
            where it is not known.
        frame: number of the frame, from 1, that was decoded.
        frames: how many the file has.
        modality: of a DICOM file, e.g. "CR" (0008,0060); None where there is none.
        declared_text: why text may stand in the picture by a DICOM header: "stated", "regions" or "" (see
            ``wara.imaging.burned_in``).
    """

    pixels: Pixels
    format: str
    width: int
    height: int
    bits: int
    greyscale: bool
    window: tuple[float, float] | None = None
    patient: str | None = None
    spacing: tuple[float, float] | None = None
    frame: int = 1
    frames: int = 1
    modality: str | None = None
    declared_text: str = ""


def is_grey(pixels: Pixels) -> bool:
    """Whether all channels of (H, W, 3) pixels are equal. A coarse look first: colour images end there."""
    coarse = pixels[::16, ::16]
    if not (np.array_equal(coarse[..., 0], coarse[..., 1]) and np.array_equal(coarse[..., 0], coarse[..., 2])):
        return False
    return np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])


def to_uint8(values: npt.NDArray[np.float32], low: float, high: float) -> Pixels:
    """Scale so that ``low`` becomes 0 and ``high`` 255, rounded and clipped; a flat range becomes black."""
    if not high > low:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = np.nan_to_num((values - np.float32(low)) * np.float32(255.0 / (high - low)), nan=0.0)
    clipped: Pixels = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return clipped


def finite_range(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the smallest and the largest finite value; (0, 0) where none is finite."""
    finite = np.isfinite(values)
    if finite.all():
        return float(values.min()), float(values.max())
    chosen = values[finite]
    return (float(chosen.min()), float(chosen.max())) if chosen.size else (0.0, 0.0)
