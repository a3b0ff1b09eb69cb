"""All methods on one data set with one recipe and seed: AUROC, time, parameters, memory and efficiency, in a table.

    python -m benchmarks.methods DATA --backbone NAME:FILE [--labels CSV] [--methods wara,lora] [--json FILE]

Each run is a process of its own, so that its peak memory is its own; the split, the order of images and the first head
are the same for all methods of a seed. The peer is PEFT's LoRA at the same rank. With ``--out`` the run folders are
kept, and those that are whole already are not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report
from wara.evaluation.card import interval
from wara.evaluation.efficiency import pme, ppe
from wara.training.recipe import METHODS, PRESETS

PEER = "lora"


def main() -> int:
    """Run the methods in turn and print the table."""
    options = _parser().parse_args()
    methods = options.methods.split(",")
    if PEER not in methods:
        methods.append(PEER)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch)
        results = {method: _run(method, folder, options) for method in methods}
    print("| method | trained numbers (in the adapter) | test AUROC [95 % interval] | balanced accuracy | time "
          "| images/s | peak memory | PPE | PME |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for method, metrics in results.items():
        print(_line(method, metrics, results.get("full")))
    peer = results[PEER]
    rows = [
        report.row(f"{method}, {name}", value(metrics), value(peer), peer_name=PEER, unit=unit, runs=1)
        for method, metrics in results.items()
        for name, unit, value in (
            ("test AUROC", "area", lambda m: m["test"]["auroc"]["value"]),
            ("time", "s", lambda m: m["seconds"]),
            ("training throughput", "images/s", lambda m: m["images_per_second"]),
            ("peak memory", "MiB", lambda m: m["peak_memory_mb"]),
        )
    ]
    report.write(options.json, rows)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--preset", default="quick", choices=PRESETS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="one epoch, to try the command")
    return parser


def _run(method: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    out = folder / method
    if (out / "metrics.json").is_file():
        return _metrics(out)
    command = [
        sys.executable, "-m", "wara", "train", str(options.data), "--out", str(out), "--method", method,
        "--backbone", options.backbone, "--preset", options.preset, "--seed", str(options.seed),
    ]  # fmt: skip
    if options.labels is not None:
        command += ["--labels", str(options.labels)]
    if options.quick:
        command += ["--epochs", "1"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return _metrics(out)


def _metrics(run: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def _line(method: str, metrics: dict[str, Any], full: dict[str, Any] | None) -> str:
    """Return a row; what full fine-tuning trains and takes is the measure of both efficiencies."""
    test = metrics["test"]
    efficiency = "– | –"
    if full is not None:
        area = test["auroc"]["value"]
        by_parameters = ppe(area, metrics["trainable_parameters"], full["trainable_parameters"])
        by_memory = pme(area, metrics["peak_memory_mb"], full["peak_memory_mb"])
        efficiency = f"{by_parameters:.3f} | {by_memory:.3f}"
    return (
        f"| {method} | {metrics['trainable_parameters']:,} ({metrics['adapter_parameters']:,}) "
        f"| {interval(test['auroc'])} | {interval(test['balanced_accuracy'])} | {metrics['seconds'] / 60:.1f} min "
        f"| {metrics['images_per_second']:.0f} | {metrics['peak_memory_mb'] / 1024:.1f} GiB "
        f"| {efficiency} |"
    )


if __name__ == "__main__":
    sys.exit(main())
