"""The operating point of a two-class model: the probability from which an image is called positive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wara.evaluation.bootstrap import Floats, Ints
from wara.evaluation.choices import DEFAULT, parse_criterion, percent_asked
from wara.evaluation.proportion import proportion


@dataclass(frozen=True)
class OperatingPoint:
    """From which probability of the second class on an image is called so.

    Attributes:
        threshold: the probability; an image at or above it is called positive.
        criterion: ``"youden"``, ``"sensitivity"``, ``"specificity"`` or ``"cost"``.
        target: the least sensitivity or specificity, or how many false alarms one missed positive is worth.
    """

    threshold: float
    criterion: str
    target: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values."""
        return asdict(self)

    def sentence(self, positive: str) -> str:
        """Say in plain words how it was chosen.

        Args:
            positive: name of the second class.
        """
        asked = percent_asked(self.target or 0)
        why = {
            "youden": "where sensitivity and specificity together are highest (Youden's index)",
            "sensitivity": f"as the highest with a sensitivity of at least {asked}",
            "specificity": f"as the lowest with a specificity of at least {asked}",
            "cost": f"where cost is least, if one missed {positive} weighs as much as {self.target:g} false alarms"
            if self.target else "",
        }[self.criterion]  # fmt: skip
        called = f"An image is called {positive} from a probability of {_shown(self.threshold)} on"
        if self.threshold > 1:
            called = f"No image is called {positive}, however probable"
        return f"{called}; this was chosen on the validation images, {why}."


def _shown(threshold: float) -> str:
    """Return a threshold to three decimals, to more where it would read as 0 or 1, which it is not."""
    texts = (f"{threshold:.{digits}f}" for digits in range(3, 18))
    return next((text for text in texts if not 0 < threshold < 1 or 0 < float(text) < 1), f"{threshold:g}")


def choose(probabilities: npt.ArrayLike, targets: npt.ArrayLike, criterion: str = DEFAULT) -> OperatingPoint | None:
    """Choose the threshold on validation images.

    Candidates lie midway between neighbouring probabilities, below all and above all. ``youden``: largest sensitivity
    + specificity - 1 (Youden 1950); ``cost``: least of ratio x missed + false alarms; equally good ones are settled
    by the nearest to 0.5. ``sensitivity``: the highest threshold that keeps it; ``specificity``: the lowest.

    Args:
        probabilities: (n,) probability of the second class.
        targets: (n,) 0 or 1.
        criterion: see :func:`wara.evaluation.choices.parse_criterion`.

    Returns:
        The operating point, or None where one of the classes has no image.

    Raises:
        InputError: a criterion that cannot be read.
    """
    name, target = parse_criterion(criterion)
    scores, truth = np.asarray(probabilities, dtype=float), np.asarray(targets, dtype=np.int64)
    if not 0 < truth.sum() < len(truth):
        return None
    thresholds, sensitivity, specificity = _along(scores, truth)
    positives, negatives = truth.sum(), (truth == 0).sum()
    slack = 1e-12  # a share such as 0.95 is not exact in binary
    if name == "sensitivity":
        return OperatingPoint(float(thresholds[sensitivity >= (target or 0) - slack].max()), name, target)
    if name == "specificity":
        return OperatingPoint(float(thresholds[specificity >= (target or 0) - slack].min()), name, target)
    if name == "cost":
        gain = -((target or 0) * positives * (1 - sensitivity) + negatives * (1 - specificity))
    else:
        gain = sensitivity + specificity
    best = thresholds[gain >= gain.max() - slack]
    return OperatingPoint(float(best[np.abs(best - 0.5).argmin()]), name, target)


def _along(scores: Floats, truth: Ints) -> tuple[Floats, Floats, Floats]:
    """Return candidate thresholds, and sensitivity and specificity at each."""
    values = np.unique(scores)
    thresholds = np.concatenate([[values[0] / 2], (values[:-1] + values[1:]) / 2, [(values[-1] + 1) / 2]])
    if values[-1] >= 1:
        thresholds[-1] = np.nextafter(values[-1], 2)
    positives, negatives = np.sort(scores[truth == 1]), np.sort(scores[truth == 0])
    missed = np.searchsorted(positives, thresholds, side="left")
    rejected = np.searchsorted(negatives, thresholds, side="left")
    return thresholds, 1 - missed / len(positives), rejected / len(negatives)


def labels_at(probabilities: Floats, threshold: float | None) -> Ints:
    """Return the class (n,) that each image is called: by the threshold, or the most probable one without any."""
    if threshold is None or probabilities.shape[1] != 2:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    return np.asarray(probabilities[:, 1] >= threshold, dtype=np.int64)


def measure(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    threshold: float,
    groups: Sequence[str | None] | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what a threshold is worth on images, each share with its 95 % interval.

    Args:
        probabilities: (n,) probability of the second class.
        targets: (n,) 0 or 1.
        threshold: images at or above it are called positive.
        groups: patient of each image.
        replicates: bootstrap replicates.
        seed: seed of the bootstrap.

    Returns:
        ``sensitivity``, ``specificity``, ``positive_predictive_value``, ``negative_predictive_value`` as of
        :func:`wara.evaluation.proportion.proportion`; the last two at the share of positives among these images.
    """
    called = np.asarray(probabilities, dtype=float) >= threshold
    positive = np.asarray(targets, dtype=np.int64) == 1
    parts = {
        "sensitivity": (called, positive),
        "specificity": (~called, ~positive),
        "positive_predictive_value": (positive, called),
        "negative_predictive_value": (~positive, ~called),
    }
    return {
        name: proportion(hits, groups, of=of, replicates=replicates, seed=seed) for name, (hits, of) in parts.items()
    }
