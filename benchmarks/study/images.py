"""The images of a study: decoded once into a pixel store, with the places of each side."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.drawn import draw_study
from benchmarks.study.plan import Cell, Protocol
from benchmarks.study.results import DATA, encode_numbers
from benchmarks.study.subsets import limited, training_subset
from wara.backbones import Backbone
from wara.data.batches import Batches
from wara.data.catalogue import ingest, read_catalogue
from wara.data.items import Item
from wara.data.pixels import PixelStore
from wara.data.sources import open_source
from wara.data.split import make_split
from wara.errors import InputError
from wara.evaluation.bootstrap import group_index

_SPLIT_SEED = 0


@dataclass(frozen=True)
class Images:
    """A data set in its pixel store, and the side of each image."""

    store: PixelStore
    split: list[str]

    def places(self, side: str) -> list[int]:
        """Return the rows of the store that stand on a side."""
        return [place for place, name in enumerate(self.split) if name == side]

    def rows(self, side: str, cell: Cell) -> list[int]:
        """Return the rows that a cell trains on, or is looked at by."""
        items = self.store.catalogue.items
        if side == "train":
            return training_subset(items, self.places("train"), cell.size, cell.seed)
        most = cell.protocol.val_images if side == "val" else cell.protocol.test_images
        return limited(items, self.places(side), most)

    def batches(self, side: str, cell: Cell, backbone: Backbone, device: torch.device) -> Batches:
        """Return a cell's batches of a side; those of training are changed as the protocol says."""
        rows = self.rows(side, cell)
        targets = self.store.catalogue.targets()
        return Batches(
            self.store, rows, [targets[row] for row in rows], mean=backbone.mean, std=backbone.std, device=device,
            batch_size=cell.protocol.batch_size, seed=cell.seed,
            augment=cell.protocol.augment if side == "train" else "none",
        )  # fmt: skip

    def test_entry(self, name: str, protocol: Protocol) -> dict[str, Any]:
        """Return the line of a results file that says what the test images are."""
        catalogue = self.store.catalogue
        rows = limited(catalogue.items, self.places("test"), protocol.test_images)
        targets = catalogue.targets()
        groups, _ = group_index([catalogue.items[row].patient for row in rows], len(rows))
        files = "\n".join(catalogue.items[row].file for row in rows)
        return {
            "kind": DATA, "data": name, "classes": list(catalogue.classes), "digest": catalogue.digest,
            "images": {side: len(self.places(side)) for side in ("train", "val", "test")},
            "files": hashlib.blake2b(files.encode(), digest_size=10).hexdigest(),
            "test_targets": encode_numbers(np.asarray([targets[row] for row in rows])),
            "test_groups": encode_numbers(groups),
        }  # fmt: skip


def open_images(name: str, source: dict[str, Any], pixels: int, cache: Path, shared: Path | None) -> Images:
    """Open a data set; the first time its images are drawn or read, and decoded.

    Args:
        name: the data set's, for its files in the cache.
        source: where it is from, as the study says; with ``screen`` so many training images, patients whole, stand in
            for the test images.
        pixels: a side of the stored squares.
        cache: folder of what is kept between runs.
        shared: folder that data sets' folders are looked for from.

    Raises:
        InputError: the data cannot be read, or its folder is not known; code ``"study-data"``.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folder = _drawn(name, source, cache) if "drawn" in source else _folder(source, shared)
    with open_source(folder) as opened:
        catalogue = read_catalogue(opened, folder / source.get("labels", "labels.csv"))
        path = cache / f"{name}-{catalogue.fingerprint[:16]}-{pixels}.pixels"
        if not path.exists():
            print(f"reading {name}: {len(catalogue.items)} images", file=sys.stderr)
        _, store = ingest(opened, catalogue, size=pixels, store=path)
    assert store is not None
    split = apart(store.catalogue.items, make_split(store.catalogue, _SPLIT_SEED))
    return Images(store, _screened(store, split, source["screen"]) if "screen" in source else split)


def shared_folder(given: Path | None) -> Path | None:
    """Return the folder of shared data: as given, else that of the variable ``WARA_SHARED``."""
    named = os.environ.get("WARA_SHARED")
    return given or (Path(named) if named else None)


def located(spec: str, shared: Path | None) -> str:
    """Return a backbone's spec with its file looked for from the shared folder.

    Raises:
        InputError: it names a file, and there is no folder; code ``"study-data"``.
    """
    name, colon, file = spec.partition(":")
    return f"{name}:{_shared(shared, file) / file}" if colon else spec


def apart(items: Sequence[Item], split: Sequence[str]) -> list[str]:
    """Return a split whose sides share no patient, where a given one does.

    Images of training whose patient has some of validation or test, and of validation whose patient has some of test,
    are not used: ``"unseen"``.
    """
    patients = {
        side: {item.patient for item, name in zip(items, split, strict=True) if name == side} - {None, ""}
        for side in ("val", "test")
    }
    before = {"train": patients["val"] | patients["test"], "val": patients["test"]}
    return [
        "unseen" if item.patient in before.get(side, ()) else side for item, side in zip(items, split, strict=True)
    ]  # fmt: skip


def _screened(store: PixelStore, split: list[str], count: int) -> list[str]:
    """Return sides on which training images stand in for the test images, which stay unseen: none of them has one.

    What is chosen by looking at these can still be tested.
    """
    training = [place for place, side in enumerate(split) if side == "train"]
    looked_at = set(limited(store.catalogue.items, training, count))
    return [
        "test" if place in looked_at else "unseen" if side == "test" else side for place, side in enumerate(split)
    ]  # fmt: skip


def _folder(source: dict[str, Any], shared: Path | None) -> Path:
    folder: str = source["folder"]
    return _shared(shared, folder) / folder


def _shared(shared: Path | None, wanted: str) -> Path:
    if shared is None:
        raise InputError(
            "The folder of the data is not known", seen=wanted, remedy="Give --shared, or set WARA_SHARED.",
            code="study-data",
        )  # fmt: skip
    return shared


def _drawn(name: str, source: dict[str, Any], cache: Path) -> Path:
    """Draw the scale demo, once: a folder is only there under its name when all of it is."""
    drawing = {name: source.get(name) for name in ("drawn", "seed", "pixels")}
    told = hashlib.blake2b(json.dumps(drawing, sort_keys=True).encode(), digest_size=6).hexdigest()
    folder = cache / f"{name}-{told}"
    if not folder.is_dir():
        draft = folder.with_name(folder.name + ".part")
        shutil.rmtree(draft, ignore_errors=True)
        draw_study(draft, source["drawn"], seed=source.get("seed", 0), size=source.get("pixels", 224))
        draft.rename(folder)
    return folder
