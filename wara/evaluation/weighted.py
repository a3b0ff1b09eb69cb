"""Classification metrics of weighted images, for many weightings at once: the arithmetic under the bootstrap."""

from __future__ import annotations

import numpy as np

from wara.evaluation.binning import bin_count, equal_mass_bins
from wara.evaluation.bootstrap import Floats, Ints


class _Ranking:
    """The order of one class's scores, ready for the AUROC under any weights."""

    def __init__(self, scores: Floats, positive: np.ndarray) -> None:
        self.positives = np.flatnonzero(positive)
        negatives = np.flatnonzero(~positive)
        self.negatives = negatives[np.argsort(scores[negatives], kind="stable")]
        ranked = scores[self.negatives]
        self.below = np.searchsorted(ranked, scores[self.positives], side="left")
        self.not_above = np.searchsorted(ranked, scores[self.positives], side="right")

    def auroc(self, weights: Floats) -> Floats:
        """Return the AUROC of each row of ``weights`` (R, n) -> (R,), NaN where one side weighs nothing.

        Mann and Whitney's statistic: the weight of pairs in which the positive scores higher, ties counting half.
        """
        positive = weights[:, self.positives]
        negative = np.zeros((len(weights), len(self.negatives) + 1))
        np.cumsum(weights[:, self.negatives], axis=1, out=negative[:, 1:])
        outranked = negative[:, self.below] + negative[:, self.not_above]
        wins = np.einsum("rp,rp->r", positive, outranked) / 2
        return _ratio(wins, positive.sum(axis=1) * negative[:, -1])


class WeightedMetrics:
    """Every metric of one set of predictions, as a function of the weights of its images.

    The classes that a mean runs over are fixed once, from the whole set: those with images (for F1 also those
    that were predicted). Where a weighting leaves such a class empty the mean is NaN, not a mean over fewer
    classes, so that all replicates of a bootstrap estimate the same thing.

    Args:
        probabilities: (n, k) probability of each class, rows summing to 1.
        targets: (n,) true class of each image, in ``range(k)``.
        labels: (n,) class that each image is called; None takes the most probable one.
    """

    def __init__(self, probabilities: Floats, targets: Ints, labels: Ints | None = None) -> None:
        n, k = probabilities.shape
        one_hot = np.eye(k)[targets]
        top = probabilities.argmax(axis=1) if n else np.zeros(0, dtype=np.int64)
        predicted = np.eye(k)[top if labels is None else labels]
        self.truth, self.predicted, self.hits = one_hot, predicted, one_hot * predicted
        counts = one_hot.sum(axis=0)
        self.present = counts > 0
        self.ranked = self.present & (counts < n)
        self.scored = self.present | (predicted.sum(axis=0) > 0)
        self.rankings = {c: _Ranking(probabilities[:, c], targets == c) for c in range(k) if self.ranked[c]}
        squares = (probabilities - one_hot) ** 2
        self.squared_error = squares[:, 1] if k == 2 else squares.sum(axis=1)
        self.gaps = _calibration_gaps(probabilities, (top == targets).astype(float))

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Return the metrics of each row of ``weights`` (R, n).

        Returns:
            ``auroc, balanced_accuracy, accuracy, f1, brier, ece``: (R,);
            ``sensitivity, specificity, auroc_per_class``: (R, k). Undefined ones are NaN.
        """
        total = weights.sum(axis=1)
        true, predicted, hits = weights @ self.truth, weights @ self.predicted, weights @ self.hits
        sensitivity = _ratio(hits, true)
        others = total[:, None] - true
        f1 = np.where((true > 0) | ~self.present, _ratio(2 * hits, true + predicted, empty=0.0), np.nan)
        per_class = self._auroc_per_class(weights)
        return {
            "auroc": per_class[:, 1] if per_class.shape[1] == 2 else _mean(per_class[:, self.ranked]),
            "balanced_accuracy": _mean(sensitivity[:, self.present]),
            "accuracy": _ratio(hits.sum(axis=1), total),
            "f1": _mean(f1[:, self.scored]),
            "brier": _ratio(weights @ self.squared_error, total),
            "ece": _ratio(np.abs(weights @ self.gaps).sum(axis=1), total),
            "sensitivity": sensitivity,
            "specificity": _ratio(others - (predicted - hits), others),
            "auroc_per_class": per_class,
        }

    def _auroc_per_class(self, weights: Floats) -> Floats:
        values = np.full((len(weights), len(self.present)), np.nan)
        for c, ranking in self.rankings.items():
            values[:, c] = ranking.auroc(weights)
        return values


def _calibration_gaps(probabilities: Floats, correct: Floats) -> Floats:
    """Return (n, bins): confidence minus correctness of each image, in the column of its confidence bin.

    The ECE is then the sum over bins of the absolute weighted sums, over the total weight (Guo et al. 2017, *On
    Calibration of Modern Neural Networks*), here over bins of equal mass. Confidence is that of the most probable
    class, whichever class an operating point makes of it.
    """
    bins = bin_count(len(probabilities))
    gaps = np.zeros((len(probabilities), bins))
    if len(probabilities):
        confidence = probabilities.max(axis=1)
        gaps[np.arange(len(gaps)), equal_mass_bins(confidence, bins)] = confidence - correct
    return gaps


def _ratio(above: Floats, below: Floats, *, empty: float = np.nan) -> Floats:
    """Divide, with ``empty`` where the denominator is zero."""
    quotient: Floats = np.full(np.broadcast(above, below).shape, empty)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient


def _mean(columns: Floats) -> Floats:
    """Return the mean over the last axis; NaN when there is no column or any is NaN."""
    if not columns.shape[1]:
        return np.full(len(columns), np.nan)
    return np.asarray(columns.mean(axis=1))
