"""Is an image unlike those the model learned from? A distance to the training images, and from where on to warn.

The Mahalanobis distance of the features before the last layer to the nearest class mean, under one covariance for all
classes (Lee et al. 2018, *A Simple Unified Framework for Detecting Out-of-Distribution Samples*), of features scaled to
length one, shrunk after Ledoit and Wolf 2004 so that it holds for fewer images than features. Only means and one matrix
are kept: no feature of a single image leaves the training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf

from wara.errors import InputError
from wara.evaluation.bootstrap import Floats
from wara.evaluation.proportion import proportion

QUANTILE = 0.95
LEAST_IMAGES = 10
WARNING = "Unlike the training images: the answer may mean nothing."


@dataclass(frozen=True)
class Novelty:
    """What is needed to tell how unlike the training images an image is.

    Attributes:
        means: (k, d) mean of each class's features.
        whitening: (d, d) so that the distance is the length of (x - mean) @ whitening.
        threshold: distance above which to warn: the `QUANTILE` of the validation images' distances.
        n_training: training images behind the means.
        n_validation: validation images behind the threshold.
    """

    means: Floats
    whitening: Floats
    threshold: float
    n_training: int
    n_validation: int

    def distances(self, features: npt.ArrayLike) -> Floats:
        """Return the distance (n,) of features (n, d) to the nearest class."""
        rows = _unit(features) @ self.whitening
        centres = self.means @ self.whitening
        return np.asarray(cdist(rows, centres).min(axis=1))

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        numbers = [self.threshold, self.n_training, self.n_validation]
        save_file(
            {
                "means": np.ascontiguousarray(self.means, dtype=np.float32),
                "whitening": np.ascontiguousarray(self.whitening, dtype=np.float32),
                "threshold_n_training_n_validation": np.array(numbers, dtype=np.float64),
            },
            path,
        )

    @classmethod
    def load(cls, path: Path) -> Novelty | None:
        """Read what `save` wrote; None where there is no such file, as in older runs.

        Raises:
            InputError: the file is damaged; code ``"run-damaged"``.
        """
        if not path.is_file():
            return None
        try:
            tensors = load_file(path)
            threshold, n_training, n_validation = tensors["threshold_n_training_n_validation"].tolist()
            means, whitening = tensors["means"].astype(float), tensors["whitening"].astype(float)
        except (SafetensorError, KeyError, ValueError) as error:
            raise InputError(
                "The file that tells unlike images cannot be read", seen=path.name, remedy="Copy the run folder again.",
                code="run-damaged",
            ) from error  # fmt: skip
        return cls(means, whitening, threshold, int(n_training), int(n_validation))


def fit_novelty(
    training: npt.ArrayLike, targets: npt.ArrayLike, validation: npt.ArrayLike, quantile: float = QUANTILE
) -> Novelty | None:
    """Fit means and covariance on training images, and the threshold on validation images.

    The threshold is the ceil((n + 1) quantile)-th smallest distance of the validation images (the largest, where there
    are too few for that), so that about 1 - quantile of images like them raise a false alarm.

    Args:
        training: (n, d) features of training images.
        targets: (n,) their classes.
        validation: (v, d) features of validation images.
        quantile: above 0 and below 1.

    Returns:
        None where there are fewer than ten images on one of the sides, or features that are not finite.
    """
    rows, held, truth = _unit(training), _unit(validation), np.asarray(targets, dtype=np.int64)
    if min(len(rows), len(held)) < LEAST_IMAGES or not (np.isfinite(rows).all() and np.isfinite(held).all()):
        return None
    classes = np.unique(truth)
    means = np.stack([rows[truth == c].mean(axis=0) for c in classes])
    centred = rows - means[np.searchsorted(classes, truth)]
    covariance = LedoitWolf(assume_centered=True).fit(centred).covariance_
    values, vectors = np.linalg.eigh(covariance)
    if values[-1] < 1e-12:  # all training images look alike to the model, as to one that learned nothing
        return None
    # Features that never vary (a layer norm leaves one) would make any difference in them infinitely strange.
    whitening = vectors / np.sqrt(np.maximum(values, 1e-6 * values[-1]))
    unset = Novelty(means, whitening, math.inf, len(rows), len(held))
    ordered = np.sort(unset.distances(validation))
    place = min(math.ceil((len(ordered) + 1) * quantile - 1e-9), len(ordered))
    return Novelty(means, whitening, float(ordered[place - 1]), len(rows), len(held))


def measure_novelty(
    novelty: Novelty,
    features: npt.ArrayLike,
    groups: Sequence[str | None] | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how often the warning comes for test images, which are like the others and should raise none.

    Returns:
        ``threshold``, ``expected_false_alarms`` (share), ``false_alarms`` as of
        :func:`wara.evaluation.proportion.proportion`, ``n_training`` and ``n_validation``.
    """
    alarms = novelty.distances(features) > novelty.threshold
    return {
        "threshold": novelty.threshold,
        "expected_false_alarms": 1 - QUANTILE,
        "false_alarms": proportion(alarms, groups, replicates=replicates, seed=seed),
        "n_training": novelty.n_training,
        "n_validation": novelty.n_validation,
    }


def _unit(features: npt.ArrayLike) -> Floats:
    rows = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12))
