"""Step sizes are chosen without a look at test images, and the command says what each gave."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.drawn import read_table
from benchmarks.step_sizes import inner_sides
from tests.benchmarks.commands import in_its_time, run_benchmark


def table_of(folder: Path) -> Path:
    """Thirty images of ten patients to train on, and ten others to test."""
    rows = [(f"{i}.png", "ab"[i % 2], f"p{i // 3}", "train") for i in range(30)]
    rows += [(f"t{i}.png", "ab"[i % 2], f"q{i}", "test") for i in range(10)]
    table = folder / "labels.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label", "patient", "split"), *rows])
    return table


def test_all_sides_are_training_images_and_patients_stand_on_one(tmp_path: Path) -> None:
    rows = read_table(inner_sides(table_of(tmp_path), tmp_path / "in.csv", {"train": 10, "val": 5, "test": 6}, seed=3))

    assert not any(row["file"].startswith("t") for row in rows)
    counts = {side: [row for row in rows if row["split"] == side] for side in ("train", "val", "test")}
    assert {side: len(some) for side, some in counts.items()} == {"train": 12, "val": 6, "test": 6}
    side_of: dict[int, set[str]] = {}
    for row in rows:
        side_of.setdefault(int(row["file"].removesuffix(".png")) // 3, set()).add(row["split"])
    assert all(len(sides) == 1 for sides in side_of.values())


def test_too_few_training_images_are_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"labels\.csv has 30 training images; 31 are needed"):
        inner_sides(table_of(tmp_path), tmp_path / "in.csv", {"train": 25, "val": 5, "test": 1})


@in_its_time
def test_each_step_size_has_a_row_beside_the_first(tmp_path: Path) -> None:
    written = run_benchmark("step_sizes", tmp_path)

    assert [row["name"].rsplit(" ", 1)[1] for row in written["rows"]] == ["0.001", "0.002"]
    assert {row["peer_name"] for row in written["rows"]} == {"step size 0.001"}
    assert all(len(row["val_auroc"]) == 1 for row in written["rows"])
