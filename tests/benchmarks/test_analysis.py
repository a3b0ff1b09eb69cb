"""The analysis beside the forward passes alone, on the same images."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.commands import by_name, in_its_time, run_benchmark


@in_its_time
def test_the_analysis_is_measured_with_and_without_its_figures(tmp_path: Path) -> None:
    written = run_benchmark("analysis", tmp_path, "--images", "8", "--rounds", "1")

    assert set(by_name(written)) == {"measured", "measured and drawn", "python -m wara analyse, start to end"}
    assert len({row["peer"] for row in written["rows"]}) == 1
    assert written["images"] == 8
