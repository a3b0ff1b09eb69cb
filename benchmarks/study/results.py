"""The results of a study: one JSON line a finished cell; what a killed run left half-written is cut off."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.study.plan import TEST, TUNE, Cell
from wara.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Group = tuple[Any, ...]
DATA = "data"
_STEPS = 1000  # margins are kept to a thousandth
_LARGEST = 32.0
_SMALLEST_CHANCE = 1e-14


class Results:
    """A results file: what stands in it, and adding to it.

    Lines of kind ``"data"`` hold the classes, targets and patients of a data set's test images; the others are cells,
    with ``key``, ``cell`` (`Cell.to_dict`) and what was found.

    Args:
        path: the file; it need not be there.

    Raises:
        InputError: a line is none of JSON, other than the last; code ``"results"``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[str, dict[str, Any]] = {}
        self.data: dict[str, dict[str, Any]] = {}
        if path.is_file():
            _repair(path)
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                self._take(_parsed(line, path, number))

    def _take(self, entry: dict[str, Any]) -> None:
        if entry["kind"] == DATA:
            self.data[entry["data"]] = entry
        else:
            self.cells[entry["key"]] = entry

    def add(self, entry: dict[str, Any]) -> None:
        """Append a line; it is on the disk when this returns."""
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._take(entry)

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells that are not in the file."""
        return [cell for cell in cells if cell.key not in self.cells]

    def found(self, cells: Iterable[Cell]) -> list[tuple[Cell, dict[str, Any]]]:
        """Return the cells that are, with what was found."""
        return [(cell, self.cells[cell.key]) for cell in cells if cell.key in self.cells]


def choose_rates(results: Results, tune: Iterable[Cell]) -> dict[Group, float]:
    """Return the rate of each group all of whose tuning cells are done.

    The one with the best mean AUROC on validation images over the tuning seeds, of equal ones that with the smaller
    loss there, then the smaller rate. A training that diverged counts as worse than any other.
    """
    cells = list(tune)
    incomplete = {cell.group for cell in results.missing(cells)}
    scores: dict[Group, dict[float, list[tuple[float, float]]]] = {}
    for cell, entry in results.found(cells):
        if cell.group not in incomplete:
            area, loss = entry["val_auroc"], entry["val_loss"]
            broken = area is None or loss is None
            score = (-1.0, -np.inf) if broken else (area, -loss)
            scores.setdefault(cell.group, {}).setdefault(cell.rate, []).append(score)
    return {
        group: max(sorted(by_rate), key=lambda rate, by=by_rate: tuple(np.mean(by[rate], axis=0)))  # type: ignore[misc]
        for group, by_rate in scores.items()
    }


def encode_scores(probabilities: Floats) -> str:
    """Pack class probabilities (n, k) as the margins of their logits over class 0, to a thousandth, in base64."""
    logs = np.log(np.maximum(probabilities, _SMALLEST_CHANCE))
    margins = np.clip(logs[:, 1:] - logs[:, :1], -_LARGEST, _LARGEST)
    return _packed(np.round(margins * _STEPS).astype("<i2"))


def decode_scores(text: str, classes: int) -> Floats:
    """Return class probabilities (n, k) of what `encode_scores` packed."""
    margins = _unpacked(text, "<i2").reshape(-1, classes - 1).astype(np.float64) / _STEPS
    logits = np.concatenate([np.zeros((len(margins), 1)), margins], axis=1)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = raised / raised.sum(axis=1, keepdims=True)
    return probabilities


def encode_numbers(numbers: Ints) -> str:
    """Pack numbers (n,) of classes or patients in base64."""
    return _packed(numbers.astype("<u4"))


def decode_numbers(text: str) -> Ints:
    """Return the numbers (n,) of what `encode_numbers` packed."""
    return _unpacked(text, "<u4").astype(np.int64)


def cell_entry(cell: Cell, found: dict[str, Any]) -> dict[str, Any]:
    """Return the line of a cell."""
    assert cell.kind in (TUNE, TEST)
    return {"kind": cell.kind, "key": cell.key, "cell": cell.to_dict(), **found}


def _packed(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _unpacked(text: str, dtype: str) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


def _repair(path: Path) -> None:
    """Cut off a last line that was being written when its process was killed."""
    whole = path.read_bytes()
    if whole and not whole.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(whole.rfind(b"\n") + 1)


def _parsed(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        if isinstance(entry, dict) and "kind" in entry and ("key" in entry or entry["kind"] == DATA):
            return entry
    except ValueError:
        pass
    raise InputError(
        "The results cannot be read", seen=f"{path.name}, line {number}",
        remedy="Take this line out; its cell is then run again.", code="results",
    )  # fmt: skip
