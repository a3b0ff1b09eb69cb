"""Run a peer's script in a process of its own and read what it printed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import watch

LORA_SCRIPT = Path(__file__).resolve().with_name("lora_script.py")


@dataclass(frozen=True)
class ScriptRun:
    """What came of the script.

    Attributes:
        epochs: its line of each epoch: ``images_per_second``, ``val_auroc``, ``seconds`` since it began.
        seconds: from its start to its end.
        peak_mb: largest resident memory of its process, without the DataLoader's, in MiB.
    """

    epochs: list[dict[str, float]]
    seconds: float
    peak_mb: float

    @property
    def images_per_second(self) -> float:
        """Images a second of all training steps, with their data."""
        return self.epochs[-1]["images_per_second"]


def run_lora_script(data: Path, labels: Path, *flags: str, **options: Any) -> ScriptRun:
    """Run ``lora_script.py``.

    Args:
        data: folder of images.
        labels: their table.
        flags: such as ``--bf16``.
        options: its other options by name.
    """
    command = ["-W", "ignore", str(LORA_SCRIPT), str(data), "--labels", str(labels), *flags]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    ended = watch(command)
    lines = [json.loads(line) for line in ended.output.splitlines()]
    return ScriptRun([line for line in lines if "epoch" in line], ended.seconds, ended.peak_mb)
