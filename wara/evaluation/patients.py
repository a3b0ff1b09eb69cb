"""From images to patients: one answer for all images of a patient, measured beside the answers for images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wara.errors import InputError
from wara.evaluation.bootstrap import Floats, Ints, group_index
from wara.evaluation.choices import PATIENT_RULES
from wara.evaluation.metrics import evaluate, small_sample_warnings
from wara.evaluation.operating import labels_at


@dataclass(frozen=True)
class PatientScores:
    """The answers for patients.

    Attributes:
        probabilities: (m, k), one row a patient.
        targets: (m,) class of each patient.
        mixed: patients left out because their images have different classes (more than two classes only).
        several: whether any patient has more than one image.
    """

    probabilities: Floats
    targets: Ints
    mixed: int
    several: bool


def by_patient(
    probabilities: npt.ArrayLike, targets: npt.ArrayLike, groups: Sequence[str | None], rule: str = "mean"
) -> PatientScores:
    """Put the images of each patient together.

    ``"mean"``: the mean of the probabilities, for findings that show in most images of a patient. ``"worst"``: the
    row of the image with the highest probability of the second class (two classes), or the lowest of the first,
    which then is the reference such as "normal" (more classes); for findings that one image suffices to show. A
    patient is of the second class if any image is; with more than two classes a patient whose images have different
    classes has no class of its own and is left out.

    Args:
        probabilities: (n, k).
        targets: (n,) class of each image.
        groups: patient of each image; an image without one stands for itself.
        rule: ``"mean"`` or ``"worst"``.

    Raises:
        InputError: an unknown rule; code ``"patient-rule"``.
    """
    if rule not in PATIENT_RULES:
        raise InputError(
            "There is no such rule for putting images of a patient together", seen=rule,
            remedy=f"Use {' or '.join(PATIENT_RULES)}.", code="patient-rule",
        )  # fmt: skip
    scores, truth = np.asarray(probabilities, dtype=float), np.asarray(targets, dtype=np.int64)
    k = scores.shape[1]
    index, count = group_index(groups, len(truth))
    sizes = np.bincount(index, minlength=count)
    if rule == "mean":
        rows = np.zeros((count, k))
        np.add.at(rows, index, scores)
        rows /= np.maximum(sizes, 1)[:, None]
    else:
        order = np.lexsort((-scores[:, 1] if k == 2 else scores[:, 0], index))
        rows = scores[order[np.cumsum(sizes) - sizes]]
    highest, lowest = np.zeros(count, dtype=np.int64), np.full(count, k, dtype=np.int64)
    np.maximum.at(highest, index, truth)
    np.minimum.at(lowest, index, truth)
    kept = np.ones(count, dtype=bool) if k == 2 else highest == lowest
    return PatientScores(rows[kept], highest[kept], int((~kept).sum()), bool((sizes > 1).any()))


def evaluate_patients(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    classes: Sequence[str],
    groups: Sequence[str | None],
    *,
    rule: str = "mean",
    threshold: float | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Return the metrics of :func:`wara.evaluation.metrics.evaluate` over patients; None where each has one image.

    Args:
        probabilities: (n, k) of images.
        targets: (n,) class of each image.
        classes: the class names.
        groups: patient of each image.
        rule: see :func:`by_patient`.
        threshold: probability of the second class from which a patient is called so; None: the most probable class.
        replicates: bootstrap replicates.
        seed: seed of the bootstrap.

    Returns:
        The metrics, with ``rule`` and ``mixed_left_out`` (patients); ``n_images`` then counts patients.
    """
    patients = by_patient(probabilities, targets, groups, rule)
    if not patients.several or not len(patients.targets):
        return None
    result = evaluate(
        patients.probabilities, patients.targets, classes, replicates=replicates, seed=seed,
        labels=labels_at(patients.probabilities, threshold),
    )  # fmt: skip
    result["warnings"] = small_sample_warnings(result["per_class_groups"], "patients")
    return result | {"rule": rule, "mixed_left_out": patients.mixed}
