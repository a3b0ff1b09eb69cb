"""Run a benchmark as its command does, on as little as it takes, and read what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Several trainings in processes of their own each: half a minute, with which the whole suite would take too long.
in_its_time = pytest.mark.skipif(
    "WARA_TEST_BENCHMARKS" not in os.environ, reason="takes half a minute: set WARA_TEST_BENCHMARKS=1 to run it"
)
FIELDS = {"name", "ours", "peer", "peer_name", "unit", "ratio", "runs", "spread"}


def run_benchmark(name: str, folder: Path, *options: str) -> dict[str, Any]:
    """Return the JSON of ``python -m benchmarks.NAME``; every row of it, and of the table, is whole."""
    file = folder / f"{name}.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", *options, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    written: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert {"machine", "rows"} <= written.keys()
    for row in written["rows"]:
        assert row.keys() >= FIELDS
        assert row["ours"] > 0 and row["peer"] > 0
        assert f"| {row['name']} |" in done.stdout
        if row["runs"] == 1:
            assert abs(row["ratio"] - row["ours"] / row["peer"]) < 1e-9
    return written


def by_name(written: dict[str, Any], peer_name: str | None = None) -> dict[str, dict[str, Any]]:
    """Return the rows by their names, those of one peer if one is named."""
    return {row["name"]: row for row in written["rows"] if peer_name in (None, row["peer_name"])}
