"""What a mapping would give, before it is applied: a guess to start from, examples, counts and what does not fit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from wara.data.grids import Grid, is_table_name, read_grid
from wara.data.items import natural_key
from wara.data.kept import Kept
from wara.data.mapping import Mapping
from wara.data.mapping_guess import MOST_CLASSES, Guess, guess_columns
from wara.data.mapping_read import Reader, Reading
from wara.data.matching import FileIndex
from wara.data.sources import Source
from wara.data.tables import Table, find_table
from wara.errors import InputError
from wara.imaging.formats import is_image_name

SHOWN = 8
# Headers are read one file at a time; counts over so many are told as what they are.
MOST_HEADERS = 300
_SHOWN_LABELS = 60
_SHOWN_REASONS = 12


def open_table(source: Source, name: str | None, labels: Path | str | None) -> Table | None:
    """Return the table that a mapping names, or one that is found by itself; None where there is none.

    A name is looked for in the data only, never on the machine: it may come from outside. ``labels`` is the person's
    own path, or a copy of what was uploaded.

    Raises:
        InputError: there is no such table, or it cannot be read.
    """
    if labels is not None and (name is None or Path(labels).name == name.rsplit("/", 1)[-1]):
        return find_table(source, labels)
    if name is None:
        return find_table(source, None) or _only_table(source)
    for candidate in (name, name.removeprefix(source.prefix)):
        if candidate in source:
            return Table(candidate, source.read(candidate))
    raise InputError(
        "The table of labels is not in the data",
        seen=name,
        remedy=f"The tables there are: {', '.join(table_names(source, labels)) or 'none'}.",
        code="csv-not-found",
    )


def table_names(source: Source, labels: Path | str | None = None) -> list[str]:
    """Return the names of the tables that a mapping can use."""
    beside = [Path(labels).name] if labels is not None and Path(labels).name not in source else []
    return beside + [name for name in source.names() if is_table_name(name)]


def open_reader(source: Source, mapping: Mapping, labels: Path | str | None = None) -> Reader:
    """Return what follows a mapping over a source.

    Raises:
        InputError: the mapping, or its table, cannot be used.
    """
    table = None
    if mapping.source == "table" or mapping.columns:
        table = open_table(source, mapping.table, labels)
    grid = None if table is None else read_grid(table.data, table.name, mapping.sheet)
    name = "" if table is None else table.name
    return Reader(
        mapping, source.names(), source.open, grid=grid, prefix=source.prefix, table=name, kept=Kept.read(source.path)
    )


def guess_mapping(source: Source, labels: Path | str | None = None, table: str | None = None,
                  sheet: str | None = None) -> tuple[Mapping, Guess, Grid | None]:  # fmt: skip
    """Guess where the labels come from: a table's columns where there is a table, else folders.

    Args:
        source: an open source.
        labels: the table's path, where a person named one.
        table: the table's name in the data.
        sheet: a sheet of it.

    Raises:
        InputError: the table named is not there or cannot be read.
    """
    found = open_table(source, table, labels)
    if found is None:
        return Mapping(), Guess(), None
    grid = read_grid(found.data, found.name, sheet)
    images = [name for name in source.names() if is_image_name(name)]
    guess = guess_columns(grid, FileIndex(images, source.prefix, found.name))
    sheet = grid.sheet if len(grid.sheets) > 1 else None
    return Mapping("table", table=found.name, sheet=sheet, columns=guess.columns), guess, grid


def preview(
    source: Source, mapping: Mapping | None, labels: Path | str | None = None, *, shown: int = SHOWN
) -> dict[str, Any]:
    """Return what a mapping gives, without reading pixels; without a mapping, what is guessed.

    Args:
        source: an open source.
        mapping: where labels come from; None to guess. A table without columns has its columns guessed.
        labels: the table's path, where it stands outside the source.
        shown: example files to return.

    Returns:
        ``mapping`` (as followed), ``guessed`` (sentences), ``tables`` (names), ``table`` (the one in use: name,
        sheets, sheet, rows, columns with samples; None without), ``images``, ``counted`` (images that the counts are
        over), ``used``, ``labels`` [{name, count}], ``label_count``, ``patients`` (None where unknown), ``splits``
        {side: images}, ``unused`` {count, reasons: [{reason, count, example}]}, ``rows_without_file``, ``rows``
        (examples), ``warnings``, and ``problem`` {title, seen, remedy, code} where the mapping cannot be used as it is.

    Raises:
        InputError: the table cannot be read.
    """
    described: dict[str, Any] | None = None
    sentences: tuple[str, ...] = ()
    if mapping is None or mapping.source == "table" or mapping.columns:
        wanted = mapping or Mapping()
        guessed, guess, grid = guess_mapping(source, labels, wanted.table, wanted.sheet)
        described = None if grid is None else _describe(grid, guess)
        if mapping is None or (mapping.source == "table" and not mapping.columns):
            sentences = guess.sentences
            label_from = guessed.source if mapping is None else wanted.source
            mapping = replace(wanted, source=label_from, table=guessed.table, sheet=guessed.sheet,
                              columns=guessed.columns)  # fmt: skip
    document: dict[str, Any] = {
        "mapping": mapping.to_dict(),
        "guessed": list(sentences),
        "tables": table_names(source, labels),
        "table": described,
        "images": sum(is_image_name(name) for name in source.names()),
        "problem": None,
    }
    try:
        reader = open_reader(source, mapping, labels)
        names = reader.images
        if mapping.source == "dicom" or mapping.patient_tag:
            names = names[:MOST_HEADERS]
        readings = reader.read(names)
    except InputError as error:
        problem = {"title": error.what, "seen": error.seen, "remedy": error.remedy, "code": error.code}
        return document | _counts([], shown) | {"rows_without_file": 0, "problem": problem}
    return document | _counts(readings, shown) | {"rows_without_file": len(reader.rows_without_file)}


def _counts(readings: list[Reading], shown: int) -> dict[str, Any]:
    used = [reading for reading in readings if reading.reason is None]
    labels = Counter(reading.label or "" for reading in used)
    patients = {reading.patient for reading in used if reading.patient}
    reasons = Counter(reading.reason for reading in readings if reading.reason is not None)
    examples: dict[str | None, str] = {}
    for reading in readings:
        examples.setdefault(reading.reason, reading.file)
    ordered = sorted(labels, key=natural_key) if len(labels) <= MOST_CLASSES else [n for n, _ in labels.most_common()]
    return {
        "counted": len(readings),
        "used": len(used),
        "labels": [{"name": name, "count": labels[name]} for name in ordered[:_SHOWN_LABELS]],
        "label_count": len(labels),
        "patients": len(patients) or None,
        "splits": dict(Counter(reading.split for reading in used if reading.split)),
        "unused": {
            "count": len(readings) - len(used),
            "reasons": [
                {"reason": reason, "count": count, "example": examples[reason]}
                for reason, count in reasons.most_common(_SHOWN_REASONS)
            ],
        },
        "rows": [_row(reading) for reading in _examples(readings, shown)],
        "warnings": _warnings(len(labels), len(used), len(patients)),
    }


def _examples(readings: list[Reading], shown: int) -> list[Reading]:
    """Return the first files, spread over the labels so that each kind is seen, then those that are not used."""
    first: dict[tuple[str | None, str | None], Reading] = {}
    for reading in readings:
        first.setdefault((reading.label, reading.reason), reading)
    chosen = list(first.values())[:shown]
    for reading in readings:
        if len(chosen) >= shown:
            break
        if reading not in chosen:
            chosen.append(reading)
    return sorted(chosen, key=lambda reading: natural_key(reading.file))


def _row(reading: Reading) -> dict[str, Any]:
    return {
        "file": reading.file,
        "label": reading.label,
        "patient": reading.patient,
        "split": reading.split,
        "groups": reading.groups,
        "reason": reading.reason,
    }


def _warnings(labels: int, used: int, patients: int) -> list[str]:
    found = []
    if labels > MOST_CLASSES:
        found.append(f"{labels:,} different labels are many for classes. Check that this is where the labels stand.")
    if labels == 1:
        found.append("There is only one class; training needs at least two.")
    if used and not patients:
        found.append(
            "No patients are known here, so images of one patient may come to stand in training and test. "
            "Say where patients stand if you can; those in DICOM headers are found by themselves."
        )
    if patients and patients == used > 1:
        found.append("Every image has a patient of its own. Check that this is the patient, and not the image.")
    return found


def _describe(grid: Grid, guess: Guess) -> dict[str, Any]:
    columns = [
        {"name": column.name, "distinct": column.distinct, "matches": column.matches, "samples": list(column.samples)}
        for column in guess.described
    ]
    return {
        "name": grid.name,
        "sheet": grid.sheet,
        "sheets": list(grid.sheets),
        "rows": len(grid.rows),
        "columns": columns,
    }


def _only_table(source: Source) -> Table | None:
    """Return the table of the data where it holds exactly one, or one that stands highest."""
    names = sorted((name for name in source.names() if is_table_name(name)), key=lambda name: name.count("/"))
    if not names or (len(names) > 1 and names[0].count("/") == names[1].count("/")):
        return None
    return Table(names[0], source.read(names[0]))
