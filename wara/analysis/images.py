"""A data set as batches for a trained model: decoded in threads, streamed, nothing kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wara.data.catalogue import read_catalogue
from wara.data.items import Item
from wara.data.mapping import Mapping
from wara.data.sources import Source, open_source
from wara.errors import InputError, UnreadableImage
from wara.inference import Predictor, read_rgb_squares

_BATCH = 32


def labelled_batches(
    predictor: Predictor,
    data: Path,
    labels: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    mapping: Mapping | None = None,
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Yield (images (b, 3, S, S), class indices (b,), patients, "" where unknown), as the predictor's model takes them.

    Unreadable images are left out.

    Args:
        predictor: the trained model; its classes are the labels' names.
        data: folder or zip of images.
        labels: CSV with labels, see `wara.data.catalogue.read_catalogue`.
        on_progress: called with (images done, images in all).
        mapping: where the labels come from, see `wara.data.mapping`.

    Raises:
        InputError: the data set has classes that the model does not know, or no readable image.
    """
    with open_source(data) as source:
        items = read_catalogue(source, labels, mapping).items
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
                squares = list(pool.map(lambda item: _squares(source, item, predictor), batch))
                readable = [(square, item) for own, item in zip(squares, batch, strict=True) for square in own]
                done += len(batch)
                if on_progress is not None:
                    on_progress(done, len(items))
                shown += len(readable)
                for start in range(0, len(readable), _BATCH):
                    chosen = readable[start : start + _BATCH]
                    images = predictor.normalised(np.stack([square for square, _ in chosen]))
                    targets = torch.tensor([index[item.label] for _, item in chosen])
                    yield images, targets, [item.patient or "" for _, item in chosen]
    if not shown:
        raise InputError(
            "None of the images can be read", seen=f"{len(items)} files", remedy="Check the data set with `check`.",
            code="nothing-readable",
        )  # fmt: skip


def _squares(source: Source, item: Item, predictor: Predictor) -> list[NDArray[np.uint8]]:
    """Return the images of a file that the run's view takes: one, all frames, or none where it cannot be read."""
    fit = predictor.recipe["image"]["fit"]
    try:
        data, size = source.read(item.path), predictor.backbone.size
        return list(read_rgb_squares(data, item.file, size, fit, predictor.view, item.frame))
    except UnreadableImage:
        return []


def _batched(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
