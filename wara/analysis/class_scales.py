"""Which scales of the update each class used, over a data set: shares with bootstrap intervals, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from wara.analysis.explain import shares_of, sum_by_scale
from wara.analysis.relevance import UpdateRelevance
from wara.analysis.scales import scales_of
from wara.data.items import OF_ONE_FILE
from wara.evaluation.bootstrap import group_index, replicate_weights

# A sum over images needs less of each integral than one picture does.
STEPS = 4
REPLICATES = 1000
Floats = NDArray[np.float64]
# Images (b, 3, S, S), class indices (b,), and perhaps the patient of each (see `ClassScales.add`).
Batch = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Sequence[str | None]]


class ClassScales:
    """Streaming measurement of what each scale contributed to the images of each class.

    For an image of class c the score is c's logit less that of the strongest other class, whether the model was right
    or not; its parts by subband are those of `UpdateRelevance`. Only S + 1 numbers an image are kept. A class's share
    of a scale is the size of its mean contribution among the scales' (signed contributions are given beside it).

    Args:
        model: a PEFT model with WaRA, Tiny-WaRA or LoRA layers.
        classes: names of the classes, in the order of the labels.
        per_class: at most so many images a class; None for all.

    Raises:
        InputError: from `UpdateRelevance`.
    """

    def __init__(self, model: nn.Module, classes: Sequence[str], *, per_class: int | None = None) -> None:
        self.relevance = UpdateRelevance(model)
        self.classes = list(classes)
        self.per_class = per_class
        self._room = [np.inf if per_class is None else per_class] * len(self.classes)
        self._labels: list[int] = []
        self._groups: list[str | None] = []
        self._parts: list[Floats] = []  # (S + 1,) an image: subbands, then prefix
        self._changes: list[float] = []

    @property
    def full(self) -> bool:
        """Whether every class has as many images as it may."""
        return max(self._room) <= 0

    def add(self, images: Tensor, labels: Tensor, groups: Sequence[str | None] | None = None) -> None:
        """Measure a batch; images of classes that have enough are passed over.

        Args:
            images: (B, 3, height, width), as the model takes them.
            labels: (B,) class of each image.
            groups: the patient of each image, for the intervals; None or "" where nobody is known. Images of one file
                that names nobody may share a name that begins with `OF_ONE_FILE`.
        """
        chosen = []
        for place, label in enumerate(labels.tolist()):
            if self._room[label] > 0:
                self._room[label] -= 1
                chosen.append(place)
        if not chosen:
            return
        found = self.relevance.measure(images[chosen], labels[chosen], steps=STEPS)
        prefix = found.prefix.sum(dim=1, keepdim=True)
        self._parts += list(np.concatenate([found.by_band.numpy(), prefix.numpy()], axis=1).astype(np.float64))
        self._changes += found.change.tolist()
        self._labels += labels[chosen].tolist()
        self._groups += [None] * len(chosen) if groups is None else [groups[place] for place in chosen]

    def result(self, *, seed: int = 0) -> dict[str, Any]:
        """Return what was measured, as JSON-able plain values.

        Returns:
            ``bands``, ``scales`` (name, size, bands; coarse to fine), ``levels``, ``patch_size``, ``wavelet``,
            ``method``, ``own_transform``, ``classes``, ``capped`` (images a class at most, or None), ``interval``
            (what was drawn again for the intervals: ``"patients"`` where some are known, else ``"files"`` where one may
            hold several images, else ``"images"``), and ``per_class``: for each class with images ``images``,
            ``change``, ``prefix`` (mean logits), ``scales`` and ``bands``: ``contribution``, ``share`` each as
            ``value``, ``low``, ``high`` (95 %; None where there is nothing to share).
        """
        scales = scales_of(self.relevance.bands, self.relevance.levels, self.relevance.patch_size)
        per_class = {}
        for label, name in enumerate(self.classes):
            rows = [row for row, of in enumerate(self._labels) if of == label]
            if not rows:
                continue
            parts = np.stack([self._parts[row] for row in rows])
            groups = [self._groups[row] for row in rows]
            by_scale = sum_by_scale(parts[:, :-1], scales)
            per_class[name] = {
                "images": len(rows),
                "change": float(np.mean([self._changes[row] for row in rows])),
                "prefix": float(parts[:, -1].mean()),
                "scales": _summary(by_scale, groups, seed),
                "bands": _summary(parts[:, :-1], groups, seed),
            }
        return {
            "format": 1,
            "bands": list(self.relevance.bands),
            "scales": [{"name": s.name, "size": s.size, "bands": list(s.bands)} for s in scales],
            "levels": self.relevance.levels,
            "patch_size": self.relevance.patch_size,
            "wavelet": self.relevance.wavelet,
            "method": self.relevance.method,
            "own_transform": self.relevance.own_transform,
            "classes": self.classes,
            "capped": self.per_class,
            "interval": _drawn_again(self._groups),
            "per_class": per_class,
        }


def class_scales(
    model: nn.Module, batches: Iterable[Batch], classes: Sequence[str], *, per_class: int | None = None
) -> dict[str, Any]:
    """Return `ClassScales.result` over batches; stops to read once every class has its images.

    Raises:
        InputError: from `UpdateRelevance`.
    """
    measured = ClassScales(model, classes, per_class=per_class)
    for batch in batches:
        measured.add(*batch)
        if measured.full:
            break
    return measured.result()


def _drawn_again(groups: Sequence[str | None]) -> str:
    """Return what the groups of images are: patients, files that name nobody, or single images."""
    named = [group for group in groups if group]
    if any(not group.startswith(OF_ONE_FILE) for group in named):
        return "patients"
    return "files" if named else "images"


def _summary(parts: Floats, groups: Sequence[str | None], seed: int) -> list[dict[str, Any]]:
    """Return mean contribution and share of each column of (n, columns), with intervals over the groups."""
    mean = parts.mean(axis=0)
    index, count = group_index(groups, len(parts))
    means = []
    for weights in replicate_weights(index, count, REPLICATES, seed):
        means.append(weights @ parts / weights.sum(axis=1, keepdims=True))
    drawn = np.concatenate(means)
    sizes = np.abs(drawn)
    totals = sizes.sum(axis=1, keepdims=True)
    drawn_shares = sizes[totals[:, 0] > 0] / totals[totals[:, 0] > 0]
    shares = shares_of(mean)
    return [
        {
            "contribution": _interval(float(mean[column]), drawn[:, column]),
            "share": None if shares is None else _interval(shares[column], drawn_shares[:, column]),
        }
        for column in range(parts.shape[1])
    ]


def _interval(value: float, drawn: Floats) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high)}
