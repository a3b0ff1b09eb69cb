"""split.csv of a run: which image was on which side, to repeat or continue the run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from wara.data.disk import plain_disk_errors
from wara.data.items import Catalogue, Item
from wara.data.words import SPLITS
from wara.errors import InputError

_COLUMNS = ["file", "label", "patient", "split"]


def write_split_csv(path: Path | str, catalogue: Catalogue, split: Sequence[str]) -> None:
    """Write the columns file, label, patient and split, one row an image; the file appears whole or not at all.

    The file is itself a table of labels: ``--labels split.csv`` trains on the same sides again.

    Raises:
        InputError: code "disk-full".
    """
    write_items_csv(path, catalogue.items, split)


def write_items_csv(path: Path | str, items: Sequence[Item], split: Sequence[str]) -> None:
    """Do as ``write_split_csv`` does, for images without a catalogue."""
    path = Path(path)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for item, side in zip(items, split, strict=True):
        writer.writerow([item.file, item.label, item.patient or "", side])
    draft = path.with_name(f"{path.name}.partial")
    try:
        with plain_disk_errors(path.parent):
            draft.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape", newline="")
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_split_csv(path: Path | str) -> list[Item]:
    """Return the images of a split.csv with label, patient and side.

    Raises:
        InputError: the file is missing or is no split.csv; code "split-csv".
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            if reader.fieldnames != _COLUMNS:
                raise KeyError("columns")
        items = [Item(row["file"], row["label"], row["patient"] or None, row["split"]) for row in rows]
    except (OSError, csv.Error, KeyError) as error:
        raise _no_split(path) from error
    if any(item.split not in SPLITS for item in items):
        raise _no_split(path)
    return items


def _no_split(path: Path) -> InputError:
    return InputError(
        "The run's split.csv cannot be read",
        seen=path,
        remedy="Start the run anew instead of resuming it.",
        code="split-csv",
    )
