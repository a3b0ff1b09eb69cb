"""After the training: learn the answers on validation images, measure them once on test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from wara.backbones import Backbone
from wara.data.batches import Batches
from wara.data.items import Item
from wara.errors import InputError
from wara.evaluation.answers import Answers, fit_answers
from wara.evaluation.assessment import assess
from wara.evaluation.novelty import Novelty, fit_novelty
from wara.evaluation.predictions import Predictions
from wara.training.features import HeadInputs
from wara.training.loop import predict
from wara.training.recipe import Recipe

# Training images behind the means and the covariance of the features: more add seconds and little else.
MOST_TRAINING_IMAGES = 2_000


@dataclass(frozen=True)
class Side:
    """Images of one side of the split, with what is known of them."""

    batches: Batches
    items: Sequence[Item]


@dataclass(frozen=True)
class Tested:
    """What testing leaves.

    Attributes:
        metrics: see :func:`wara.evaluation.assessment.assess`.
        answers: learned on validation images.
        novelty: the warning for unlike images, or None where it could not be fitted.
        predictions: of ``"val"`` and ``"test"``.
    """

    metrics: dict[str, Any]
    answers: Answers
    novelty: Novelty | None
    predictions: dict[str, Predictions]


def training_rows(rows: Sequence[int], seed: int, most: int = MOST_TRAINING_IMAGES) -> list[int]:
    """Return the training images whose features are measured: all, or so many drawn by the seed."""
    if len(rows) <= most:
        return list(rows)
    drawn = np.random.default_rng(seed).choice(len(rows), most, replace=False)
    return [rows[i] for i in np.sort(drawn)]


def measure_model(
    model: nn.Module,
    backbone: Backbone,
    sides: dict[str, Side],
    classes: Sequence[str],
    recipe: Recipe,
) -> Tested:
    """Learn temperature, operating point, sets and warning, then measure all of it.

    Args:
        model: the trained model.
        backbone: what it was made of.
        sides: ``"train"`` (unaugmented; see :func:`training_rows`), ``"val"`` and ``"test"``.
        classes: the class names.
        recipe: the options.

    Raises:
        InputError: the model's probabilities are not finite.
    """
    raw: dict[str, NDArray[np.float64]] = {}
    features: dict[str, NDArray[np.float64]] = {}
    for name, side in sides.items():
        with HeadInputs(model, backbone) as caught:
            raw[name], _ = predict(model, side.batches, recipe.precision)
        features[name] = caught.array()
        _require_finite(raw[name])
    targets = {name: side.batches.targets.numpy() for name, side in sides.items()}
    answers = fit_answers(raw["val"], targets["val"], criterion=recipe.operating_point, coverage=recipe.coverage)
    novelty = fit_novelty(features["train"], targets["train"], features["val"])
    predictions = {
        name: _answered(name, sides[name], raw[name], targets[name], features[name], answers, novelty)
        for name in ("val", "test")
    }
    metrics = assess(
        {name: predictions[name] for name in ("test", "val")}, classes, answers, novelty, features["test"],
        patient_rule=recipe.patient_rule, replicates=recipe.bootstrap, seed=recipe.seed,
    )  # fmt: skip
    return Tested(metrics, answers, novelty, predictions)


def _answered(
    name: str, side: Side, raw: NDArray[np.float64], targets: NDArray[np.int64], features: NDArray[np.float64],
    answers: Answers, novelty: Novelty | None,
) -> Predictions:  # fmt: skip
    calibrated = answers.calibrated(raw)
    traits: dict[str, list[str | None]] = {
        "sex": [item.sex for item in side.items],
        "age": [None if item.age is None else f"{item.age:g}" for item in side.items],
    }
    return Predictions(
        split=name,
        files=[item.file for item in side.items],
        targets=targets,
        labels=answers.labels(calibrated),
        probabilities=calibrated,
        uncalibrated=raw,
        sets=answers.sets(calibrated),
        novel=None if novelty is None else (novelty.distances(features) > novelty.threshold).tolist(),
        patients=[item.patient for item in side.items],
        traits={trait: values for trait, values in traits.items() if any(values)},
    )


def _require_finite(probabilities: NDArray[np.float64]) -> None:
    broken = int((~np.isfinite(probabilities).all(axis=1)).sum())
    if broken:
        raise InputError(
            "The model's probabilities are not numbers, so nothing can be measured",
            seen=f"{broken} of {len(probabilities)} images", remedy="Train again with a lower learning rate.",
            code="not-finite",
        )  # fmt: skip
