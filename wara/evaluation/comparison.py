"""Two models on the same test images: the difference of their AUROC with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wara.errors import InputError
from wara.evaluation.bootstrap import group_classes, group_index, replicate_weights
from wara.evaluation.delong import delong
from wara.evaluation.metrics import FEW, small_sample_warnings
from wara.evaluation.weighted import WeightedMetrics

_TAIL = 0.025


def compare(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    targets: npt.ArrayLike,
    classes: Sequence[str],
    groups: Sequence[str | None] | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the difference of two models' AUROC, first minus second, on the same images.

    Two classes and one image a patient: DeLong's test. Otherwise (macro one-vs-rest, or several images of a patient,
    which DeLong takes as independent) a paired bootstrap: both models are measured on the same drawn patients.

    Args:
        first: (n, k) probabilities of the first model.
        second: (n, k) probabilities of the second.
        targets: (n,) true classes.
        classes: the k class names.
        groups: patient of each image.
        replicates: bootstrap replicates.
        seed: seed of the bootstrap.

    Returns:
        ``first``, ``second``, ``difference``, ``low``, ``high``, ``p`` (two-sided; None by bootstrap), ``method``
        (``"delong"`` or ``"bootstrap"``), ``n_images``, ``n_groups``, ``warnings``, ``reading`` (a sentence).

    Raises:
        InputError: an image of fewer than two classes; code ``"comparison-undefined"``.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    truth = np.asarray(targets, dtype=np.int64)
    if a.shape != b.shape or a.shape[:1] != truth.shape:
        raise ValueError(f"probabilities {a.shape} and {b.shape} for {len(truth)} images")
    sizes = np.bincount(truth, minlength=len(classes))
    if (sizes > 0).sum() < 2:
        raise InputError(
            "The test images are of one class, so no AUROC can be compared", seen=f"{len(truth)} images",
            remedy="Compare models whose test part holds images of at least two classes.", code="comparison-undefined",
        )  # fmt: skip
    index, count = group_index(groups, len(truth))
    per_class = {label: len(np.unique(index[truth == c])) for c, label in enumerate(classes)}
    of = "images" if count == len(truth) else "patients"
    result: dict[str, Any] = {
        "n_images": len(truth), "n_groups": count, "p": None, "low": None, "high": None,
        "warnings": small_sample_warnings(per_class, of),
    }  # fmt: skip
    if len(classes) == 2 and count == len(truth) and sizes.min() >= 2:
        areas = delong(np.stack([a[:, 1], b[:, 1]]), truth == 1)
        difference, low, high, p = areas.difference()
        result |= {"method": "delong", "first": float(areas.values[0]), "second": float(areas.values[1]),
                   "difference": difference, "low": _number(low), "high": _number(high), "p": _number(p)}  # fmt: skip
    else:
        one, two = WeightedMetrics(a, truth), WeightedMetrics(b, truth)
        everyone = np.ones((1, len(truth)))
        values = [float(metrics(everyone)["auroc"][0]) for metrics in (one, two)]
        result |= {"method": "bootstrap", "first": values[0], "second": values[1], "difference": values[0] - values[1]}
        strata = group_classes(index, count, truth)
        drawn = np.concatenate([
            one(weights)["auroc"] - two(weights)["auroc"]
            for weights in replicate_weights(index, count, replicates, seed, strata)
        ])  # fmt: skip
        drawn = drawn[~np.isnan(drawn)]
        if len(drawn) and min(size for size in per_class.values() if size) >= 2:
            low, high = np.quantile(drawn, (_TAIL, 1 - _TAIL))
            result |= {"low": float(low), "high": float(high)}
    return result | {"reading": _read(result, min(size for size in per_class.values() if size), of)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _read(result: dict[str, Any], smallest: int, of: str) -> str:
    difference, low, high = result["difference"], result["low"], result["high"]
    if low is None:
        if difference == 0:
            return "Both models rank these images alike."
        return f"No interval can be given for the difference: too few {of} of a class."
    span = f"{difference:+.3f} (95 % interval {low:+.3f} to {high:+.3f})"
    if low <= 0 <= high:
        sentence = f"The AUROCs differ by {span}: on these images the two models cannot be told apart."
    else:
        better = "first" if difference > 0 else "second"
        sentence = f"The AUROCs differ by {span}: the {better} model tells the classes apart better on these images."
    few = f" A class has only {smallest} {of}, so the interval is unreliable." if smallest < FEW else ""
    return f"{sentence}{few} One training of each says nothing of other seeds."
