"""Pieces of the training loop: the schedule, class weights, and which epoch is kept."""

from __future__ import annotations

import itertools

import pytest
import torch

from wara.training.loop import Fit, _is_best, _stopped_early, _warmup_cosine, class_weights


def test_the_step_size_rises_and_then_falls_along_a_cosine() -> None:
    factor = _warmup_cosine(0.1, 100)
    values = [factor(step) for step in range(100)]

    assert values[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert values[10] == 1.0
    assert values[55] == pytest.approx(0.5)
    assert all(a >= b for a, b in itertools.pairwise(values[10:]))
    assert values[-1] < 0.01


def test_class_weights_make_every_class_count_the_same() -> None:
    targets = torch.tensor([0] * 8 + [1] * 2)
    weights = class_weights(targets, 2)
    assert weights.tolist() == pytest.approx([0.625, 2.5])
    assert float(weights[targets].sum()) == pytest.approx(10)


def test_the_best_epoch_has_the_highest_auroc_and_then_the_lowest_loss() -> None:
    history = [{"val_auroc": 0.8, "val_loss": 0.5}]
    assert _is_best({"val_auroc": 0.81, "val_loss": 0.9}, history)
    assert _is_best({"val_auroc": 0.8, "val_loss": 0.4}, history)
    assert not _is_best({"val_auroc": 0.8, "val_loss": 0.5}, history)
    assert not _is_best({"val_auroc": None, "val_loss": 0.1}, history)
    assert _is_best({"val_auroc": None, "val_loss": 0.1}, [{"val_auroc": None, "val_loss": 0.2}])


def test_training_stops_once_patience_is_spent() -> None:
    row = {"val_auroc": 0.8}
    assert not _stopped_early(Fit(), 2)
    assert not _stopped_early(Fit(history=[row] * 3, best_epoch=2), 2)
    assert _stopped_early(Fit(history=[row] * 4, best_epoch=2), 2)
