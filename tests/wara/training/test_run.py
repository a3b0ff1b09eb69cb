"""Whole runs on generated images: the folder they leave, repeating, resuming, and what stops them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.wara.support import draw_folder, read_rows, small_recipe
from wara.errors import InputError
from wara.training.recipe import METHODS
from wara.training.run import train

FILES = {
    "adapter", "recipe.json", "split.csv", "history.csv", "metrics.json", "predictions.csv", "calibration.json",
    "card.md", "card.html", "figures",
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_exactly_the_named_files(
    method: str, image_folder: Path, pixel_cache: Path, tmp_path: Path
) -> None:
    metrics = train(image_folder, tmp_path / "run", small_recipe(method=method), cache=pixel_cache)

    assert {p.name for p in (tmp_path / "run").iterdir()} == FILES
    assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(metrics["test"]["auroc"]) >= {"value", "low", "high"}
    assert metrics["trainable_parameters"] == metrics["adapter_parameters"] + 2 * 96 + 2
    assert {"seconds", "images_per_second", "peak_memory_mb", "epochs_run", "best_epoch"} <= set(metrics)
    assert {p.suffix for p in (tmp_path / "run" / "figures").iterdir()} == {".png", ".json"}


def test_wara_learns_to_tell_two_classes_apart(image_folder: Path, pixel_cache: Path, tmp_path: Path) -> None:
    recipe = small_recipe(epochs=20, patience=20, learning_rate=1e-2, head_learning_rate=1e-2, augment="none")

    metrics = train(image_folder, tmp_path / "run", recipe, cache=pixel_cache)

    rows = read_rows(tmp_path / "run" / "history.csv")
    assert float(rows[-1]["train_loss"]) < 0.5 * float(rows[0]["train_loss"])
    assert metrics["test"]["auroc"]["value"] == 1.0


def test_the_same_recipe_and_seed_give_the_same_numbers_and_another_seed_others(
    image_folder: Path, pixel_cache: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(image_folder, tmp_path / name, small_recipe(seed=seed), cache=pixel_cache)

    a, b, c = ((tmp_path / name / "predictions.csv").read_text() for name in "abc")
    assert a == b
    assert a != c


def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(
    image_folder: Path, pixel_cache: Path, tmp_path: Path
) -> None:
    recipe = small_recipe(epochs=3, dropout=0.1)
    train(image_folder, tmp_path / "whole", recipe, cache=pixel_cache)

    def stop_after_first_epoch(event: dict[str, Any]) -> None:
        if event["type"] == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(image_folder, tmp_path / "parts", recipe, cache=pixel_cache, on_event=stop_after_first_epoch)
    epochs: list[int] = []
    train(
        image_folder, tmp_path / "parts", recipe, cache=pixel_cache, resume=True,
        on_event=lambda e: epochs.append(e["epoch"]) if e["type"] == "epoch" else None,
    )  # fmt: skip

    assert epochs == [2, 3]
    for name in ("predictions.csv", "split.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    adapters = [(tmp_path / r / "adapter" / "adapter_model.safetensors").read_bytes() for r in ("whole", "parts")]
    assert adapters[0] == adapters[1]


def test_events_come_in_order_and_end_with_the_metrics(image_folder: Path, pixel_cache: Path, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []

    train(image_folder, tmp_path / "run", small_recipe(), cache=pixel_cache, on_event=events.append)

    phases = [e["phase"] for e in events if e["type"] == "phase"]
    assert phases == ["reading", "preparing", "training", "testing", "analysing"]
    assert [e["epoch"] for e in events if e["type"] == "epoch"] == [1, 2]
    assert events[-1]["type"] == "done"
    assert events[-1]["metrics"]["test"]["n_images"] > 0
    assert json.loads(json.dumps(events)) == events


def test_a_copied_folder_is_the_same_data(image_folder: Path, pixel_cache: Path, tmp_path: Path) -> None:
    fingerprints = []
    for name in ("a", "b"):
        shutil.copytree(image_folder, tmp_path / name / "set")
        train(tmp_path / name / "set", tmp_path / name / "run", small_recipe(epochs=1), cache=pixel_cache)
        fingerprints.append(json.loads((tmp_path / name / "run" / "recipe.json").read_text())["data"]["fingerprint"])
    assert fingerprints[0] == fingerprints[1]


def test_a_rank_larger_than_the_layers_is_said_before_images_are_decoded(image_folder: Path, tmp_path: Path) -> None:
    for method in ("wara", "tiny-wara", "lora"):
        with pytest.raises(InputError, match=r"rank of 1 to 96|Use 1 to 96"):
            train(image_folder, tmp_path / method, small_recipe(method=method, rank=97))
        assert not list((tmp_path / method).glob("**/*.pixels"))


def test_unreadable_images_are_counted_and_the_others_trained_on(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "set")
    (folder / "left" / "notes.png").write_text("not an image")
    whole = (folder / "left" / "00.png").read_bytes()
    (folder / "right" / "cut.png").write_bytes(whole[: len(whole) // 2])
    warnings: list[str] = []

    train(
        folder, tmp_path / "run", small_recipe(),
        on_event=lambda e: warnings.append(e["message"]) if e["type"] == "warning" else None,
    )  # fmt: skip

    report = json.loads((tmp_path / "run" / "figures" / "report.json").read_text())
    assert {entry["file"] for entry in report["passed_over"]["list"]} == {"left/notes.png", "right/cut.png"}
    assert any(message.startswith("2 files passed over") for message in warnings)
    assert not (tmp_path / "run" / ".pixels").exists()


def test_patients_stay_on_one_side_and_their_number_groups_the_interval(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    rows = ["file,label,patient"]
    rng = np.random.default_rng(1)
    for patient in range(12):
        for view in range(2):
            name = f"p{patient}_{view}.png"
            Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(folder / name)
            rows.append(f"{name},{'ab'[patient % 2]},P{patient}")
    (folder / "labels.csv").write_text("\n".join(rows))

    metrics = train(folder, tmp_path / "run", small_recipe(epochs=1))

    sides: dict[str, set[str]] = {}
    for row in read_rows(tmp_path / "run" / "split.csv"):
        sides.setdefault(row["patient"], set()).add(row["split"])
    assert len(sides) == 12
    assert all(len(s) == 1 for s in sides.values())
    assert metrics["test"]["n_groups"] * 2 == metrics["test"]["n_images"]


def test_the_card_and_the_recipe_say_what_was_done(image_folder: Path, pixel_cache: Path, tmp_path: Path) -> None:
    train(image_folder, tmp_path / "run", small_recipe(seed=5), cache=pixel_cache)

    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    card = (tmp_path / "run" / "card.md").read_text()
    assert (recipe["seed"], recipe["method"], recipe["classes"]) == (5, "wara", ["left", "right"])
    assert recipe["packages"]["torch"]
    assert re.search("not a medical device", card)
    assert str(tmp_path) not in card
