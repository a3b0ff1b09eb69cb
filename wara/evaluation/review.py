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
from wara.evaluation.comparison import compare
from wara.evaluation.curves import all_curves
from wara.evaluation.operating import OperatingPoint, choose, labels_at, measure
from wara.evaluation.predictions import Predictions, read_predictions

MOST_FILES = 200  # named a cell
MOST_ERRORS = 30
REPLICATES = 500


def review(run: Path, criterion: str | None = None, seed: int = 0) -> dict[str, Any]:
    """Return everything that a page or a reader wants to see of a run's test images.

    Args:
        run: the RUN folder.
        criterion: another rule for the operating point than the run's own, see
            :func:`wara.evaluation.choices.parse_criterion`; it is chosen on validation images, as the run's own was.
        seed: seed of the bootstrap.

    Returns:
        ``classes``, ``n_images``, ``n_patients`` (None where not known), ``curves`` (see
        :func:`wara.evaluation.curves.all_curves`), ``reliability`` and ``reliability_uncalibrated``, ``temperature``,
        ``operating_point`` (None for more than two classes), ``confusion``, ``confident_errors``.

    Raises:
        InputError: the folder is no whole run, or the criterion cannot be used.
    """
    classes = _classes(run)
    sides = read_predictions(run / "predictions.csv", classes)
    test, answers = _test_side(run, sides), Answers.load(run / "calibration.json")
    point = answers.operating_point
    if criterion is not None:
        point = _choose(sides, classes, criterion)
    # The run's own labels as they were written, before the probabilities were rounded.
    labels = test.labels if criterion is None or point is None else labels_at(test.probabilities, point.threshold)
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
        "operating_point": None if point is None else _point(point, sides, classes, options),
        "confusion": _confusion(test, labels, classes),
        "confident_errors": _confident_errors(test, labels, classes),
    }


def _classes(run: Path) -> list[str]:
    try:
        recipe = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
        return [str(name) for name in recipe["classes"]]
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


def _choose(sides: dict[str, Predictions], classes: Sequence[str], criterion: str) -> OperatingPoint:
    if len(classes) != 2:
        raise InputError(
            "Only a model of two classes has an operating point", seen=f"{len(classes)} classes",
            remedy="Leave the criterion out.", code="operating-point",
        )  # fmt: skip
    val = sides.get("val")
    point = None if val is None else choose(val.probabilities[:, 1], val.targets, criterion)
    if point is None:
        raise InputError(
            "No operating point can be chosen: the validation part lacks images of a class", seen=criterion,
            remedy="Train with validation images of both classes.", code="operating-point",
        )  # fmt: skip
    return point


def _point(
    point: OperatingPoint, sides: dict[str, Predictions], classes: Sequence[str], options: dict[str, int]
) -> dict[str, Any]:
    measured = {
        name: measure(side.probabilities[:, 1], side.targets, point.threshold, side.groups(), **options)
        for name, side in sides.items()
    }
    return point.to_dict() | {"positive": classes[1], "sentence": point.sentence(classes[1]), **measured}


def _confusion(test: Predictions, labels: Ints, classes: Sequence[str]) -> dict[str, Any]:
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
        })  # fmt: skip
    return {"matrix": matrix.tolist(), "cells": cells}


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
