"""What a training's process is told to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from backend.jobs.worker import RECIPE_FILE, ordered_recipe
from wara.training.recipe import Recipe


def order(**more: Any) -> dict[str, Any]:
    asked = {"method": "tiny-wara", "preset": "quick", "backbone": "embedded", "recipe": {"u": 32, "device": "cpu"}}
    return {**asked, "resume": True, **more}


def begun(folder: Path, **changed: Any) -> dict[str, Any]:
    """A run's recipe.json as an earlier version wrote it, which knew no targets and had other step sizes."""
    stored = Recipe.from_preset("quick", method="tiny-wara", backbone="embedded", u=32, learning_rate=0.01).to_dict()
    stored |= {"backbone": {"name": "embedded", "source": "embedded", "file": None, "sha256": None}, **changed}
    del stored["target"]
    (folder / RECIPE_FILE).parent.mkdir()
    (folder / RECIPE_FILE).write_text(json.dumps(stored))
    return stored


def test_a_new_training_has_what_was_ordered(tmp_path: Path) -> None:
    expected = Recipe.from_preset("quick", method="tiny-wara", backbone="embedded", u=32, device="cpu")
    assert ordered_recipe(tmp_path, order(resume=False)) == expected
    assert ordered_recipe(tmp_path, order()) == expected  # nothing was begun


def test_a_training_goes_on_as_it_began_whatever_the_presets_say_now(tmp_path: Path) -> None:
    stored = begun(tmp_path, device="cuda")
    recipe = ordered_recipe(tmp_path, order())
    assert (recipe.learning_rate, recipe.target, recipe.u, recipe.backbone) == (0.01, "qkv", 32, "embedded")
    kept = recipe.to_dict()
    elsewhere = {"backbone": "embedded", "device": "cpu"}  # where it computes is the order's to say
    assert kept == stored | {"target": "qkv"} | elsewhere
    assert ordered_recipe(tmp_path, order(resume=False)).target == "proj"
