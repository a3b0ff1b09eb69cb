"""What metrics.json says of a run: its answers measured on test and validation images, every part with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wara.evaluation.answers import Answers
from wara.evaluation.calibration import log_loss
from wara.evaluation.conformal import measure_sets
from wara.evaluation.delong import delong
from wara.evaluation.metrics import evaluate
from wara.evaluation.novelty import Novelty, measure_novelty
from wara.evaluation.operating import measure
from wara.evaluation.patients import evaluate_patients
from wara.evaluation.predictions import Predictions
from wara.evaluation.subgroups import age_band, subgroup_table


def assess(
    sides: dict[str, Predictions],
    classes: Sequence[str],
    answers: Answers,
    novelty: Novelty | None,
    features: npt.ArrayLike | None,
    *,
    patient_rule: str = "mean",
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure everything that the run's answers hold.

    Args:
        sides: the answers for ``"val"`` and ``"test"``.
        classes: the class names.
        answers: what was learned on validation images.
        novelty: the warning for unlike images, or None.
        features: (n, d) of the test images, for the warning's false alarms.
        patient_rule: see :func:`wara.evaluation.patients.by_patient`.
        replicates: bootstrap replicates.
        seed: seed of the bootstrap.

    Returns:
        ``test`` and ``val`` as of :func:`wara.evaluation.metrics.evaluate` by the calibrated probabilities and the
        labels of the operating point, with ``patients`` where patients have several images and ``auroc_delong`` where
        it can be had; ``calibration``, ``operating_point``, ``prediction_sets``, ``novelty`` and ``subgroups`` of the
        test images, each None where the run has none.
    """
    options = {"replicates": replicates, "seed": seed}
    result: dict[str, Any] = {}
    for name, side in sides.items():
        groups = side.groups()
        found = evaluate(side.probabilities, side.targets, classes, groups, labels=side.labels, **options)
        patients = evaluate_patients(
            side.probabilities, side.targets, classes, groups, rule=patient_rule, threshold=answers.threshold, **options
        )
        result[name] = found | {"auroc_delong": _by_delong(side, len(classes))}
        if patients is not None:
            result[name]["patients"] = patients
    test = sides["test"]
    groups = test.groups()
    raw = evaluate(test.uncalibrated, test.targets, classes, groups, **options)
    point, sets = answers.operating_point, answers.conformal
    result["calibration"] = {
        "temperature": answers.temperature.value,
        "note": answers.temperature.note,
        "uncalibrated": {
            "ece": raw["ece"], "brier": raw["brier"], "log_loss": log_loss(test.uncalibrated, test.targets),
        },
        "log_loss": log_loss(test.probabilities, test.targets),
    }  # fmt: skip
    result["operating_point"] = None
    if point is not None:
        measured = {
            name: measure(side.probabilities[:, 1], side.targets, point.threshold, side.groups(), **options)
            for name, side in sides.items()
        }
        result["operating_point"] = point.to_dict() | {
            "positive": classes[1], "sentence": point.sentence(classes[1]), **measured,
        }  # fmt: skip
    result["prediction_sets"] = (
        None if sets is None else measure_sets(sets, test.probabilities, test.targets, groups, **options)
    )
    result["novelty"] = (
        None if novelty is None or features is None else measure_novelty(novelty, features, groups, **options)
    )
    table = subgroup_table(
        test.probabilities, test.targets, classes, _traits(test), groups, labels=test.labels, **options
    )
    result["subgroups"] = table or None
    return result


def _by_delong(side: Predictions, k: int) -> dict[str, Any] | None:
    """Return DeLong's interval of a two-class AUROC, where each image is of another patient."""
    counts = np.bincount(side.targets, minlength=2)
    if k != 2 or counts.min() < 2 or len(set(side.groups())) < len(side.files):
        return None
    areas = delong(side.probabilities[:, 1], side.targets == 1)
    low, high = areas.interval()
    if np.isnan(low):
        return None
    return {"value": float(areas.values[0]), "low": low, "high": high}


def _traits(side: Predictions) -> dict[str, list[str | None]]:
    traits = dict(side.traits)
    if "age" in traits:
        traits["age"] = [age_band(float(age)) if age else None for age in traits["age"]]
    return traits
