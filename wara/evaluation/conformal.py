"""Sets of classes that hold the true one as often as was asked: split conformal prediction.

Calibrated on the validation images. If those and a new image come from the same source, in any order (are
exchangeable), the set holds the true class with at least the chosen probability, whatever the model: Vovk et al. 2005;
Angelopoulos and Bates 2023, *Conformal Prediction: A Gentle Introduction*. The validation images also chose the
model's epoch, and images of one patient go together, so the promise is near rather than strict: the coverage on test
images is measured beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wara.errors import InputError
from wara.evaluation.bootstrap import Floats
from wara.evaluation.choices import percent_asked
from wara.evaluation.proportion import proportion

METHODS = ("lac", "aps")
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Conformal:
    """How sets are made.

    Attributes:
        coverage: the share of images whose set is to hold the true class.
        quantile: the largest score that a class in the set may have; None where too few validation images stand
            behind it, and every set then holds all classes.
        method: ``"lac"`` (score 1 - p; smallest sets; Sadinle et al. 2019) or ``"aps"`` (score: the probabilities from
            the largest down to the class's own; larger for hard images; Romano et al. 2020, without randomising).
        n: validation images behind it.
    """

    coverage: float
    quantile: float | None
    method: str
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values."""
        return asdict(self)

    def sets(self, probabilities: npt.ArrayLike) -> Masks:
        """Return (n, k): which classes are in the set of each image; the most probable one always is."""
        rows = np.asarray(probabilities, dtype=float)
        if self.quantile is None:
            return np.ones(rows.shape, dtype=bool)
        held = _scores(rows, self.method) <= self.quantile + 1e-12
        held[np.arange(len(rows)), rows.argmax(axis=1)] = True
        return held


def fit_conformal(
    probabilities: npt.ArrayLike, targets: npt.ArrayLike, coverage: float = 0.9, method: str = "lac"
) -> Conformal:
    """Calibrate the sets on validation images.

    The quantile is the ceil((n + 1) coverage)-th smallest score, the finite-sample one.

    Args:
        probabilities: (n, k), as they will be of new images.
        targets: (n,) true classes.
        coverage: above 0 and below 1.
        method: ``"lac"`` or ``"aps"``.

    Raises:
        InputError: a coverage outside 0 to 1, code ``"coverage"``; an unknown method, code ``"conformal-method"``.
    """
    if not 0 < coverage < 1:
        raise InputError(
            "The coverage of the prediction sets cannot be used", seen=coverage,
            remedy="Use a share above 0 and below 1, e.g. 0.9.", code="coverage",
        )  # fmt: skip
    if method not in METHODS:
        raise InputError(
            "There is no such kind of prediction set", seen=method, remedy=f"Use {' or '.join(METHODS)}.",
            code="conformal-method",
        )  # fmt: skip
    rows, truth = np.asarray(probabilities, dtype=float), np.asarray(targets, dtype=np.int64)
    own = np.sort(_scores(rows, method)[np.arange(len(truth)), truth])
    place = math.ceil((len(own) + 1) * coverage - 1e-9)
    return Conformal(coverage, float(own[place - 1]) if place <= len(own) else None, method, len(own))


def _scores(rows: Floats, method: str) -> Floats:
    """Return the score (n, k) of each class: the larger, the less it goes with the image."""
    if method == "lac":
        return np.asarray(1 - rows)
    order = np.argsort(-rows, axis=1, kind="stable")
    totals = np.cumsum(np.take_along_axis(rows, order, axis=1), axis=1)
    scores = np.empty_like(rows)
    np.put_along_axis(scores, order, totals, axis=1)
    return scores


def measure_sets(
    conformal: Conformal,
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    groups: Sequence[str | None] | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how often the sets of test images hold the true class, and how large they are.

    Returns:
        ``coverage`` as of :func:`wara.evaluation.proportion.proportion`, ``mean_size`` (classes), ``single`` (share of
        images with one class in the set), ``asked``, ``method``, ``n_calibration``, and ``note`` where no set could be
        calibrated.
    """
    truth = np.asarray(targets, dtype=np.int64)
    held = conformal.sets(probabilities)
    sizes = held.sum(axis=1)
    result: dict[str, Any] = {
        "asked": conformal.coverage,
        "method": conformal.method,
        "n_calibration": conformal.n,
        "coverage": proportion(held[np.arange(len(truth)), truth], groups, replicates=replicates, seed=seed),
        "mean_size": float(sizes.mean()) if len(sizes) else None,
        "single": float((sizes == 1).mean()) if len(sizes) else None,
    }
    if conformal.quantile is None:
        least = math.ceil(conformal.coverage / (1 - conformal.coverage) - 1e-9)
        result["note"] = (
            f"There are only {conformal.n} validation images; sets that hold the truth in "
            f"{percent_asked(conformal.coverage)} of cases need at least {least}. Every set holds all classes."
        )
    return result
