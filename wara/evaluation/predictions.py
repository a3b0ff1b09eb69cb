"""predictions.csv of a run: what the model answers for each validation and test image, written and read back."""

from __future__ import annotations

import csv
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wara.errors import InputError
from wara.evaluation.bootstrap import Floats, Ints
from wara.evaluation.choices import SEPARATOR
from wara.evaluation.conformal import Masks
from wara.evaluation.novelty import WARNING

TRAITS = ("sex", "age")


@dataclass(frozen=True)
class Predictions:
    """The answers for the images of one side.

    Attributes:
        split: ``"val"`` or ``"test"``.
        files: (n,) names.
        targets: (n,) true classes.
        labels: (n,) classes that the images are called.
        probabilities: (n, k), calibrated.
        uncalibrated: (n, k), of the network itself.
        sets: (n, k) which classes are in each set, or None.
        novel: (n,) whether the warning comes, or None where there is none to give.
        patients: (n,) or None for an image whose patient is not known.
        traits: sex and age of each image as text, where the data have them.
    """

    split: str
    files: Sequence[str]
    targets: Ints
    labels: Ints
    probabilities: Floats
    uncalibrated: Floats
    sets: Masks | None
    novel: Sequence[bool] | None
    patients: Sequence[str | None]
    traits: dict[str, list[str | None]] = field(default_factory=dict)

    def groups(self) -> list[str]:
        """Return the patient of each image; an image without one stands for itself."""
        return group_names(self.files, self.patients)


def group_names(files: Sequence[str], patients: Sequence[str | None]) -> list[str]:
    """Return a name for the patient of each image, that of the file where the patient is not known."""
    return [f"patient {who}" if who else f"file {file}" for file, who in zip(files, patients, strict=True)]


def write_predictions(path: Path, classes: Sequence[str], sides: Sequence[Predictions]) -> None:
    """Write one row an image.

    Columns: file, split, label, predicted, ``p_CLASS`` (calibrated), ``uncalibrated_CLASS``, set, warning, patient,
    and sex and age where the data have them.
    """
    traits = [trait for trait in TRAITS if any(trait in side.traits for side in sides)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([
            "file", "split", "label", "predicted", *(f"p_{name}" for name in classes),
            *(f"uncalibrated_{name}" for name in classes), "set", "warning", "patient", *traits,
        ])  # fmt: skip
        for side in sides:
            for i, name in enumerate(side.files):
                held = (
                    [] if side.sets is None else [c for c, inside in zip(classes, side.sets[i], strict=True) if inside]
                )
                more = [side.traits[trait][i] or "" if trait in side.traits else "" for trait in traits]
                writer.writerow([
                    name, side.split, classes[side.targets[i]], classes[side.labels[i]],
                    *(f"{p:.6f}" for p in side.probabilities[i]), *(f"{p:.6f}" for p in side.uncalibrated[i]),
                    SEPARATOR.join(held), WARNING if side.novel is not None and side.novel[i] else "",
                    side.patients[i] or "", *more,
                ])  # fmt: skip


def read_predictions(path: Path, classes: Sequence[str]) -> dict[str, Predictions]:
    """Return the answers by side; a file of an older run lacks some columns, and then some members.

    Raises:
        InputError: the file is missing, damaged or of other classes; code ``"run-damaged"``.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        sides = dict.fromkeys(row["split"] for row in rows)
        index = {name: c for c, name in enumerate(classes)}
        return {side: _side(side, [row for row in rows if row["split"] == side], classes, index) for side in sides}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "The predictions of this run cannot be read", seen=path.name, remedy="Copy the run folder again.",
            code="run-damaged",
        ) from error  # fmt: skip


def _side(side: str, rows: list[dict[str, str]], classes: Sequence[str], index: dict[str, int]) -> Predictions:
    def columns(prefix: str) -> Floats:
        return np.array([[float(row[f"{prefix}{name}"]) for name in classes] for row in rows])

    probabilities = columns("p_")
    calibrated = f"uncalibrated_{classes[0]}" in rows[0]
    sets = [row.get("set") or "" for row in rows]
    held = [_classes_in(text, classes) for text in sets]
    return Predictions(
        split=side,
        files=[row["file"] for row in rows],
        targets=np.array([index[row["label"]] for row in rows]),
        labels=np.array([index[row["predicted"]] for row in rows]),
        probabilities=probabilities,
        uncalibrated=columns("uncalibrated_") if calibrated else probabilities,
        sets=np.array([[name in own for name in classes] for own in held]) if any(sets) else None,
        novel=[bool(row["warning"]) for row in rows] if "warning" in rows[0] else None,
        patients=[row.get("patient") or None for row in rows],
        traits={trait: [row[trait] or None for row in rows] for trait in TRAITS if trait in rows[0]},
    )


def _classes_in(text: str, classes: Sequence[str]) -> list[str]:
    """Return the classes that the text of a set names, in its order; a name may hold the separator itself.

    Where a text can be read in several ways, the longer name goes first.

    Raises:
        ValueError: the text is not names of these classes.
    """
    names, longest = frozenset(classes), max(map(len, classes))
    stops = [match.start() for match in re.finditer(f"(?={re.escape(SEPARATOR)})", text)] + [len(text)]
    ends: dict[int, int] = {len(text) + len(SEPARATOR): 0}  # of the name at each place from which all is names
    for start in reversed([0, *(stop + len(SEPARATOR) for stop in stops[:-1])]):
        near = stops[bisect_left(stops, start) : bisect_right(stops, start + longest)]
        for stop in reversed(near):
            if text[start:stop] in names and stop + len(SEPARATOR) in ends:
                ends[start] = stop
                break
    if text and 0 not in ends:
        raise ValueError("no names of classes")
    found, start = [], 0
    while start < len(text):
        found.append(text[start : ends[start]])
        start = ends[start] + len(SEPARATOR)
    return found
