"""A training's time and memory are measured by a few of its steps, and told as a range."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from tests.wara.support import small_recipe
from wara.errors import InputError
from wara.training.estimate import available_memory_mb, measure
from wara.training.forecast import WarmUp, estimate, fits
from wara.training.recipe import PRESETS, Recipe


def recipe(**options: object) -> Recipe:
    return small_recipe(image_size=32, **options)


def warm_up(**values: object) -> WarmUp:
    return WarmUp(**{"step_s": (0.5,), "image_s": 0.01, "start_s": 4.0, "memory_mb": 1000.0, "available_mb": 2000.0,
                     "device": "cpu", **values})  # fmt: skip


@pytest.mark.parametrize("method", ["wara", "tiny-wara", "lora", "linear-probe", "full"])
def test_a_few_steps_are_measured_for_every_method(method: str) -> None:
    found = measure(recipe(method=method), 3)

    assert 2 <= len(found.step_s) <= 8 and min(found.step_s) > 0
    assert found.image_s > 0 and found.start_s >= 0
    assert found.memory_mb is not None and found.memory_mb > 50
    assert found.device == "cpu"


def test_the_time_is_steps_and_judgements_of_every_pass() -> None:
    quick, balanced, thorough = estimate(warm_up(), recipe(epochs=5, patience=3), {"train": 80, "val": 10, "test": 20})

    # Ten steps of 8 images and ten validation images a pass; the start and both judged sides once.
    assert quick.high_s == pytest.approx(5 * (10 * 0.5 + 10 * 0.01) + 4.0 + 30 * 0.01)
    assert quick.low_s == pytest.approx(4 * (10 * 0.5 + 10 * 0.01) + 4.0 + 30 * 0.01)
    assert [one.epochs for one in (quick, balanced, thorough)] == [PRESETS[name]["epochs"] for name in PRESETS]
    assert quick.high_s < balanced.high_s < thorough.high_s


def test_a_frozen_part_is_run_once_a_view_and_the_passes_take_the_rest() -> None:
    order = recipe(epochs=5, patience=3, views=2)
    quick = estimate(warm_up(once_s=0.008), order, {"train": 80, "val": 10, "test": 20})[0]
    passes = 5 * (10 * 0.5 + 10 * 0.002)
    assert quick.high_s == pytest.approx(passes + 4.0 + 30 * 0.01 + (2 * 80 + 10) * 0.008)


@pytest.mark.parametrize("options", [{"method": "linear-probe"}, {"last_blocks": 1}])
def test_what_runs_once_is_measured_apart_where_views_are_kept(options: dict[str, object]) -> None:
    assert measure(recipe(views=2, **options), 3).once_s > 0
    assert measure(recipe(views=0, **options), 3).once_s == 0


def test_few_images_take_the_passes_that_training_would_give_them() -> None:
    order = Recipe.from_preset("quick", backbone="x", batch_size=10)
    assert [one.epochs for one in estimate(warm_up(), order, {"train": 100})] == [15, 45, 120]


def test_passes_that_were_set_by_hand_hold_for_every_preset() -> None:
    assert [one.epochs for one in estimate(warm_up(), recipe(epochs=7, patience=9), {"train": 8})] == [7, 7, 7]


def test_steps_that_differ_widen_the_range() -> None:
    still, moved = (
        estimate(warm_up(step_s=steps), recipe(epochs=1, patience=3), {"train": 800})[0]
        for steps in ((0.5, 0.5, 0.5, 0.5), (0.3, 0.5, 0.5, 0.9))
    )
    assert moved.high_s - moved.low_s > still.high_s - still.low_s == 0


def test_memory_is_compared_with_what_was_free() -> None:
    assert fits(warm_up()) is True
    assert fits(warm_up(available_mb=1050.0)) is False  # the margin for a checkpoint is gone
    assert fits(warm_up(memory_mb=None)) is None


def test_free_memory_is_no_more_than_the_machine_has() -> None:
    free = available_memory_mb(torch.device("cpu"))
    assert free is not None and 10 < free < 10_000_000


def test_the_process_measures_an_order_or_says_what_is_wrong() -> None:
    def answer(**options: object) -> dict[str, dict[str, object]]:
        order = {"recipe": recipe(**options).to_dict(), "num_classes": 2}
        ended = subprocess.run(
            [sys.executable, "-m", "wara.training.estimate"], input=json.dumps(order), capture_output=True, text=True,
            check=True, timeout=240,
        )  # fmt: skip
        return json.loads(ended.stdout)

    found = WarmUp(**answer()["warm_up"])
    assert found.start_s > 0.1  # the process's own start is in it
    assert answer(backbone="vit_tiny_patch16_22")["problem"]["code"] == "backbone-unknown"


def test_what_training_refuses_is_refused() -> None:
    with pytest.raises(InputError, match="Use a multiple of 16"):
        measure(small_recipe(image_size=50), 2)
