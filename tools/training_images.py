"""The images that the embedded backbone learns from: training splits of data folders and drawn images, decoded once."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tools.synthetic_images import draw

SIDE = 256  # rows and columns that every image is kept at, so that crops have something to choose from
_DRAWN = "drawn images"
Item = TypeVar("Item")

Pixels = npt.NDArray[np.uint8]


@dataclass
class TrainingImages:
    """Decoded images, read from disk as they are needed.

    Attributes:
        real: by the name of their folder, (N, SIDE, SIDE, 3) each.
        drawn: (N, SIDE, SIDE, 3).
    """

    real: dict[str, Pixels]
    drawn: Pixels

    @classmethod
    def prepare(cls, folders: list[Path], work: Path, drawn: int) -> TrainingImages:
        """Decode training images and draw others, or take those that an earlier call left.

        Args:
            folders: each with a `labels.csv` of columns `file` and `split`; rows of other splits than `train` are
                not opened.
            work: where decoded images are kept.
            drawn: how many to draw.
        """
        real = {}
        for folder in folders:
            files = list(_training_files(folder))
            real[folder.name] = _kept(work / f"{folder.name}.npy", len(files), _decoded, files)
        return cls(real, _kept(work / "drawn.npy", drawn, _drawn, list(range(drawn))))

    def counts(self) -> dict[str, int]:
        """Return how many images there are of each kind."""
        return {**{name: len(pixels) for name, pixels in self.real.items()}, _DRAWN: len(self.drawn)}

    def choose(self, count: int, drawn_share: float, generator: torch.Generator) -> Tensor:
        """Choose images: folders with the root of their sizes, so that a large one does not drown a small one.

        Returns:
            (count, 2): the folder's number (drawn images last) and the image's.
        """
        groups = [*self.real.values(), self.drawn]
        roots = torch.tensor([len(pixels) ** 0.5 for pixels in self.real.values()])
        weights = torch.cat([roots / roots.sum() * (1 - drawn_share), torch.tensor([drawn_share])])
        group = torch.multinomial(weights, count, replacement=True, generator=generator)
        sizes = torch.tensor([len(pixels) for pixels in groups])[group]
        return torch.stack([group, (torch.rand(count, generator=generator) * sizes).long()], dim=1)

    def read(self, chosen: Tensor) -> Tensor:
        """Return chosen images, (B, 3, SIDE, SIDE), uint8."""
        groups = [*self.real.values(), self.drawn]
        rows = [groups[group][index] for group, index in chosen.tolist()]
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2)


def _training_files(folder: Path) -> Iterator[Path]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            if row["split"] == "train":
                yield folder / row["file"]


def _kept(file: Path, count: int, make: Callable[[Item], Pixels], items: Sequence[Item]) -> Pixels:
    if not file.exists() or np.load(file, mmap_mode="r").shape[0] != count:
        part = file.with_suffix(".part.npy")
        pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, 3))
        with ProcessPoolExecutor() as pool:
            for index, picture in enumerate(pool.map(make, items, chunksize=32)):
                pixels[index] = picture
        pixels.flush()
        del pixels
        part.replace(file)
    return np.load(file, mmap_mode="r")  # type: ignore[no-any-return]


def _decoded(file: Path) -> Pixels:
    with Image.open(file) as image:
        image.draft("RGB", (SIDE, SIDE))
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _drawn(seed: int) -> Pixels:
    return draw(seed, SIDE)
