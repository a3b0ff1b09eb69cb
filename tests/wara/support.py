"""What tests of several rooms use: a folder of images drawn for the test, a short recipe, a maker of small ViTs."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    generate_uid,
)
from torch import nn

from wara import TinyWaraConfig, WaraConfig
from wara.training.recipe import Recipe

MakeVit = Callable[..., nn.Module]
UNTRAINED = "vit_tiny_untrained"
# Adapters of a small ViT that change something from the start, by method.
CONFIGS = {
    "wara": WaraConfig(r=2, modules_to_save=["head"], init_weights=False),
    "tiny-wara": TinyWaraConfig(r=2, u=4, modules_to_save=["head"], init_weights=False),
    "lora": peft.LoraConfig(r=2, target_modules=["qkv"], modules_to_save=["head"], init_lora_weights=False),
    "full": None,
}


def draw_folder(root: Path, images_per_class: int = 12, size: int = 40) -> Path:
    """Draw dark images with a bright square on the left or on the right."""
    rng = np.random.default_rng(0)
    for index, name in enumerate(("left", "right")):
        (root / name).mkdir(parents=True)
        for number in range(images_per_class):
            pixels = rng.integers(0, 60, (size, size), dtype=np.uint8)
            start = 4 if index == 0 else size // 2 + 2
            pixels[10:30, start : start + 14] += 150
            Image.fromarray(pixels).save(root / name / f"{number:02d}.png")
    return root


def write_dicom(path: Path, frames: NDArray[np.uint8], patient: str) -> bytes:
    """Write a grey DICOM file of several frames (n, H, W) without a window, and return its bytes."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    dataset.PatientID = patient
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = frames.tobytes() + b"\0" * (frames.size % 2)
    dataset["PixelData"].VR = "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path.read_bytes()


def small_recipe(**options: Any) -> Recipe:
    """A recipe for a run of seconds, in all blocks: the readout, usual with WaRA, has tests of its own."""
    small = {"backbone": UNTRAINED, "epochs": 2, "batch_size": 8, "bootstrap": 50, "device": "cpu", "readout": "none"}
    return Recipe.from_preset("quick", **{**small, **options})


def stop_at(step: int) -> Callable[[], bool]:
    """What a training asks whether to stop: yes, the so-manieth time."""
    asked = itertools.count(1)
    return lambda: next(asked) == step


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV as one dict a row."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
