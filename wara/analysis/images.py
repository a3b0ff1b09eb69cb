"""A data set as batches for a trained model: decoded in threads, streamed, nothing kept."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wara.data.catalogue import read_catalogue
from wara.data.items import OF_ONE_FILE, Item, PassedOver
from wara.data.mapping import Mapping
from wara.data.sources import Source, open_source
from wara.errors import InputError, UnreadableImage
from wara.imaging import read_squares
from wara.imaging.deidentify import safe_name
from wara.inference import Predictor
from wara.predictions import three_channels

_BATCH = 32
# A square (S, S, 3) with the patient it is of, "" where unknown.
Square = tuple[NDArray[np.uint8], str]


@dataclass
class LeftOut:
    """What of a data set is in no batch.

    Attributes:
        unreadable: images that cannot be read, under names that repeat nothing of their headers.
        passed_over: files that were listed and not opened, such as those of no class.
        listed: how many images the data set lists, the unreadable ones among them.
    """

    unreadable: list[PassedOver] = field(default_factory=list)
    passed_over: tuple[PassedOver, ...] = ()
    listed: int = 0

    def reasons(self) -> dict[str, int]:
        """Return why files were passed over, the most frequent reason first."""
        return dict(Counter(entry.reason for entry in self.passed_over).most_common())

    def to_json(self) -> dict[str, Any]:
        """Return the unreadable images by name, and how many files were passed over by reason."""
        unreadable = [{"file": entry.file, "reason": entry.reason} for entry in self.unreadable]
        return {"listed": self.listed, "unreadable": unreadable, "passed_over": self.reasons()}


def labelled_batches(
    predictor: Predictor,
    data: Path,
    labels: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    mapping: Mapping | None = None,
    left_out: LeftOut | None = None,
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Yield (images (b, 3, S, S), class indices (b,), patients), as the predictor's model takes them.

    A patient is the table's, else the DICOM header's, else "". Several images of a file that names nobody share a name
    that begins with `OF_ONE_FILE`. Unreadable images are left out.

    Args:
        predictor: the trained model; its classes are the labels' names.
        data: folder or zip of images.
        labels: CSV with labels, see `wara.data.catalogue.read_catalogue`.
        on_progress: called with (images done, images in all).
        mapping: where the labels come from, see `wara.data.mapping`.
        left_out: is told, while the batches come, of every file that is in none.

    Raises:
        InputError: the data set has classes that the model does not know, or no readable image.
    """
    told = LeftOut() if left_out is None else left_out
    with open_source(data) as source:
        catalogue = read_catalogue(source, labels, mapping)
        items = catalogue.items
        told.passed_over, told.listed = catalogue.passed_over, len(items)
        unknown = sorted({item.label for item in items} - set(predictor.classes))
        if unknown:
            raise InputError(
                "The data set has classes that the model was not trained on",
                seen=", ".join(unknown[:5]),
                remedy=f"Give images of the classes {', '.join(predictor.classes)}.",
                code="classes-unknown",
            )
        index = {name: i for i, name in enumerate(predictor.classes)}
        done = shown = 0
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for batch in _batched(items):
                found = list(pool.map(lambda item: _squares(source, item, predictor), batch))
                told.unreadable += [own for own in found if isinstance(own, PassedOver)]
                readable = [
                    (square, patient, index[item.label])
                    for own, item in zip(found, batch, strict=True)
                    if not isinstance(own, PassedOver)
                    for square, patient in own
                ]
                done += len(batch)
                if on_progress is not None:
                    on_progress(done, len(items))
                shown += len(readable)
                for start in range(0, len(readable), _BATCH):
                    chosen = readable[start : start + _BATCH]
                    squares, patients, targets = zip(*chosen, strict=True)
                    yield predictor.normalised(np.stack(squares)), torch.tensor(targets), list(patients)
    if not shown:
        raise InputError(
            "None of the images can be read", seen=f"{len(items)} files", remedy="Check the data set with `check`.",
            code="nothing-readable",
        )  # fmt: skip


def _squares(source: Source, item: Item, predictor: Predictor) -> list[Square] | PassedOver:
    """Return the images of a file that the run's view takes, one or all frames, or why it cannot be read."""
    fit, size = predictor.recipe["image"]["fit"], predictor.backbone.size
    data = b""
    try:
        data = source.read(item.path)
        found = [
            (three_channels(square), item.patient or image.patient or "")
            for square, image in read_squares(data, item.file, size, fit, predictor.view, item.frame)
        ]
    except UnreadableImage as error:
        return PassedOver(safe_name(data, item.file), error.what, item.label)
    if len(found) > 1 or item.frame is not None:
        return [(square, patient or f"{OF_ONE_FILE}{item.path}") for square, patient in found]
    return found


def _batched(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
