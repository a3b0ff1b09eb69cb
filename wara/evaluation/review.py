"""A finished run looked at closely: every curve, which images were taken for what, and two runs side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wara.errors import InputError
from wara.evaluation.answers import Answers
from wara.evaluation.bootstrap import Ints
from wara.evaluation.calibration import reliability
from wara.evaluation.choices import parse_criterion
from wara.evaluation.comparison import compare
from wara.evaluation.curves import all_curves
from wara.evaluation.metrics import evaluate
from wara.evaluation.operating import OperatingPoint, choose, labels_at, measure
from wara.evaluation.patients import by_patient, evaluate_patients
from wara.evaluation.point_in_use import forget_point, read_point, store_point
from wara.evaluation.predictions import Predictions, read_predictions
from wara.evaluation.proportion import proportion
from wara.evaluation.reading import read_confusion

MOST_FILES = 200  # named a cell
MOST_ERRORS = 30
REPLICATES = 500


def review(run: Path, criterion: str | None = None, seed: int = 0) -> dict[str, Any]:
    """Return everything that a page or a reader wants to see of a run's test images.

    Args:
        run: the RUN folder.
        criterion: another rule for the operating point than that of the one in use, see
            :func:`wara.evaluation.choices.parse_criterion`; it is chosen on validation images, as the run's own was.
            None takes the point in use: the run's own, or the one chosen since by :func:`use_point`.
        seed: seed of the bootstrap.

    Returns:
        ``classes``, ``n_images``, ``n_patients`` (None where not known), ``curves`` (see
        :func:`wara.evaluation.curves.all_curves`), ``reliability`` and ``reliability_uncalibrated``, ``temperature``,
        ``operating_point`` (None for more than two classes; with ``in_use`` and ``from_training``, and
        ``patients`` where they have several images), ``confusion`` (with
        ``reading``), ``confident_errors``, and ``measured``: the metrics of the test images at this operating point, as
        of :func:`wara.evaluation.metrics.evaluate` with ``patients``, None where metrics.json holds them already.

    Raises:
        InputError: the folder is no whole run, or the criterion cannot be used.
    """
    recipe = _recipe(run)
    classes = [str(name) for name in recipe["classes"]]
    sides = read_predictions(run / "predictions.csv", classes)
    test, answers = _test_side(run, sides), Answers.load(run / "calibration.json")
    own = answers.operating_point
    in_use = read_point(run) or own
    point = in_use if criterion is None else _choose(sides, classes, criterion, own)
    # The run's own labels as they were written, before the probabilities were rounded.
    as_trained = point is None or point == own
    labels = test.labels if as_trained or point is None else labels_at(test.probabilities, point.threshold)
    groups = test.groups()
    options = {"replicates": REPLICATES, "seed": seed}
    return {
        "classes": list(classes),
        "n_images": len(test.files),
        "n_patients": len({who for who in test.patients if who}) or None,
        "curves": all_curves(test.probabilities, test.targets, classes, groups, **options),
        "reliability": reliability(test.probabilities, test.targets, groups, **options),
        "reliability_uncalibrated": reliability(test.uncalibrated, test.targets, groups, **options),
        "temperature": answers.temperature.value,
        "operating_point": None if point is None else _point(point, sides, classes, _rule(recipe), options)
        | {"in_use": point == in_use, "from_training": point == own},
        "confusion": _confusion(test, labels, classes, groups),
        "confident_errors": _confident_errors(test, labels, classes),
        "measured": None if as_trained else _measured(test, labels, classes, point, recipe),
    }  # fmt: skip


def use_point(run: Path, criterion: str | None) -> None:
    """Let a run be used with another operating point from now on, chosen on its validation images.

    Args:
        run: the RUN folder.
        criterion: see :func:`wara.evaluation.choices.parse_criterion`; None goes back to the run's own.

    Raises:
        InputError: the folder is no whole run, or the criterion cannot be used.
    """
    if criterion is None:
        forget_point(run)
        return
    classes = _classes(run)
    sides, own = read_predictions(run / "predictions.csv", classes), Answers.load(run / "calibration.json")
    test, point = _test_side(run, sides), _choose(sides, classes, criterion, own.operating_point)
    if point == own.operating_point:
        forget_point(run)
        return
    measured = measure(test.probabilities[:, 1], test.targets, point.threshold, test.groups(), replicates=REPLICATES)
    store_point(run, point, classes[1], measured)


def _measured(
    test: Predictions, labels: Ints, classes: Sequence[str], point: OperatingPoint | None, recipe: dict[str, Any]
) -> dict[str, Any]:
    """Return the metrics of images and of patients at another operating point than that of metrics.json.

    Resampled as often and by the seed of the training, so that what no threshold changes stays as it is.
    """
    groups = test.groups()
    options = {"replicates": int(recipe.get("bootstrap", REPLICATES)), "seed": int(recipe.get("seed", 0))}
    found = evaluate(test.probabilities, test.targets, classes, groups, labels=labels, **options)
    patients = evaluate_patients(
        test.probabilities, test.targets, classes, groups, rule=_rule(recipe),
        threshold=None if point is None else point.threshold, **options,
    )  # fmt: skip
    return found if patients is None else found | {"patients": patients}


def _rule(recipe: dict[str, Any]) -> str:
    return str(recipe.get("patient_rule", "mean"))


def _classes(run: Path) -> list[str]:
    return [str(name) for name in _recipe(run)["classes"]]


def _recipe(run: Path) -> dict[str, Any]:
    try:
        recipe: dict[str, Any] = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
        if not isinstance(recipe["classes"], list):
            raise TypeError("classes")
        return recipe
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "This folder is not a whole training run: its recipe.json cannot be read", seen=run.name,
            remedy="Give the folder that training wrote.", code="run-damaged",
        ) from error  # fmt: skip


def _test_side(run: Path, sides: dict[str, Predictions]) -> Predictions:
    if "test" not in sides:
        raise InputError(
            "This run has no test images", seen=run.name, remedy="Train again with images in the test part.",
            code="no-test-images",
        )  # fmt: skip
    return sides["test"]


def _choose(
    sides: dict[str, Predictions], classes: Sequence[str], criterion: str, own: OperatingPoint | None
) -> OperatingPoint:
    """Choose on validation images; by the run's own rule it is the run's own point, which no rounding has touched."""
    if len(classes) != 2:
        raise InputError(
            "Only a model of two classes has an operating point", seen=f"{len(classes)} classes",
            remedy="Leave the criterion out.", code="operating-point",
        )  # fmt: skip
    if own is not None and parse_criterion(criterion) == (own.criterion, own.target):
        return own
    val = sides.get("val")
    point = None if val is None else choose(val.probabilities[:, 1], val.targets, criterion)
    if point is None:
        raise InputError(
            "No operating point can be chosen: the validation part lacks images of a class", seen=criterion,
            remedy="Train with validation images of both classes.", code="operating-point",
        )  # fmt: skip
    return point


def _point(
    point: OperatingPoint, sides: dict[str, Predictions], classes: Sequence[str], rule: str, options: dict[str, int]
) -> dict[str, Any]:
    measured = {
        name: measure(side.probabilities[:, 1], side.targets, point.threshold, side.groups(), **options)
        for name, side in sides.items()
    }
    found = point.to_dict() | {"positive": classes[1], "sentence": point.sentence(classes[1]), **measured}
    patients = by_patient(sides["test"].probabilities, sides["test"].targets, sides["test"].groups(), rule)
    if patients.several:
        # Each patient is one row here, so the intervals are exact and nothing is drawn.
        found["patients"] = measure(patients.probabilities[:, 1], patients.targets, point.threshold)
    return found


def _confusion(
    test: Predictions, labels: Ints, classes: Sequence[str], groups: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    """Return the matrix, and which files stand in each of its cells that is not empty, the surest first."""
    matrix = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(matrix, (test.targets, labels), 1)
    cells = []
    for true, called in zip(*np.nonzero(matrix), strict=True):
        inside = np.flatnonzero((test.targets == true) & (labels == called))
        inside = inside[np.argsort(-test.probabilities[inside, called], kind="stable")]
        cells.append({
            "label": classes[true], "predicted": classes[called], "n": len(inside),
            "files": [test.files[i] for i in inside[:MOST_FILES]],
            "probabilities": test.probabilities[inside[:MOST_FILES], called].tolist(),
        })  # fmt: skip
    found = {
        name: proportion(labels == c, groups, of=test.targets == c, replicates=REPLICATES)
        for c, name in enumerate(classes)
    }
    reading = read_confusion({"confusion": matrix.tolist(), "sensitivity": found}, classes)
    return {"matrix": matrix.tolist(), "cells": cells, "reading": reading}


def _confident_errors(test: Predictions, labels: Ints, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the wrongly called images of which the model was surest."""
    wrong = np.flatnonzero(labels != test.targets)
    sure = test.probabilities[wrong, labels[wrong]]
    wrong = wrong[np.argsort(-sure, kind="stable")][:MOST_ERRORS]
    return [
        {
            "file": test.files[i],
            "label": classes[test.targets[i]],
            "predicted": classes[labels[i]],
            "probability": float(test.probabilities[i, labels[i]]),
            "warning": bool(test.novel[i]) if test.novel is not None else False,
        }
        for i in wrong.tolist()
    ]


