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
from wara.data.sources import Source, open_source
from wara.errors import InputError, UnreadableImage
from wara.inference import Predictor, read_rgb_square

_BATCH = 32


def labelled_batches(
    predictor: Predictor,
    data: Path,
    labels: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images (b, 3, S, S), class indices (b,)) of a data set, as the predictor's model takes them.

    Unreadable images are left out.

    Args:
        predictor: the trained model; its classes are the labels' names.
        data: folder or zip of images.
        labels: CSV with labels, see `wara.data.catalogue.read_catalogue`.
        on_progress: called with (images done, images in all).

    Raises:
        InputError: the data set has classes that the model does not know, or no readable image.
    """
    with open_source(data) as source:
        items = read_catalogue(source, labels).items
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
                squares = list(pool.map(lambda item: _square(source, item, predictor), batch))
                readable = [(square, item) for square, item in zip(squares, batch, strict=True) if square is not None]
                done += len(batch)
                if on_progress is not None:
                    on_progress(done, len(items))
                if readable:
                    shown += len(readable)
                    images = predictor.normalised(np.stack([square for square, _ in readable]))
                    yield images, torch.tensor([index[item.label] for _, item in readable])
    if not shown:
        raise InputError(
            "None of the images can be read", seen=f"{len(items)} files", remedy="Check the data set with `check`.",
            code="nothing-readable",
        )  # fmt: skip


def _square(source: Source, item: Item, predictor: Predictor) -> NDArray[np.uint8] | None:
    fit = predictor.recipe["image"]["fit"]
    try:
        return read_rgb_square(source.read(item.file), item.file, predictor.backbone.size, fit)
    except UnreadableImage:
        return None


def _batched(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
