"""Synthetic radiograph-like images in three classes that differ by scale, for trying the workflow without any data.

The images show nothing that was ever alive: smooth random texture stands for tissue, and on it lies

- ``coarse_mass``: one wide soft-edged bright region (tens of pixels across),
- ``fine_cluster``: a group of tiny bright points (one to two pixels across each),
- ``normal_texture``: nothing.

Every image gets its own brightness and contrast, so that scale, and not how bright an image is, tells the classes
apart; that is what a subband plot shows. File names and metadata say that the images are synthetic.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from wara.errors import InputError

CLASSES = ("coarse_mass", "fine_cluster", "normal_texture")
NOTE = "Synthetic image made by WaRA Studio; it shows no patient."
IMAGES_PER_PATIENT = 2
# Stored DICOM values are 12 bits wide around an offset, so that rescale and window both have something to do.
_DICOM_MAX = 4095
_DICOM_INTERCEPT = -1024

FloatImage = npt.NDArray[np.float64]


def generate(out: Path, images: int = 300, seed: int = 0, size: int = 224, dicom_share: float = 0.2) -> list[Path]:
    """Write synthetic images into class folders under ``out``.

    Args:
        out: a new or empty folder.
        images: how many in all, spread evenly over the three classes; at least 3.
        seed: the same seed (and arguments) gives the same bytes.
        size: height and width in pixels; at least 32.
        dicom_share: the share of each class, 0 to 1, written as DICOM with a synthetic patient identity
            (two images a patient); the rest is 8-bit greyscale PNG without one.

    Returns:
        The files written, in order of class and number.

    Raises:
        InputError: an argument out of range, or a folder that already holds something.
    """
    _require("The demo needs at least one image a class", images >= len(CLASSES), images, "Ask for 3 images or more.")
    _require("The demo images would be too small", size >= 32, size, "Use a size of 32 pixels or more.")
    _require("The share of DICOM files is out of range", 0 <= dicom_share <= 1, dicom_share, "Use 0 to 1.")
    free = not out.exists() or (out.is_dir() and next(out.iterdir(), None) is None)
    _require("The folder for the demo images is not empty", free, out, "Name a new folder.")

    written = []
    for position, label in enumerate(CLASSES):
        count = images // len(CLASSES) + (position < images % len(CLASSES))
        folder = out / label
        folder.mkdir(parents=True, exist_ok=True)
        as_dicom = round(dicom_share * count)
        for number in range(count):
            picture = render(label, np.random.default_rng([seed, position, number]), size)
            stem = f"synthetic_{label}_{number + 1:04d}"
            if number < as_dicom:
                path = folder / f"{stem}.dcm"
                patient = f"SYNTHETIC-{seed}-{position}-{number // IMAGES_PER_PATIENT + 1:04d}"
                _write_dicom(path, picture, patient=patient, inverted=number % 3 == 2)
            else:
                path = folder / f"{stem}.png"
                _write_png(path, picture)
            written.append(path)
    return written


def render(label: str, rng: np.random.Generator, size: int) -> FloatImage:
    """Draw one image of a class.

    Args:
        label: one of ``CLASSES``.
        rng: where all its randomness comes from.
        size: height and width in pixels.

    Returns:
        Brightness in 0..1, shape (size, size).
    """
    picture = 0.12 * _texture(rng, size)
    gain, offset = rng.uniform(0.75, 1.1), rng.uniform(0.3, 0.45)
    grain = rng.normal(0.0, 0.015, (size, size))
    # Drawn last: the same generator gives the same ground to every class.
    if label == "coarse_mass":
        picture += _mass(rng, size)
    elif label == "fine_cluster":
        picture += _cluster(rng, size)
    return np.clip(offset + gain * picture + grain, 0.0, 1.0)


def _texture(rng: np.random.Generator, size: int) -> FloatImage:
    """Random texture whose amplitude falls as frequency to the power -1.5, as in mammograms; zero mean, unit spread."""
    fy = np.fft.fftfreq(size)[:, None]
    fx = np.fft.rfftfreq(size)[None, :]
    amplitude = np.maximum(np.hypot(fy, fx), 2 / size) ** -1.5
    texture = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * amplitude, s=(size, size))
    return np.asarray((texture - texture.mean()) / texture.std())


def _coordinates(rng: np.random.Generator, size: int) -> tuple[FloatImage, FloatImage]:
    """Distances from a random centre that keeps clear of the border, (size, 1) down and (1, size) across."""
    centre = rng.uniform(0.3, 0.7, 2) * size
    axis = np.arange(size, dtype=np.float64)
    return axis[:, None] - centre[0], axis[None, :] - centre[1]


def _mass(rng: np.random.Generator, size: int) -> FloatImage:
    dy, dx = _coordinates(rng, size)
    radius = rng.uniform(0.09, 0.15) * size
    angle = np.arctan2(dy, dx)
    lobes = 1 + 0.12 * np.sin(3 * angle + rng.uniform(0, 2 * np.pi)) + 0.08 * np.sin(5 * angle + rng.uniform(0, np.pi))
    return np.asarray(rng.uniform(0.25, 0.35) / (1 + np.exp((np.hypot(dy, dx) / (radius * lobes) - 1) * 8)))


def _cluster(rng: np.random.Generator, size: int) -> FloatImage:
    dy, dx = _coordinates(rng, size)
    cluster = np.zeros((size, size))
    for offset in rng.normal(0.0, 0.06 * size, (int(rng.integers(25, 45)), 2)):
        width = rng.uniform(0.8, 1.5)
        # A point is separable: two exponentials of one axis each instead of one of the whole image.
        down = np.exp(-((dy - offset[0]) ** 2) / (2 * width**2))
        across = np.exp(-((dx - offset[1]) ** 2) / (2 * width**2))
        cluster = np.maximum(cluster, rng.uniform(0.45, 0.65) * down * across)
    return cluster


def _write_png(path: Path, picture: FloatImage) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", NOTE)
    Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(path, pnginfo=text)


def _write_dicom(path: Path, picture: FloatImage, *, patient: str, inverted: bool) -> None:
    """Write a single-frame file (PS3.3 A.26, Digital X-Ray) whose window shows the picture as the PNG would."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["wara-demo", patient, path.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), Dataset(), file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID = meta.MediaStorageSOPClassUID
    file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID = generate_uid(entropy_srcs=["wara-demo-study", patient])
    file.SeriesInstanceUID = generate_uid(entropy_srcs=["wara-demo-series", patient])
    file.PatientID = patient
    file.PatientName = "Synthetic^Demo"
    file.Modality = "DX"
    file.ImageComments = NOTE
    file.Rows, file.Columns = picture.shape
    file.SamplesPerPixel = 1
    file.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.RescaleSlope, file.RescaleIntercept = 1, _DICOM_INTERCEPT
    # PS3.3 C.11.2.1.2.1: this centre and width map exactly the stored range onto the display's.
    file.WindowCenter = (_DICOM_MAX + 1) // 2 + _DICOM_INTERCEPT
    file.WindowWidth = _DICOM_MAX + 1
    shown = 1.0 - picture if inverted else picture
    file.PixelData = np.rint(shown * _DICOM_MAX).astype("<u2").tobytes()
    file.save_as(path, enforce_file_format=True)


def _require(what: str, holds: bool, seen: object, remedy: str) -> None:
    if not holds:
        raise InputError(what, seen=seen, remedy=remedy, code="demo-invalid")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m wara.demo OUT``."""
    parser = argparse.ArgumentParser(prog="python -m wara.demo", description="Write synthetic demo images.")
    parser.add_argument("out", type=Path, help="a new or empty folder")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--dicom-share", type=float, default=0.2, help="share written as DICOM, 0 to 1")
    options = parser.parse_args(arguments)
    try:
        files = generate(options.out, options.images, options.seed, options.size, options.dicom_share)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{len(files)} synthetic images in {len(CLASSES)} classes: {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
