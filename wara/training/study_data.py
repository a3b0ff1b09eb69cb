"""The images of a run: what is known of them, where their pixels are, on which side of the split each stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from wara.backbones import Backbone
from wara.data.batches import Batches
from wara.data.catalogue import Catalogue
from wara.data.decisions import Decision
from wara.data.items import Item
from wara.data.pixels import PixelStore
from wara.training.recipe import Recipe

SPLITS = ("train", "val", "test")


@dataclass
class StudyData:
    """What is in the data of a run, where its pixels are, and which side each image stands on."""

    catalogue: Catalogue
    store: PixelStore
    split: list[str]
    decisions: list[Decision]

    def batches(
        self, rows: list[int], backbone: Backbone, recipe: Recipe, device: torch.device, *, changed: bool = False
    ) -> Batches:
        """Return batches of some rows of the store, as they are or changed for training as the recipe says."""
        augment, views = (recipe.augment, recipe.views) if changed else ("none", 0)
        return Batches(
            self.store, rows, self.targets(rows), mean=backbone.mean, std=backbone.std, device=device,
            batch_size=recipe.batch_size, seed=recipe.seed, augment=augment, views=views,
        )  # fmt: skip

    def places(self, side: str) -> list[int]:
        """Return the places in the catalogue of a side's images."""
        return [place for place, name in enumerate(self.split) if name == side]

    def rows(self, side: str) -> list[int]:
        """Return the rows of the store; it holds images that a decision left out, too."""
        row = {item.file: number for number, item in enumerate(self.store.catalogue.items)}
        return [row[file] for file in self.files(side)]

    def targets(self, rows: list[int]) -> list[int]:
        """Return the class index of each row."""
        index = {name: i for i, name in enumerate(self.catalogue.classes)}
        return [index[item.label] for item in self.items(rows)]

    def files(self, side: str) -> list[str]:
        """Return the names of a side's files."""
        return [self.catalogue.items[place].file for place in self.places(side)]

    def items(self, rows: list[int]) -> list[Item]:
        """Return what is known of images, as it was decided, by their rows of the store."""
        return [self._decided[self.store.catalogue.items[row].file] for row in rows]

    @cached_property
    def _decided(self) -> dict[str, Item]:
        return {item.file: item for item in self.catalogue.items}
