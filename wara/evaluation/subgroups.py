"""Is the model as good for some people as for others? Its test figures for each subgroup, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wara.evaluation.bootstrap import Ints
from wara.evaluation.metrics import evaluate

MOST_VALUES = 12
_BANDS = ((18, "under 18 years"), (40, "18 to 39 years"), (65, "40 to 64 years"))
_OLDEST = "65 years and over"
_ORDER = {name: place for place, name in enumerate([*(name for _, name in _BANDS), _OLDEST])}


def age_band(age: float | None) -> str | None:
    """Return the band of an age in years, None for one that is not known."""
    if age is None:
        return None
    return next((name for below, name in _BANDS if age < below), _OLDEST)


def subgroup_table(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    classes: Sequence[str],
    subgroups: Mapping[str, Sequence[str | None]],
    groups: Sequence[str | None] | None = None,
    *,
    labels: Ints | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the figures of each subgroup.

    Args:
        probabilities: (n, k).
        targets: (n,) true classes.
        classes: the k class names.
        subgroups: for each trait, such as "sex", the value of each image; None or "" where it is not known.
        groups: patient of each image.
        labels: (n,) class that each image is called; None takes the most probable one.
        replicates: bootstrap replicates.
        seed: seed of the bootstrap.

    Returns:
        For each trait ``{"rows": [...], "unknown": images, "reading": sentence}``; a row holds ``value``,
        ``n_images``, ``n_groups``, ``per_class_n``, ``auroc``, ``balanced_accuracy``, ``sensitivity``, ``specificity``
        (by class) and ``warnings``. A trait with more than 12 values has no rows and says so.

    Raises:
        ValueError: if a trait is not as long as the images are many.
    """
    scores, truth = np.asarray(probabilities, dtype=float), np.asarray(targets, dtype=np.int64)
    table: dict[str, Any] = {}
    for trait, values in subgroups.items():
        if len(values) != len(truth):
            raise ValueError(f"{trait} holds {len(values)} values for {len(truth)} images")
        names = sorted({value for value in values if value}, key=lambda name: (_ORDER.get(name, -1), name))
        unknown = sum(not value for value in values)
        if not names:
            continue
        if len(names) > MOST_VALUES:
            reading = f"There are {len(names)} values of {trait}, too many for subgroups."
            table[trait] = {"rows": [], "unknown": unknown, "reading": reading}
            continue
        rows = []
        for name in names:
            inside = np.array([value == name for value in values])
            found = evaluate(
                scores[inside], truth[inside], classes,
                None if groups is None else [group for group, held in zip(groups, inside, strict=True) if held],
                replicates=replicates, seed=seed, labels=None if labels is None else labels[inside],
            )  # fmt: skip
            kept = ("n_images", "n_groups", "per_class_n", "auroc", "balanced_accuracy", "sensitivity", "specificity")
            rows.append({"value": name, **{key: found[key] for key in kept}, "warnings": found["warnings"]})
        table[trait] = {"rows": rows, "unknown": unknown, "reading": _read(trait, rows)}
    return table


def _read(trait: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Compare the best and the worst subgroup by AUROC in one sentence."""
    measured = [row for row in rows if row["auroc"]["value"] is not None]
    if len(measured) < 2:
        return f"There is no AUROC for two values of {trait}, so they cannot be compared."
    best = max(measured, key=lambda row: float(row["auroc"]["value"]))
    worst = min(measured, key=lambda row: float(row["auroc"]["value"]))
    if best is worst:
        return f"The AUROC is the same for every value of {trait}."
    low, high = best["auroc"]["low"], worst["auroc"]["high"]
    span = (
        f"The AUROC is highest for {best['value']} ({best['auroc']['value']:.3f}) and lowest for {worst['value']} "
        f"({worst['auroc']['value']:.3f})"
    )
    if low is None or high is None:
        return f"{span}; without an interval this is no comparison."
    if low > high:
        return f"{span}; their intervals do not overlap: the model is worse for {worst['value']} here."
    return f"{span}; their intervals overlap, so these images show no difference, which does not mean there is none."
