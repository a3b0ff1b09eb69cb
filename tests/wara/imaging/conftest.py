"""Images and DICOM files that the tests of this room make for themselves."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a key of its own, never the user's."""
    home = tmp_path / "home"
    monkeypatch.setenv("WARA_HOME", str(home))
    return home


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)


@pytest.fixture
def encode() -> Callable[..., bytes]:
    def encode(image: np.ndarray | Image.Image, format_: str, **options: Any) -> bytes:
        file = io.BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format_, **options)
        return file.getvalue()

    return encode


@pytest.fixture
def make_dicom() -> Callable[..., Dataset]:
    def make(pixels: np.ndarray | None, **elements: Any) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["wara"])
        dataset.SOPClassUID = SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.PatientID = "4711"
        dataset.PatientName = "Doe^Jane"
        dataset.Modality = "OT"
        if pixels is not None:
            dataset.Rows, dataset.Columns = pixels.shape[:2]
            dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
            dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
            if pixels.ndim == 3:
                dataset.PlanarConfiguration = 0
            dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
            dataset.HighBit = dataset.BitsStored - 1
            dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
            raw = pixels.tobytes()
            dataset.PixelData = raw + b"\0" * (len(raw) % 2)
            dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize == 2 else "OB"
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        return dataset

    return make


@pytest.fixture
def dicom_bytes() -> Callable[[Dataset], bytes]:
    def write(dataset: Dataset) -> bytes:
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        return file.getvalue()

    return write
