"""Trainings by the worker that the server starts: what its events say and when they came, and its peak memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from backend.jobs.events import EVENTS_FILE, EventLog
from backend.jobs.worker import ORDER_FILE, RESULT_FILE, RUN_FOLDER
from benchmarks.processes import watch
from wara.training.outputs import METRICS


@dataclass
class Job:
    """A training that came to its end.

    Attributes:
        seconds: from the start of the worker's process to its end.
        peak_mb: its largest resident memory in MiB.
        metrics: what metrics.json holds.
        curve: after each pass the seconds since the start, and the AUROC on the validation images.
        phases: seconds that each phase took, by name.
    """

    seconds: float
    peak_mb: float
    metrics: dict[str, Any]
    curve: list[dict[str, float]] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)


def train(
    data: Path,
    labels: Path | None,
    *,
    backbone: str,
    method: str = "wara",
    preset: str = "quick",
    recipe: Mapping[str, Any] | None = None,
    keep: Path | None = None,
) -> Job:
    """Train by ``python -m backend.jobs.worker``, which reads and decodes the images, too.

    Args:
        data: folder of images.
        labels: their table; None for class folders.
        backbone: spec of the backbone.
        method: as in the app.
        preset: as in the app.
        recipe: fields of the recipe that differ from the preset's.
        keep: where the job's folder is made, with the run in ``run``; None removes it.

    Raises:
        SystemExit: the training failed.
    """
    order = {
        "data": str(data), "labels": None if labels is None else str(labels), "mapping": None, "resume": False,
        "method": method, "preset": preset, "backbone": backbone, "recipe": dict(recipe or {}),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch) / "job"
        folder.mkdir(parents=True)
        (folder / ORDER_FILE).write_text(json.dumps(order | {"cache": str(folder / "cache")}), encoding="utf-8")
        times = _Times(EventLog(folder / EVENTS_FILE))
        # A home of its own: where weights lie and how patients are coded here is not the benchmark's to change.
        settings = {"WARA_HOME": str(folder / "home"), "WARA_OFFLINE": "true"}
        ended = watch(("-m", "backend.jobs.worker", str(folder)), settings=settings, look=times.look)
        result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        if result["state"] != "succeeded":
            raise SystemExit(f"The training failed: {result['error']}")
        metrics = json.loads((folder / RUN_FOLDER / METRICS).read_text(encoding="utf-8"))
    return Job(ended.seconds, ended.peak_mb, metrics, times.curve, times.phases(ended.seconds))


class _Times:
    """Notes when the events of a job came."""

    def __init__(self, log: EventLog) -> None:
        self._log, self._read = log, 0
        self.curve: list[dict[str, float]] = []
        self._begun: list[tuple[str, float]] = [("starting", 0.0)]

    def look(self, seconds: float) -> None:
        for number, line, kind in self._log.after(self._read):
            self._read = number
            event = json.loads(line)
            if kind == "epoch":
                self.curve.append({"seconds": seconds, "val_auroc": event["val_auroc"]})
            elif kind == "phase":
                self._begun.append((event["phase"], seconds))

    def phases(self, end: float) -> dict[str, float]:
        ends = [begun for _, begun in self._begun[1:]] + [end]
        return {name: until - begun for (name, begun), until in zip(self._begun, ends, strict=True)}


def weights_of(model: str, weights: Path | None, folder: Path) -> Path:
    """Return a weights file of a timm model: the one named, else one with drawn values, from which both sides start."""
    if weights is not None:
        return weights
    torch.manual_seed(0)
    file = folder / f"{model}.safetensors"
    save_file(timm.create_model(model, pretrained=False).state_dict(), file)
    return file
