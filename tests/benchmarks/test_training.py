"""Training beside the LoRA script: both sides do the same work, and the time to its AUROC is read off right."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from benchmarks import drawn, training
from benchmarks.peers.running import LORA_SCRIPT
from tests.benchmarks.commands import run_benchmark


def test_both_sides_train_the_same_steps(tmp_path: Path) -> None:
    small = ["--steps", "2", "--batch", "4", "--images", "8", "--rounds", "1", "--methods", "wara"]

    written = run_benchmark("training", tmp_path, *small, "--reach-rounds", "0")

    assert [row["peer_name"] for row in written["rows"]] == [training.FLOAT32, training.BFLOAT16]
    assert len({row["ours"] for row in written["rows"]}) == 1  # one run of ours beside both of its round
    assert written["settings"]["steps"] == 2
    assert written["curves"] == []


def test_the_peer_is_free_of_this_project() -> None:
    assert not re.search(r"^\s*(import|from)\s+(wara|backend|benchmarks)\b", LORA_SCRIPT.read_text(), re.MULTILINE)


def curve(*points: tuple[float, float]) -> training.Curve:
    return [{"seconds": seconds, "val_auroc": area} for seconds, area in points]


def test_the_script_is_as_good_as_at_its_end_when_it_first_was() -> None:
    script = curve((10, 0.7), (20, 0.9), (30, 0.85))
    ours = curve((2, 0.8), (4, 0.86), (6, 0.95))

    row = training.reached("ours", [{training.FLOAT32: script, "ours": ours}])

    assert (row["ours"], row["peer"], row["ratio"], row["reached"]) == (4, 20, 0.2, 1)
    assert "0.850" in row["name"]


def test_a_run_that_is_never_as_good_has_no_ratio() -> None:
    good = {training.FLOAT32: curve((10, 0.7), (20, 0.8)), "ours": curve((2, 0.9))}
    bad = {training.FLOAT32: curve((10, 0.7), (40, 0.8)), "ours": curve((2, 0.75))}

    row = training.reached("ours", [good, bad])

    assert (row["ours"], row["peer"], row["ratio"], row["runs"], row["reached"]) == (None, 30, None, 2, 1)


def test_drawn_images_stand_on_all_sides_in_all_classes(tmp_path: Path) -> None:
    table = drawn.draw_study(tmp_path / "drawn", {"train": 6, "val": 3, "test": 3})

    rows = drawn.read_table(table)

    assert all((tmp_path / "drawn" / row["file"]).is_file() for row in rows)
    sides = {side: sorted(row["label"] for row in rows if row["split"] == side) for side in ("train", "val", "test")}
    classes = ["coarse_mass", "fine_cluster", "normal_texture"]
    assert sides == {"train": sorted(classes * 2), "val": classes, "test": classes}


def test_a_part_of_a_table_has_as_many_of_each_side_and_says_when_there_are_too_few(tmp_path: Path) -> None:
    rows = [{"file": f"{i}.png", "label": "ab"[i % 2], "split": ("train", "val")[i % 2]} for i in range(10)]
    table = drawn.write_table(tmp_path / "all.csv", rows)

    part = drawn.read_table(drawn.part_of(table, tmp_path / "part.csv", {"train": 3, "val": 2}))

    assert sorted(row["split"] for row in part) == ["train"] * 3 + ["val"] * 2
    assert all(row in rows for row in part)
    with pytest.raises(SystemExit, match=r"all\.csv has 5 images of the side train; 6 are needed"):
        drawn.part_of(table, tmp_path / "part.csv", {"train": 6})


def test_a_table_without_sides_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label"], ["a.png", "a"]])

    with pytest.raises(SystemExit, match=r"labels\.csv needs the columns file, label, split"):
        drawn.read_table(tmp_path / "labels.csv")
