"""Presets, overrides, and what a wrong option is told."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from wara.data.batches import Batches
from wara.data.pixels import PixelStore
from wara.errors import InputError
from wara.training.recipe import METHODS, PRESETS, Recipe, steps_a_pass


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_and_method_makes_a_valid_recipe(preset: str, method: str) -> None:
    recipe = Recipe.from_preset(preset, backbone="x", method=method)
    assert (recipe.preset, recipe.method, recipe.epochs) == (preset, method, PRESETS[preset]["epochs"])


def test_an_override_replaces_the_preset_and_none_keeps_it() -> None:
    recipe = Recipe.from_preset("quick", backbone="x", epochs=7, rank=None)
    assert (recipe.epochs, recipe.rank) == (7, 8)


def test_few_images_get_more_passes_so_that_there_are_steps_enough() -> None:
    quick = Recipe.from_preset("quick", backbone="x")
    few, many = quick.for_images(210), quick.for_images(4_708)
    assert (few.epochs, few.patience) == (22, 14)  # 7 steps a pass, 150 wanted
    assert (many.epochs, many.patience) == (5, 3)
    assert few.for_images(210).epochs == few.epochs  # what a run stored is what it is resumed with
    assert Recipe.from_preset(**few.to_dict()) == few


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 34, 64, 65, 97])
def test_the_steps_that_passes_are_counted_by_are_those_that_are_trained(count: int) -> None:
    nothing = Batches(cast(PixelStore, None), range(count), [0] * count, mean=(0.5,) * 3, std=(0.5,) * 3,
                      device=torch.device("cpu"), batch_size=32)  # fmt: skip
    assert steps_a_pass(count, 32) == nothing.steps
    assert Recipe.from_preset("quick", backbone="x").for_images(count).epochs * nothing.steps >= 150


def test_passes_that_were_set_by_hand_stay_as_they_are() -> None:
    assert Recipe.from_preset("quick", backbone="x", epochs=2).for_images(10).epochs == 2


def test_lora_and_wara_start_from_the_same_options() -> None:
    lora, wara = (Recipe.from_preset("quick", backbone="x", method=m).to_dict() for m in ("lora", "wara"))
    assert {key for key in lora if lora[key] != wara[key]} == {"method", "readout"}


def test_a_second_answer_belongs_to_wara_unless_told_otherwise() -> None:
    made = {method: Recipe.from_preset("quick", backbone="x", method=method).readout for method in METHODS}
    assert made == dict.fromkeys(METHODS, "none") | {"wara": "auto", "tiny-wara": "auto"}
    assert Recipe.from_preset("quick", backbone="x", method="wara", readout="none").readout == "none"
    assert Recipe(backbone="x").readout == "none"  # of runs of before, whose recipes do not name it


def test_few_numbers_go_behind_attention_unless_told_otherwise() -> None:
    made = {method: Recipe.from_preset("quick", backbone="x", method=method).target for method in METHODS}
    assert made == dict.fromkeys(METHODS, "qkv") | {"tiny-wara": "proj"}
    assert Recipe.from_preset("quick", backbone="x", method="tiny-wara", target="qkv").target == "qkv"


@pytest.mark.parametrize(
    ("options", "what", "seen"),
    [
        ({"rank": 0}, "rank", "0"),
        ({"rank": "8"}, "rank", "8"),
        ({"rank": True}, "rank", "True"),
        ({"epochs": 0}, "epochs", "0"),
        ({"batch_size": -1}, "batch size", "-1"),
        ({"learning_rate": 0.0}, "learning rate", "0.0"),
        ({"learning_rate": float("nan")}, "learning rate", "nan"),
        ({"warmup": 1.5}, "warmup", "1.5"),
        ({"seed": -1}, "seed", "-1"),
        ({"seed": 2**31}, "seed", str(2**31)),
        ({"learning_rate": float("inf")}, "learning rate", "inf"),
        ({"epochs": 1e30}, "epochs", "1e+30"),
        ({"batch_size": 10**12}, "batch size", str(10**12)),
        ({"image_size": 10**9}, "image size", str(10**9)),
        ({"bootstrap": 10**400}, "bootstrap", str(10**400)[:60]),
        ({"wavelet": "morlet"}, "wavelet", "morlet"),
        ({"gains": "many"}, "gains", "many"),
        ({"method": "dora"}, "method", "dora"),
        ({"device": "tpu"}, "device", "tpu"),
        ({"class_balanced": "yes"}, "class balanced", "yes"),
        ({"frames": "last"}, "frames", "last"),
        ({"window": 0}, "window", "0"),
    ],
)
def test_a_wrong_value_is_named_with_a_remedy(options: dict[str, Any], what: str, seen: str) -> None:
    with pytest.raises(InputError) as caught:
        Recipe.from_preset(**{"preset": "quick", "backbone": "x", **options})
    assert (caught.value.what, caught.value.seen) == (f"The option {what} cannot be used", seen)
    assert caught.value.remedy.startswith("Use ")


def test_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"Unknown option \(seen: rnk\).*rank"):
        Recipe.from_preset("quick", backbone="x", rnk=8)
