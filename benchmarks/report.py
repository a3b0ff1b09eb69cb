"""The form of every benchmark's answer: the machine, one row a comparison, a table for people and JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch


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
    name: str, ours: float, peer: float, *, peer_name: str, unit: str, runs: int, spread: float | None = None
) -> dict[str, Any]:
    """Return one comparison; `ratio` is ours over peer, `spread` the largest relative deviation over the runs."""
    return {
        "name": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit, "ratio": ours / peer,
        "runs": runs, "spread": spread,
    }  # fmt: skip


def write(path: Path | None, rows: list[dict[str, Any]]) -> None:
    """Write the rows with the machine as JSON, where a file was named."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", encoding="utf-8")


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
