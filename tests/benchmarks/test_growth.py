"""How cost grows: rows in proportion to the smallest size, and a figure of all."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import growth
from benchmarks.jobs import Job
from tests.benchmarks.commands import by_name, in_its_time, run_benchmark


def job(seconds: float, peak_mb: float) -> Job:
    return Job(5 * seconds, peak_mb, {}, phases=dict.fromkeys(growth.PHASES, seconds))


def test_work_that_grows_in_proportion_has_the_ratio_one() -> None:
    rows = growth.growth_rows("images", {100: job(2, 500), 1000: job(20, 600)}, in_proportion=True)

    large = {row["name"]: row for row in rows if "1000" in row["name"]}
    assert large["training, 1000 images"]["ratio"] == pytest.approx(1)
    assert large["memory, 1000 images"]["ratio"] == pytest.approx(1.2)


def test_classes_stand_beside_the_fewest_of_them() -> None:
    rows = growth.growth_rows("classes", {2: job(2, 500), 100: job(6, 500)}, in_proportion=False)

    assert {row["name"]: row for row in rows}["testing, 100 classes"]["ratio"] == pytest.approx(3)


def test_the_figure_is_drawn_of_all_three() -> None:
    steps = {"lora": [{"step_s": 1.0, "memory_mb": 1.0}], "wara": [{"step_s": 1.1, "memory_mb": 1.0}]}
    found = {100: job(2, 500), 1000: job(20, 600)}

    picture = Image.open(io.BytesIO(growth.draw_growth(found, found, {14: steps, 28: steps})))

    assert picture.size == (2400, 840)
    assert len(picture.convert("L").getcolors() or []) > 10  # something is on it


@in_its_time
def test_the_command_writes_rows_and_a_figure(tmp_path: Path) -> None:
    small = ["--images", "40", "--classes", "2", "--images-of-classes", "40", "--grids", "4"]

    written = run_benchmark("growth", tmp_path, *small, "--backbone", "vit_tiny_untrained")

    names = by_name(written)
    assert names["reading, 40 images"]["ratio"] == 1
    assert names["training step, 4 x 4 tokens"]["peer_name"] == "lora"
    assert (tmp_path / "growth.png").is_file()
