"""A job's events: JSON lines that the worker appends and the server reads, and what they say about the job."""

from __future__ import annotations

import json
import math
import threading
from array import array
from pathlib import Path
from typing import Any

EVENTS_FILE = "events.jsonl"
MAX_WARNINGS = 100


class EventWriter:
    """Appends events to a file, each as one whole line.

    A line that a killed worker left unfinished is closed first, so that it can spoil no other.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        if path.stat().st_size:
            with path.open("rb") as existing:
                existing.seek(-1, 2)
                if existing.read(1) != b"\n":
                    self._file.write(b"\n")
        self._lock = threading.Lock()

    def __call__(self, event: dict[str, Any]) -> None:
        """Append one event."""
        line = json.dumps(finite(event), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class EventLog:
    """Reads a job's events as they come; only new lines are read again.

    Args:
        path: the file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        # Where each line begins. The lines themselves stay on disk: a long training writes tens of thousands.
        self._starts = array("Q")
        self._view = JobView()
        self._lock = threading.Lock()

    def after(self, number: int) -> list[tuple[int, bytes, str]]:
        """Return the events behind line ``number`` as (line number from 1, JSON, type)."""
        with self._lock:
            self._read()
            start = max(0, number)
            if start >= len(self._starts):
                return []
            with self._path.open("rb") as file:
                file.seek(self._starts[start])
                lines = file.read(self._offset - self._starts[start]).splitlines()
        # A spoilt line keeps its number, or resuming readers would lose count.
        parsed = ((place, line, _parse(line)) for place, line in enumerate(lines, start + 1))
        return [(place, line, _type(event)) for place, line, event in parsed if event is not None]

    def view(self) -> JobView:
        """Return what all events so far say."""
        with self._lock:
            self._read()
            return self._view.copy()

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole, newline, _ = data.rpartition(b"\n")
        if not newline:
            return
        for line in whole.split(b"\n"):
            self._starts.append(self._offset)
            self._offset += len(line) + 1
            event = _parse(line)
            if event is not None:
                self._view.take(event)


class JobView:
    """The state of a job as its events tell it."""

    def __init__(self) -> None:
        self.phase: str | None = None
        self.message: str | None = None
        self.progress: dict[str, Any] | None = None
        self.epochs: dict[int, dict[str, Any]] = {}
        self.warnings: list[str] = []

    @property
    def history(self) -> list[dict[str, Any]]:
        """The epochs in order; a resumed job repeats some, of which the last report counts."""
        return [self.epochs[number] for number in sorted(self.epochs)]

    def take(self, event: dict[str, Any]) -> None:
        """Follow one event."""
        kind = event.get("type")
        if kind == "phase":
            self.phase, self.message = event.get("phase"), event.get("message")
            self.progress = None
        elif kind == "progress":
            done, total = event.get("done") or 0, event.get("total") or 0
            self.phase = event.get("phase", self.phase)
            self.progress = {
                "done": done,
                "total": total,
                "fraction": min(1.0, done / total) if total else 0.0,
                "seconds_left": event.get("seconds_left"),
                "images_per_second": event.get("images_per_second"),
            }
        elif kind == "epoch" and isinstance(event.get("epoch"), int):
            self.epochs[event["epoch"]] = event
        elif kind == "warning" and event.get("message") not in self.warnings and len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(str(event.get("message")))
        elif kind == "done":
            self.phase, self.message, self.progress = "done", None, None

    def copy(self) -> JobView:
        """Return a copy that later events leave alone."""
        other = JobView()
        other.phase, other.message, other.progress = self.phase, self.message, self.progress
        other.epochs, other.warnings = dict(self.epochs), list(self.warnings)
        return other


def finite(value: Any) -> Any:
    """Return JSON values with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _type(event: dict[str, Any]) -> str:
    kind = str(event.get("type", "message"))
    return kind if kind.isidentifier() else "message"
