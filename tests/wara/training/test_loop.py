"""Pieces of the training loop: the schedule, class weights, and which epoch is kept."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.wara.support import small_recipe
from wara.data.batches import Batches
from wara.data.catalogue import read_catalogue
from wara.data.ingest import ingest
from wara.data.sources import open_source
from wara.errors import InputError
from wara.training.checkpoint import Checkpoint
from wara.training.loop import Fit, _is_best, _stopped_early, class_weights, fit, warmup_cosine


def test_the_step_size_rises_and_then_falls_along_a_cosine() -> None:
    factor = warmup_cosine(0.1, 100)
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


@pytest.mark.parametrize("validation_only", [False, True])
def test_divergence_is_an_error_that_says_what_to_do_before_the_epoch_is_told(
    validation_only: bool, image_folder: Path, pixel_cache: Path, tmp_path: Path
) -> None:
    with open_source(image_folder) as source:
        catalogue, store = ingest(source, read_catalogue(source), size=32, store=pixel_cache / "32.pixels")
    assert store is not None
    normal = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "device": torch.device("cpu"), "batch_size": 32}
    broken = {**normal, "std": (0.0,) * 3}  # infinite pixels
    batches = [
        Batches(store, range(24), catalogue.targets(), **options)
        for options in ((normal, broken) if validation_only else (broken, normal))
    ]
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    events: list[dict[str, object]] = []

    with pytest.raises(InputError, match=r"Training diverged.*epoch 1.*learning rate"):
        fit(
            model, [{"params": list(model.parameters()), "lr": 1e-3}], *batches, small_recipe(precision="float32"), 2,
            emit=events.append, checkpoint=Checkpoint(tmp_path),
        )  # fmt: skip

    assert not [event for event in events if event["type"] == "epoch"]
