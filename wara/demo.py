"""Synthetic mammogram-like images in three classes that differ by scale, for trying the workflow without any data.

The images show nothing that was ever alive: random texture stands for tissue, and on it lies

- ``coarse_mass``: one wide soft-edged dense region (tens of pixels across),
- ``fine_cluster``: a group of tiny bright points (one to three pixels across each),
- ``normal_texture``: nothing.

The mean brightness of the tissue is drawn without regard to the class, so that scale, and not how bright an image is,
tells the classes apart; that is what a subband plot shows. File names and metadata say that the images are synthetic.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from wara.demo_drawing import CLASSES, FloatImage, render
from wara.errors import InputError

NOTE = "Synthetic image made by WaRA Studio; it shows no patient."
IMAGES_PER_PATIENT = 2
# Stored DICOM values are 12 bits wide around an offset, so that rescale and window both have something to do.
_DICOM_MAX = 4095
_DICOM_INTERCEPT = -1024


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
    drawn = files(images, seed, size, dicom_share)
    free = not out.exists() or (out.is_dir() and next(out.iterdir(), None) is None)
    _require("The folder for the demo images is not empty", free, out, "Name a new folder.")

    written = []
    for name, content in drawn:
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written.append(path)
    return written


def files(images: int = 300, seed: int = 0, size: int = 224, dicom_share: float = 0.2) -> Iterator[tuple[str, bytes]]:
    """Draw the files of :func:`generate` one after the other, as (``class/name``, content).

    Raises:
        InputError: an argument out of range; at once, before any file is asked for.
    """
    _require("The demo needs at least one image a class", images >= len(CLASSES), images, "Ask for 3 images or more.")
    _require("The demo images would be too small", size >= 32, size, "Use a size of 32 pixels or more.")
    _require("The share of DICOM files is out of range", 0 <= dicom_share <= 1, dicom_share, "Use 0 to 1.")
    return _files(images, seed, size, dicom_share)


def _files(images: int, seed: int, size: int, dicom_share: float) -> Iterator[tuple[str, bytes]]:
    for position, label in enumerate(CLASSES):
        count = images // len(CLASSES) + (position < images % len(CLASSES))
        as_dicom = round(dicom_share * count)
        for number in range(count):
            picture = render(label, np.random.default_rng([seed, position, number]), size)
            stem = f"synthetic_{label}_{number + 1:04d}"
            if number < as_dicom:
                patient = f"SYNTHETIC-{seed}-{position}-{number // IMAGES_PER_PATIENT + 1:04d}"
                name = f"{stem}.dcm"
                yield f"{label}/{name}", _dicom(name, picture, patient=patient, inverted=number % 3 == 2)
            else:
                yield f"{label}/{stem}.png", _png(picture)


def _png(picture: FloatImage) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", NOTE)
    buffer = io.BytesIO()
    Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def _dicom(name: str, picture: FloatImage, *, patient: str, inverted: bool) -> bytes:
    """Encode a single-frame file (PS3.3 A.27, Digital Mammography) whose window shows the picture as the PNG would."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["wara-demo", patient, name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(name, Dataset(), file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID = meta.MediaStorageSOPClassUID
    file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID = generate_uid(entropy_srcs=["wara-demo-study", patient])
    file.SeriesInstanceUID = generate_uid(entropy_srcs=["wara-demo-series", patient])
    file.PatientID = patient
    file.PatientName = "Synthetic^Demo"
    file.Modality = "MG"
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
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


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
        written = generate(options.out, options.images, options.seed, options.size, options.dicom_share)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{len(written)} synthetic images in {len(CLASSES)} classes: {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
