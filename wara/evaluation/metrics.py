"""Metrics of a classifier on one set of images, each with a 95 % bootstrap interval over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wara.errors import InputError
from wara.evaluation.binning import bin_count
from wara.evaluation.bootstrap import Floats, Ints, group_classes, group_index, replicate_weights
from wara.evaluation.weighted import WeightedMetrics

OVERALL = ("auroc", "balanced_accuracy", "accuracy", "f1", "brier", "ece")
_OVER_CLASSES = ("auroc", "balanced_accuracy", "f1")  # means over classes: one lone patient moves them
PER_CLASS = ("sensitivity", "specificity", "auroc_per_class")
_TAIL = 0.025  # on each side: 95 % intervals
FEW = 20  # patients of a class under which its intervals are called unreliable


def auroc(probabilities: npt.ArrayLike, targets: npt.ArrayLike) -> float | None:
    """Return the plain area under the ROC curve, for watching a run while it trains.

    Two classes: of the second class. More: the mean one-vs-rest area over the classes that have images.

    Args:
        probabilities: (n, k) probabilities or any scores that rank as they do.
        targets: (n,) true class of each image, in ``range(k)``.

    Returns:
        The area, or None where it is not defined: fewer than two classes among the targets, or scores that are
        not finite (a run that diverged).

    Raises:
        ValueError: if the shapes do not belong together.
    """
    scores, truth = _checked(probabilities, targets)
    if not np.isfinite(scores).all() or len(np.unique(truth)) < 2:
        return None
    value = WeightedMetrics(scores, truth)(np.ones((1, len(truth))))["auroc"][0]
    return None if np.isnan(value) else float(value)


def evaluate(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    classes: Sequence[str],
    groups: Sequence[str | None] | None = None,
    replicates: int = 1000,
    seed: int = 0,
    labels: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """Return every metric of one set of predictions with its 95 % interval, as JSON-able plain values.

    Point values follow scikit-learn: AUROC (two classes: of the second; more: macro one-vs-rest), balanced
    accuracy, accuracy, macro F1, Brier score (two classes: of the second, 0 to 1; more: summed over the classes,
    0 to 2) and, after Guo et al. 2017, the expected calibration error, in at most 15 bins of equal mass.

    Intervals are percentiles of a bootstrap that draws whole groups (patients), because images of one patient
    are not independent, and as many of each class as there are. Replicates in which a metric is not defined (a
    class was not drawn) are left out and counted. A proportion of exactly 0 or 1 would get an interval of no width
    from any bootstrap; it gets the exact binomial one (Clopper and Pearson 1934) over its groups instead, and says
    so. The calibration error is a sum of sizes, which chance alone makes larger, in the images and once more in every
    resample of them: percentiles would often lie wholly above it. Its interval is the basic one, the percentiles
    mirrored at the value (Davison and Hinkley 1997, section 5.2), from 0 on and widened to hold the value; that of a
    model whose probabilities are true may still end above 0.

    Args:
        probabilities: (n, k) probability of each class.
        targets: (n,) true class of each image, in ``range(k)``.
        classes: the k class names, in column order.
        groups: patient of each image; None or "" for an image whose patient is not known, which then counts as
            one of its own. None as a whole: every image is its own group.
        replicates: bootstrap replicates.
        seed: seed of the bootstrap.
        labels: (n,) class that each image is called, where an operating point decides; None: the most probable one.

    Returns:
        ``auroc``, ``balanced_accuracy``, ``accuracy``, ``f1``, ``brier``, ``ece``: each ``{"value", "low",
        "high", "left_out"}`` with ``"note"`` where something is to be known; ``sensitivity``, ``specificity``,
        ``auroc_per_class``: ``{class: the same}``; ``confusion``: rows true, columns predicted; ``classes``,
        ``n_images``, ``n_groups``, ``per_class_n`` (images), ``per_class_groups``, ``replicates``, ``seed``,
        ``ece_bins``, and ``warnings``: sentences on classes that are too small.

    Raises:
        InputError: if a probability is not finite.
        ValueError: if shapes or numbers of classes do not belong together.
    """
    scores, truth = _checked(probabilities, targets, len(classes))
    broken = int((~np.isfinite(scores).all(axis=1)).sum())
    if broken:
        raise InputError(
            "The model's probabilities are not numbers, so nothing can be measured",
            seen=f"{broken} of {len(scores)} images",
            remedy="The training diverged: train again with a lower learning rate.",
            code="not-finite",
        )
    index, n_groups = group_index(groups, len(truth))
    metrics = WeightedMetrics(scores, truth, None if labels is None else np.asarray(labels, dtype=np.int64))
    point = metrics(np.ones((1, len(truth))))
    sampled = _bootstrap(metrics, index, n_groups, replicates if len(truth) else 0, seed, truth)
    counts = np.bincount(truth, minlength=len(classes))
    sizes = {label: len(np.unique(index[truth == c])) for c, label in enumerate(classes)}
    lone = next((label for label, size in sizes.items() if size == 1), None)
    lone = lone if sum(size > 0 for size in sizes.values()) > 1 else None
    result: dict[str, Any] = {
        name: _summary(point[name][0], sampled[name], _members(name, truth, index, None), n_groups,
                       lone if name in _OVER_CLASSES else None, mirrored=name == "ece")
        for name in OVERALL
    }  # fmt: skip
    for name in PER_CLASS:
        result[name] = {
            label: _summary(
                point[name][0, c], sampled[name][:, c], _members(name, truth, index, c), n_groups,
                lone if name == "auroc_per_class" else None,
            )
            for c, label in enumerate(classes)
        }  # fmt: skip
    _say_which_classes_are_missing(result, metrics, list(classes))
    confusion = metrics.truth.T @ metrics.predicted
    return result | {
        "confusion": confusion.astype(int).tolist(),
        "classes": list(classes),
        "n_images": len(truth),
        "n_groups": n_groups,
        "per_class_n": {label: int(counts[c]) for c, label in enumerate(classes)},
        "per_class_groups": sizes,
        "replicates": replicates,
        "seed": seed,
        "ece_bins": bin_count(len(truth)),
        "warnings": small_sample_warnings(sizes, "images" if n_groups == len(truth) else "patients"),
    }


def small_sample_warnings(sizes: Mapping[str, int], of: str) -> list[str]:
    """Say of which classes there are too few.

    Args:
        sizes: patients (or images, where patients are not known) of each class.
        of: ``"patients"`` or ``"images"``.
    """
    sentences = []
    for label, size in sizes.items():
        if size == 1:
            sentences.append(
                f"There is only 1 {of.removesuffix('s')} of {label}: no interval can be given for what rests on it."
            )
        elif 0 < size < FEW:
            sentences.append(f"There are only {size} {of} of {label}: intervals that rest on them are unreliable.")
    return sentences


def _checked(
    probabilities: npt.ArrayLike, targets: npt.ArrayLike, num_classes: int | None = None
) -> tuple[Floats, Ints]:
    scores = np.asarray(probabilities, dtype=np.float64)
    truth = np.asarray(targets)
    if scores.ndim != 2 or truth.shape != scores.shape[:1]:
        raise ValueError(f"probabilities {scores.shape} and targets {truth.shape} must be (n, k) and (n,)")
    if num_classes is not None and scores.shape[1] != num_classes:
        raise ValueError(f"probabilities have {scores.shape[1]} columns for {num_classes} classes")
    if scores.shape[1] < 2:
        raise ValueError(f"probabilities have {scores.shape[1]} column; a classifier has at least two classes")
    truth = truth.astype(np.int64)
    if truth.size and not (truth.min() >= 0 and truth.max() < scores.shape[1]):
        raise ValueError(f"targets run from {truth.min()} to {truth.max()}, outside 0 to {scores.shape[1] - 1}")
    return scores, truth


def _bootstrap(
    metrics: WeightedMetrics, index: Ints, n_groups: int, replicates: int, seed: int, truth: Ints
) -> dict[str, npt.NDArray[np.float64]]:
    if not replicates:
        return {name: values[:0] for name, values in metrics(np.ones((1, len(index)))).items()}
    strata = group_classes(index, n_groups, truth)
    chunks = [metrics(weights) for weights in replicate_weights(index, n_groups, replicates, seed, strata)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _members(name: str, truth: Ints, index: Ints, c: int | None) -> int | None:
    """Return how many groups a proportion rests on; None for a metric that is no plain proportion."""
    if name == "accuracy":
        return len(np.unique(index))
    if name == "sensitivity":
        return len(np.unique(index[truth == c]))
    if name == "specificity":
        return len(np.unique(index[truth != c]))
    return None


def _summary(
    value: float, sampled: Floats, members: int | None, n_groups: int, lone: str | None, *, mirrored: bool = False
) -> dict[str, Any]:
    """Put one metric, its interval and what is to be known about it into a dict.

    ``lone``: a class of a single patient that the metric rests on; resampling cannot tell how others would differ.
    ``mirrored``: take the basic interval of a metric of at least 0 that chance makes larger.
    """
    if np.isnan(value):
        return {"value": None, "low": None, "high": None, "left_out": len(sampled), "note": "Not defined here."}
    summary: dict[str, Any] = {"value": float(value), "low": None, "high": None}
    defined = sampled[~np.isnan(sampled)]
    summary["left_out"] = len(sampled) - len(defined)
    if members and value in (0.0, 1.0):
        bound = _TAIL ** (1 / members)
        summary["low"], summary["high"] = (0.0, 1.0 - bound) if value == 0.0 else (bound, 1.0)
        summary["note"] = f"Exact binomial interval over {members}: all of them came out the same way."
    elif n_groups < 2:
        summary["note"] = "No interval: all images are of one patient."
    elif lone is not None or members == 1:
        summary["note"] = f"No interval: only one patient{f' of {lone}' if lone else ''} stands behind it."
    elif not len(defined):
        summary["note"] = "No interval: not defined in any resample."
    else:
        low, high = np.quantile(defined, (_TAIL, 1 - _TAIL))
        if mirrored:
            low, high = np.clip(2 * value - high, 0, value), max(value, 2 * value - low)
        summary["low"], summary["high"] = float(low), float(high)
        if low == high:
            summary["note"] = "Every resample gave the same value, so the interval is too narrow: too few images."
        elif summary["left_out"] > len(sampled) / 10:
            left = summary["left_out"]
            summary["note"] = f"In {left} of {len(sampled)} resamples a class had no image; they were left out."
    return summary


def _say_which_classes_are_missing(result: dict[str, Any], metrics: WeightedMetrics, classes: list[str]) -> None:
    """Replace the notes of what is not defined by the reason, and say which classes a mean leaves out."""
    missing = [label for label, present in zip(classes, metrics.present, strict=True) if not present]
    if not missing:
        return
    without = f"No images of {', '.join(missing)} here"
    for name in OVERALL:
        if result[name]["value"] is None:
            result[name]["note"] = f"{without}, so this is not defined."
        elif name in ("auroc", "balanced_accuracy"):
            result[name]["note"] = f"{without}; the mean is over the other classes."
    for name in PER_CLASS:
        for entry in result[name].values():
            if entry["value"] is None:
                entry["note"] = f"{without}, so this is not defined."
