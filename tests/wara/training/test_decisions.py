"""A run goes by the decisions about its data, keeps them, and can be repeated and resumed with them only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.wara.support import read_rows, small_recipe
from wara.data.decisions import Decision, write_decisions
from wara.errors import InputError
from wara.training.run import train


def test_a_run_leaves_out_what_was_decided_and_keeps_the_decisions(
    image_folder: Path, pixel_cache: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    train(image_folder, whole, small_recipe(epochs=1), cache=pixel_cache)
    decisions = [
        Decision("copies-within", "drop", {"left/00.png": None, "right/03.png": None}, "2026-11-25T10:00:00+00:00"),
        Decision("near-copies-across", "group", {"left/01.png": "group x", "left/02.png": "group x"}, ""),
    ]
    write_decisions(tmp_path / "decided.json", decisions)

    train(
        image_folder, tmp_path / "run", small_recipe(epochs=1), cache=pixel_cache, decisions=tmp_path / "decided.json"
    )

    rows = {row["file"]: row for row in read_rows(tmp_path / "run" / "split.csv")}
    assert len(rows) == 22 and "left/00.png" not in rows
    assert rows["left/01.png"]["split"] == rows["left/02.png"]["split"]
    assert rows["left/01.png"]["patient"] == "group x"
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["decisions"] == [decision.summary() for decision in decisions]
    assert json.loads((whole / "recipe.json").read_text())["decisions"] == []
    assert not (whole / "decisions.json").exists()
    assert (tmp_path / "run" / "decisions.json").read_text() == (tmp_path / "decided.json").read_text()
    card = (tmp_path / "run" / "card.md").read_text()
    assert "2 images left out (copies-within); 2 images counted as one patient's (near-copies-across)" in card
    # Both used the same stored pixels; every prediction is of its own image all the same.
    predicted = {row["file"]: row["label"] for row in read_rows(tmp_path / "run" / "predictions.csv")}
    assert predicted and all(file.startswith(label) for file, label in predicted.items())


def test_a_run_is_not_resumed_with_other_decisions(image_folder: Path, pixel_cache: Path, tmp_path: Path) -> None:
    def stop(event: dict[str, object]) -> None:
        if event["type"] == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(image_folder, tmp_path / "run", small_recipe(), cache=pixel_cache, on_event=stop)
    group = Decision("near-copies-within", "group", {"left/01.png": "group x", "left/02.png": "group x"}, "")
    write_decisions(tmp_path / "decided.json", [group])
    with pytest.raises(InputError) as refused:
        train(
            image_folder, tmp_path / "run", small_recipe(), cache=pixel_cache, resume=True,
            decisions=tmp_path / "decided.json",
        )  # fmt: skip
    assert refused.value.code == "resume-mismatch"
    assert "decisions" in str(refused.value.seen)
