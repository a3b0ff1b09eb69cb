"""Are the probabilities true? Temperature scaling on validation images, and the reliability curve that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from wara.evaluation.binning import bin_count, equal_mass_bins
from wara.evaluation.bootstrap import Floats, Ints
from wara.evaluation.proportion import proportion

LEAST_IMAGES = 20
_RANGE = (0.05, 20.0)
_TINY = 1e-30  # probabilities that were rounded to 0 still need a logarithm


@dataclass(frozen=True)
class Temperature:
    """By what the logits are divided before they become probabilities.

    Attributes:
        value: above 1 the model was too sure of itself, below 1 not sure enough; 1 changes nothing.
        note: why nothing was fitted, or None.
    """

    value: float
    note: str | None = None


def fit_temperature(probabilities: npt.ArrayLike, targets: npt.ArrayLike) -> Temperature:
    """Fit the temperature on validation images: the one with the least log loss (Guo et al. 2017, section 4.2).

    The log loss is convex in the inverse temperature, so a search along one line finds it. Where all validation
    images are classified correctly, the least loss would lie at certainty itself, and nothing is fitted.

    Args:
        probabilities: (n, k) of the network itself.
        targets: (n,) true classes.
    """
    scores, truth = np.asarray(probabilities, dtype=float), np.asarray(targets, dtype=np.int64)
    if len(truth) < LEAST_IMAGES:
        return Temperature(1.0, f"There are only {len(truth)} validation images, too few to calibrate on.")
    if (scores.argmax(axis=1) == truth).all():
        return Temperature(
            1.0, "All validation images were classified correctly: they cannot show how sure is too sure."
        )
    logits = np.log(np.maximum(scores, _TINY))

    def loss(inverse: float) -> float:
        return -float(log_softmax(logits * inverse, axis=1)[np.arange(len(truth)), truth].mean())

    found = minimize_scalar(
        loss, bounds=(1 / _RANGE[1], 1 / _RANGE[0]), method="bounded", options={"xatol": 1e-6}
    )  # fmt: skip
    return Temperature(float(1 / found.x))


def apply_temperature(probabilities: npt.ArrayLike, temperature: float) -> Floats:
    """Return the calibrated probabilities (n, k); the order of an image's classes stays as it was.

    Args:
        probabilities: (n, k) of the network itself, which are logits up to a constant of each row.
        temperature: of :func:`fit_temperature`.
    """
    scores = np.asarray(probabilities, dtype=float)
    if temperature == 1 or not len(scores):
        return scores
    return np.asarray(softmax(np.log(np.maximum(scores, _TINY)) / temperature, axis=1))


def log_loss(probabilities: Floats, targets: Ints) -> float | None:
    """Return the mean negative logarithm of the true class's probability; None without images."""
    if not len(targets):
        return None
    return -float(np.log(np.maximum(probabilities[np.arange(len(targets)), targets], _TINY)).mean())


def reliability(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    groups: Sequence[str | None] | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the points of the reliability curve, in bins of equal mass.

    Two classes: the probability of the second against the share that is of it. More: the probability of the most
    probable class against the share of right answers.

    Args:
        probabilities: (n, k).
        targets: (n,) true classes.
        groups: patient of each image.
        replicates: bootstrap replicates, where patients have several images.
        seed: seed of the bootstrap.

    Returns:
        For each bin ``stated`` (mean probability), ``observed`` (the share) with ``low`` and ``high``, and ``n``.
    """
    scores, truth = np.asarray(probabilities, dtype=float), np.asarray(targets, dtype=np.int64)
    two = scores.shape[1] == 2
    stated = scores[:, 1] if two else scores.max(axis=1)
    held = truth == (1 if two else scores.argmax(axis=1))
    bins = equal_mass_bins(stated, bin_count(len(stated)))
    points = []
    for number in np.unique(bins):
        inside = bins == number
        share = proportion(held, groups, of=inside, replicates=replicates, seed=seed)
        points.append({"stated": float(stated[inside].mean()), "observed": share["value"], **{
            key: share[key] for key in ("low", "high", "n")
        }})  # fmt: skip
    return points
