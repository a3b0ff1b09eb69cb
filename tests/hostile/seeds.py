"""Good files of each kind, small, from which bad ones are made: written here, or shipped with pydicom."""

from __future__ import annotations

import io
import json
import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pydicom.data
import torch
from PIL import Image
from safetensors.torch import save

from tests.backend.support import make_zip, study

RASTERS = ("png", "jpeg", "tiff", "webp", "bmp")
LARGEST_DICOM = 40_000


def _texture(seed: int, channels: int = 0, dtype: type = np.uint8) -> np.ndarray:
    shape = (40, 48, channels) if channels else (40, 48)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def _saved(pixels: np.ndarray, kind: str, mode: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind.upper(), **options)
    return buffer.getvalue()


@cache
def images(kind: str) -> tuple[bytes, ...]:
    """Return good images of a kind, in the modes and compressions that it has."""
    grey, colour, deep = _texture(1), _texture(2, 3), _texture(3, 0, np.uint16)
    if kind == "dicom":
        folder = Path(pydicom.data.__file__).parent / "test_files"
        files = (path.read_bytes() for path in sorted(folder.glob("*.dcm")))
        return tuple(data for data in files if 600 < len(data) < LARGEST_DICOM)
    found = [_saved(grey, kind), _saved(colour, kind)]
    if kind == "png":
        found += [_saved(deep, kind), _saved(colour, kind, "P"), _saved(_texture(4, 4), kind),
                  _saved(grey, kind, "1"), _saved(colour, kind, icc_profile=b"not a profile" * 20)]  # fmt: skip
    if kind == "jpeg":
        exif = Image.Exif()
        exif[0x0112] = 6
        found += [_saved(colour, kind, progressive=True), _saved(colour, kind, "CMYK"), _saved(colour, kind, exif=exif)]
    if kind == "tiff":
        found += [_saved(deep, kind), _saved(grey, kind, "1", compression="group4"), _saved(grey, kind, "F")]
        found += [
            _saved(colour, kind, compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        ]
    if kind == "webp":
        found += [_saved(colour, kind, lossless=True), _saved(_texture(4, 4), kind)]
    return tuple(found)


@cache
def archives() -> tuple[bytes, ...]:
    """Return good zips of a small study."""
    return make_zip(study(3)), make_zip({name.partition("/")[2]: data for name, data in study(2).items()})


@cache
def weights() -> tuple[tuple[str, bytes], ...]:
    """Return weights files of no architecture in particular: safetensors, a state dict, and a pickle with a call."""
    tensors = {"blocks.0.attn.proj.bias": torch.zeros(192), "cls_token": torch.zeros(1, 1, 192)}
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return ("w.safetensors", save(tensors)), ("w.pth", buffer.getvalue()), ("w.pth", pickle.dumps(print))


def table(names: list[str]) -> str:
    """Return a good table of labels for files."""
    rows = [f"{name},{'ab'[index % 2]},p{index},train" for index, name in enumerate(names)]
    return "\n".join(["file,label,patient,split", *rows])


def mapping() -> str:
    """Return a good answer to the question where labels stand, as JSON."""
    return json.dumps({"source": "pattern", "pattern": r"(?P<label>[a-z]+)_(?P<patient>\d+)", "rename": {}})
