"""The form of every benchmark's answer: the machine, one row a comparison, a table for people and JSON for programs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import ratio_of

RESULTS = Path(__file__).resolve().parent / "results"


def parser_of(text: str | None, quick: str) -> argparse.ArgumentParser:
    """Return a command line with the options that all benchmarks have; `quick` says what ``--quick`` does."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{quick}; nothing is written unless --json says where")
    parser.add_argument("--json", type=Path, help="write the rows here; else under benchmarks/results")
    return parser


def destination(options: argparse.Namespace, name: str) -> Path | None:
    """Return where a benchmark's rows go: a quick run must not replace what a whole one found."""
    named: Path | None = options.json
    return named or (None if options.quick else RESULTS / f"{name}.json")


def machine() -> dict[str, Any]:
    """Describe the machine as far as figures depend on it."""
    capabilities = torch.cpu.get_capabilities()
    return {
        "cpu": _cpu_name() or capabilities.get("cpu_name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "native_bfloat16": bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def row(
    name: str, ours: float | None, peer: float, *, peer_name: str, unit: str, runs: int, spread: float | None = None
) -> dict[str, Any]:
    """Return one comparison.

    Args:
        name: what was measured.
        ours: the median of ours; None where it did not come to an end that can be compared.
        peer: the peer's median.
        peer_name: who the peer is.
        unit: of both.
        runs: rounds behind the medians.
        spread: of the ratio ours / peer, half the distance of its quartiles over the rounds; None for one round.
    """
    ratio = None if ours is None else ours / peer
    return {
        "name": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit, "ratio": ratio,
        "runs": runs, "spread": spread,
    }  # fmt: skip


def compare(name: str, ours: Sequence[float], peer: Sequence[float], *, peer_name: str, unit: str) -> dict[str, Any]:
    """Return the row of two sides measured in the same rounds; its ratio is the median of those of the rounds."""
    ratio, spread = ratio_of(ours, peer)
    medians = statistics.median(ours), statistics.median(peer)
    made = row(name, *medians, peer_name=peer_name, unit=unit, runs=len(ours), spread=spread if len(ours) > 1 else None)
    return made | {"ratio": ratio}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table for people, the machine below it."""
    lines = ["| measured | ours | peer | ratio | runs |\n|---|---|---|---|---|"]
    for each in rows:
        ratio = "–" if each["ratio"] is None else f"{each['ratio']:.2f}"
        ratio += "" if each["spread"] is None else f" ± {each['spread']:.2f}"
        ours = "not reached" if each["ours"] is None else f"{figure(each['ours'])} {each['unit']}"
        peer = f"{figure(each['peer'])} {each['unit']} ({each['peer_name']})"
        lines.append(f"| {each['name']} | {ours} | {peer} | {ratio} | {each['runs']} |")
    here = machine()
    bfloat16 = "native bfloat16" if here["native_bfloat16"] else "no native bfloat16"
    lines.append(
        f"\n{here['cpu']}, {here['cores']} cores, {bfloat16}, {here['gpu'] or 'no GPU'}; Python {here['python']}, "
        f"torch {here['torch']}"
    )
    return "\n".join(lines)


def figure(value: float) -> str:
    """Return a number as far as it means something: three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def publish(path: Path | None, rows: list[dict[str, Any]], **more: Any) -> None:
    """Print the rows as a table, and write them."""
    print(table(rows))
    write(path, rows, **more)


def write(path: Path | None, rows: list[dict[str, Any]], **more: Any) -> None:
    """Write the rows with the machine as JSON, where a file was named; `more` stands beside them."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = {"machine": machine(), "rows": rows, **more}
        path.write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
