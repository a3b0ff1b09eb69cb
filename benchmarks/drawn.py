"""Drawn images with a table of labels, for benchmarks that are to run without any data; and parts of a table."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from pathlib import Path

from wara import demo

LABELS_FILE = "labels.csv"
_COLUMNS = ("file", "label", "split")


def draw_study(folder: Path, counts: Mapping[str, int], *, seed: int = 0, size: int = 224) -> Path:
    """Draw the demo's images, three classes that differ by scale, into a folder; return the table beside them.

    Args:
        folder: where to.
        counts: images of each side (``train``, ``val``, ``test``), at least three each.
        seed: of the drawing.
        size: height and width in pixels.
    """
    images = sum(counts.values())
    drawn = [path.relative_to(folder) for path in demo.generate(folder, images, seed, size, dicom_share=0.0)]
    by_class: dict[str, list[str]] = {}
    for path in drawn:
        by_class.setdefault(path.parts[0], []).append(path.as_posix())
    # Classes in turn, so that each side has all of them.
    order = [file for number in range(images) for files in by_class.values() for file in files[number : number + 1]]
    sides = [side for side, count in counts.items() for _ in range(count)]
    rows = [{"file": file, "label": file.split("/")[0], "split": side} for file, side in zip(order, sides, strict=True)]
    return write_table(folder / LABELS_FILE, rows)


def part_of(table: Path, target: Path, counts: Mapping[str, int], *, seed: int = 0) -> Path:
    """Write a table of some images of each side, drawn by chance, and return it.

    Raises:
        SystemExit: the table has no column file, label or split, or fewer images of a side.
    """
    rows = read_table(table)
    random.Random(seed).shuffle(rows)
    chosen = []
    for side, count in counts.items():
        of_side = [row for row in rows if row["split"] == side]
        if len(of_side) < count:
            raise SystemExit(f"{table.name} has {len(of_side)} images of the side {side}; {count} are needed.")
        chosen += of_side[:count]
    return write_table(target, chosen)


def read_table(table: Path) -> list[dict[str, str]]:
    """Return the rows of a table of labels.

    Raises:
        SystemExit: it has no column file, label or split.
    """
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(_COLUMNS) <= rows[0].keys():
        raise SystemExit(f"{table.name} needs the columns {', '.join(_COLUMNS)}.")
    return [{column: row[column] for column in _COLUMNS} for row in rows]


def write_table(target: Path, rows: list[dict[str, str]]) -> Path:
    """Write a table of labels and return it."""
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return target