def compare_runs(first: Path, second: Path, seed: int = 0) -> dict[str, Any]:
    """Return the difference of two runs' test AUROC on the same images, see :func:`wara.evaluation.comparison.compare`.

    Raises:
        InputError: the runs have other classes or were tested on other images; code ``"comparison-other-images"``.
    """
    classes = _classes(first)
    if _classes(second) != classes:
        raise InputError(
            "The two models have other classes", seen=f"{', '.join(classes)}; {', '.join(_classes(second))}",
            remedy="Compare models of the same classes.", code="comparison-other-images",
        )  # fmt: skip
    one, two = (_test_side(run, read_predictions(run / "predictions.csv", classes)) for run in (first, second))
    place = {file: i for i, file in enumerate(two.files)}
    shared = [file for file in one.files if file in place]
    order = [place[file] for file in shared]
    if len(shared) < max(len(one.files), len(two.files)) or (one.targets != two.targets[order]).any():
        raise InputError(
            "The two models were tested on other images, so their results cannot be paired",
            seen=f"{len(shared):,} images in common of {len(one.files):,} and {len(two.files):,}",
            remedy="Train both on the same data set with the same seed, then compare.", code="comparison-other-images",
        )  # fmt: skip
    return compare(one.probabilities, two.probabilities[order], one.targets, classes, one.groups(), seed=seed)
