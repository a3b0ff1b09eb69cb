"""What the command line shows: progress bars with time left on a terminal, plain lines elsewhere, tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table


def span(seconds: float) -> str:
    """Return a duration rounded to what it means, e.g. ``"12 min"``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def interval(metric: dict[str, Any]) -> str:
    """Return a metric with its 95 % interval, e.g. ``"0.963 [0.948, 0.976]"``."""
    if metric.get("value") is None:
        return "not defined"
    if metric.get("low") is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]"


class RunView:
    """Shows the events of a training run as they come."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._live = sys.stdout.isatty()
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}  {task.fields[left]}"),
            console=self.console,
            transient=True,
            disable=not self._live,
        )
        self._task: TaskID | None = None
        self._description = ""
        self._began = 0.0

    def __enter__(self) -> Self:
        """Start the live display, on a terminal."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self._progress.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event of `wara.training.run.train`."""
        kind = event["type"]
        if kind == "phase":
            self._next_task(event["message"], None)
            self.console.print(event["message"])
        elif kind == "warning":
            self.console.print(f"[yellow]Note:[/yellow] {escape(event['message'])}")
        elif kind == "progress":
            self._advance(event)
        elif kind == "epoch":
            self._epoch(event)

    def progress(self, description: str, done: int, total: int, unit: str = "images") -> None:
        """Show progress of something that is not a run; another description begins anew."""
        if self._task is None or description != self._description:
            self._next_task(description, total, unit)
            self._description = description
            self._began = time.perf_counter()
        assert self._task is not None
        left = (total - done) * (time.perf_counter() - self._began) / max(done, 1)
        self._progress.update(self._task, completed=done, total=total, left=f"{span(left)} left")

    def ending(self) -> None:
        """Say that the run ends behind its step."""
        self.console.print("Ending after this step. Ctrl-C once more ends it at once.")

    def _next_task(self, description: str, total: int | None, unit: str = "images") -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(description.split()[0], total=total, left="", unit=unit)

    def _advance(self, event: dict[str, Any]) -> None:
        if self._task is None:
            self._next_task(event["phase"].capitalize(), event["total"])
        assert self._task is not None
        left = f"{span(event['seconds_left'])} left" if event.get("seconds_left") is not None else ""
        self._progress.update(self._task, completed=event["done"], total=event["total"], left=left)

    def _epoch(self, event: dict[str, Any]) -> None:
        auroc = "not defined" if event["val_auroc"] is None else f"{event['val_auroc']:.4f}"
        mark = "  best so far" if event["best"] else ""
        self.console.print(
            f"  epoch {event['epoch']}/{event['epochs']}  training loss {event['train_loss']:.4f}  "
            f"validation loss {event['val_loss']:.4f}  validation AUROC {auroc}  {span(event['seconds'])}{mark}"
        )


def metrics_table(metrics: dict[str, Any], classes: Sequence[str]) -> Table:
    """Return the test metrics with their intervals as a table."""
    table = Table("Test", "Value [95 % interval]", box=None, pad_edge=False)
    names = {
        "auroc": "AUROC", "balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "f1": "F1 (macro)",
        "brier": "Brier score", "ece": "calibration error",
    }  # fmt: skip
    for key, label in names.items():
        table.add_row(label, interval(metrics["test"][key]))
    for name in classes:
        table.add_row(f"sensitivity, {escape(name)}", interval(metrics["test"]["sensitivity"][name]))
        table.add_row(f"specificity, {escape(name)}", interval(metrics["test"]["specificity"][name]))
    return table
