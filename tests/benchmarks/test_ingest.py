"""From files to a data set beside decoding them: every stage is later than the one before."""

from __future__ import annotations

from pathlib import Path

from benchmarks import ingest
from tests.benchmarks.commands import by_name, run_benchmark


def test_each_stage_takes_the_files_further(tmp_path: Path) -> None:
    written = run_benchmark("ingest", tmp_path, "--files", "60", "--pixels", "64")

    rates = [row["ours"] for row in written["rows"] if row["unit"] == "images/s"]
    assert len(rates) == 4
    assert rates == sorted(rates, reverse=True)
    memory = by_name(written, "a tenth of the images")
    assert memory["with its decoders"]["ours"] > memory["server's peak memory"]["ours"]


def test_rates_are_files_over_seconds() -> None:
    run = ingest.Ingested(1.0, 2.0, 4.0, 8.0, server_mb=150, together_mb=300)
    less = ingest.Ingested(0.1, 0.2, 0.4, 0.8, server_mb=100, together_mb=200)

    rows = ingest.rows_of(80, [run], [10.0], less)

    assert [(row["ours"], row["peer"]) for row in rows] == [(80, 8), (40, 8), (20, 8), (10, 8), (150, 100), (300, 200)]
