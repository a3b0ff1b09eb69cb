"""The comparison of methods: the table from whole run folders, without training anew."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

AREA = {"value": 0.9, "low": 0.85, "high": 0.95}


def write_run(folder: Path, *, trained: int, memory: float) -> None:
    folder.mkdir(parents=True)
    metrics = {
        "test": {"auroc": AREA, "balanced_accuracy": AREA}, "trainable_parameters": trained, "adapter_parameters": 0,
        "seconds": 90.0, "images_per_second": 50.0, "peak_memory_mb": memory,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))


def table_of(folder: Path, methods: str) -> dict[str, list[str]]:
    command = [sys.executable, "-m", "benchmarks.methods", str(folder), "--backbone", "embedded", "--methods", methods]
    done = subprocess.run([*command, "--out", str(folder)], capture_output=True, text=True, check=True)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows}


def test_whole_runs_are_not_made_again_and_full_fine_tuning_measures_the_efficiencies(tmp_path: Path) -> None:
    write_run(tmp_path / "lora", trained=1_000, memory=512)
    write_run(tmp_path / "full", trained=100_000, memory=1024)
    rows = table_of(tmp_path, "lora,full")
    assert rows["lora"][:3] == ["1,000 (0)", "0.900 [0.850, 0.950]", "0.900 [0.850, 0.950]"]
    assert rows["lora"][-2:] == [
        f"{0.9 * math.exp(-math.log10(1.01)):.3f}", f"{0.9 * math.exp(-math.log10(1.5)):.3f}",
    ]  # fmt: skip
    assert rows["full"][-2:] == [f"{0.9 * math.exp(-math.log10(2)):.3f}"] * 2


def test_without_full_fine_tuning_there_is_no_efficiency(tmp_path: Path) -> None:
    write_run(tmp_path / "lora", trained=1_000, memory=512)
    assert table_of(tmp_path, "lora")["lora"][-2:] == ["–", "–"]
