"""Fitting a model's subband readout: one look at the training images, then a logistic regression."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from wara.training.loop import Feed, class_weights, predict
from wara.tuner.readout import readout_of

# What is read of training images is held as numbers of 4 bytes; more images than fit are drawn.
_MOST_BYTES = 1 << 27
# Weight of the data against a weight decay of 1/2, for 1,920 numbers read; more numbers share it.
_WEIGHT, _NUMBERS = 0.01, 1920
_STEPS = 400


def most_images(model: nn.Module) -> int:
    """Return from how many training images at most a model's readout is fitted."""
    readout = readout_of(model)
    return 0 if readout is None else max(1000, _MOST_BYTES // (4 * readout.features))


def fit_readout(
    model: nn.Module, batches: Feed, precision: str, *, balanced: bool, on_images: Callable[[int], None] | None = None
) -> None:
    """Fit a model's readout to training images, shown once as they are.

    A logistic regression with a weight decay, on what is read in units of its deviation. Its strength is fixed and not
    chosen: within a factor of ten the AUROC changed by 0.002 on images that are no test images (docs/study.md).

    Args:
        model: the trained model, from `wara.training.methods.build`.
        batches: training images, not changed, in their own order.
        precision: of the passes.
        balanced: whether classes weigh the same however many images they have.
        on_images: told how many images were done; may raise to end it.
    """
    readout = readout_of(model)
    if readout is None:
        return
    with readout.keeping() as rows:
        predict(model, batches, precision, on_images=on_images)
    read = torch.cat(rows).numpy()
    rows.clear()
    weights = class_weights(batches.targets, readout.bias.numel()).numpy() if balanced else None
    readout.fill(*fitted(read, batches.targets.numpy(), readout.bias.numel(), weights))


def fitted(
    read: NDArray[np.float32], targets: NDArray[np.int64], classes: int, weights: NDArray[np.float32] | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return centre, scale (f,), weight (k, f) and bias (k,) of a logistic regression.

    Args:
        read: (n, f); left in units of the deviation, since a copy may not fit the memory.
        targets: (n,) numbers of classes.
        classes: k; a class without an image here gets the lowest score of all.
        weights: of the classes, (k,).
    """
    centre, scale = read.mean(axis=0, dtype=np.float64), read.std(axis=0, dtype=np.float64)
    scale[scale < 1e-6] = 1.0
    read -= centre.astype(read.dtype)
    read /= scale.astype(read.dtype)
    present = np.unique(targets)
    weight, bias = np.zeros((classes, read.shape[1])), np.zeros(classes)
    if len(present) > 1:
        model = LogisticRegression(C=_WEIGHT * _NUMBERS / read.shape[1], max_iter=_STEPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # far on already; the last digits decide nothing
            model.fit(read, targets, None if weights is None else weights[targets])
        if len(present) == 2:  # one row of differences
            weight[present] = np.concatenate([-model.coef_, model.coef_]) / 2
            bias[present] = np.concatenate([-model.intercept_, model.intercept_]) / 2
        else:
            weight[present], bias[present] = model.coef_, model.intercept_
    absent = np.setdiff1d(np.arange(classes), present)
    bias[absent] = min(bias[present].min(), 0.0) - 10.0 if len(present) else 0.0
    first, second, third, fourth = (torch.from_numpy(part).float() for part in (centre, scale, weight, bias))
    return first, second, third, fourth
