"""ROC and precision-recall curves with 95 % bands by bootstrap over patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wara.evaluation.bootstrap import Floats, Ints, group_classes, group_index, replicate_weights

GRID = 101
_MOST_POINTS = 1_000
_TAIL = 0.025


class _Thresholds:
    """Images ordered from the highest score down, in steps of equal scores: the points of both curves."""

    def __init__(self, scores: Floats, positive: npt.NDArray[np.bool_]) -> None:
        self.order = np.argsort(-scores, kind="stable")
        ranked = scores[self.order]
        self.ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True))  # last image of each step
        self.values = ranked[self.ends]
        self.positive = positive[self.order].astype(float)

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return weight of positives and of negatives at or above each threshold, (R, steps) each."""
        ordered = weights[:, self.order]
        found = np.cumsum(ordered * self.positive, axis=1)[:, self.ends]
        alarms = np.cumsum(ordered * (1 - self.positive), axis=1)[:, self.ends]
        return found, alarms


def curves(
    scores: npt.ArrayLike,
    positive: npt.ArrayLike,
    groups: Sequence[str | None] | None = None,
    *,
    replicates: int = 500,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Return both curves of one class against the rest.

    Args:
        scores: (n,) higher means positive.
        positive: (n,) whether the image is of the class.
        groups: patient of each image.
        replicates: bootstrap replicates behind the bands.
        seed: seed of the bootstrap.

    Returns:
        ``roc``: ``false_alarms`` and ``sensitivity`` at each threshold from (0, 0) on (1,000 of them at most, evenly
        chosen), ``thresholds`` (the first is None), ``auroc``, and ``band``: ``false_alarms``, ``low``, ``high`` at 101
        even places. ``precision_recall``: ``sensitivity`` and ``precision`` at each threshold, ``band`` over 100 even
        sensitivities, ``prevalence`` and ``average_precision``. None where one of both sides has no image. A band is
        pointwise.
    """
    values, truth = np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool)
    if not 0 < truth.sum() < len(truth):
        return None
    index, count = group_index(groups, len(truth))
    thresholds = _Thresholds(values, truth)
    found, alarms = (row[0] for row in thresholds.counts(np.ones((1, len(truth)))))
    sensitivity, false_alarms = found / found[-1], alarms / alarms[-1]
    precision = found / (found + alarms)
    grid, recalls = np.linspace(0, 1, GRID), np.linspace(0, 1, GRID)[1:]
    roc_rows, recall_rows = [], []
    strata = group_classes(index, count, truth.astype(np.int64))
    for weights in replicate_weights(index, count, replicates, seed, strata):
        for drawn_found, drawn_alarms in zip(*thresholds.counts(weights), strict=True):
            if drawn_found[-1] > 0 and drawn_alarms[-1] > 0:
                roc_rows.append(_step(grid, drawn_alarms / drawn_alarms[-1], drawn_found / drawn_found[-1]))
                recall_rows.append(_precision_at(recalls, drawn_found, drawn_alarms))
    shown = np.unique(np.linspace(0, len(found) - 1, min(len(found), _MOST_POINTS)).astype(np.int64))
    area = np.trapezoid(np.concatenate([[0.0], sensitivity]), np.concatenate([[0.0], false_alarms]))
    return {
        "roc": {
            "false_alarms": [0.0, *false_alarms[shown].tolist()],
            "sensitivity": [0.0, *sensitivity[shown].tolist()],
            "thresholds": [None, *thresholds.values[shown].tolist()],
            "auroc": float(area),
            "band": {"false_alarms": grid.tolist(), **_band(roc_rows)},
        },
        "precision_recall": {
            "sensitivity": sensitivity[shown].tolist(),
            "precision": precision[shown].tolist(),
            "band": {"sensitivity": recalls.tolist(), **_band(recall_rows)},
            "prevalence": float(truth.mean()),
            "average_precision": float(np.sum(np.diff(sensitivity, prepend=0.0) * precision)),
        },
    }


def _step(grid: Floats, false_alarms: Floats, sensitivity: Floats) -> Floats:
    """Return the sensitivity at even shares of false alarms; along ties the curve is a straight line."""
    return np.asarray(np.interp(grid, np.concatenate([[0.0], false_alarms]), np.concatenate([[0.0], sensitivity])))


def _precision_at(recalls: Floats, found: Floats, alarms: Floats) -> Floats:
    """Return the precision at the first threshold that reaches each sensitivity."""
    places = np.searchsorted(found / found[-1], recalls - 1e-12, side="left")
    places = np.minimum(places, len(found) - 1)
    return np.asarray(found[places] / (found[places] + alarms[places]))


def _band(rows: list[Floats]) -> dict[str, list[float] | None]:
    if not rows:
        return {"low": None, "high": None}
    low, high = np.quantile(np.stack(rows), (_TAIL, 1 - _TAIL), axis=0)
    return {"low": low.tolist(), "high": high.tolist()}


def all_curves(
    probabilities: Floats, targets: Ints, classes: Sequence[str], groups: Sequence[str | None] | None = None,
    *, replicates: int = 500, seed: int = 0,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Return :func:`curves` by class: of two classes that of the second, of more each against the rest."""
    chosen = [1] if len(classes) == 2 else range(len(classes))
    found = {
        classes[c]: curves(probabilities[:, c], targets == c, groups, replicates=replicates, seed=seed) for c in chosen
    }
    return {name: value for name, value in found.items() if value is not None}
