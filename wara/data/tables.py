"""A table of labels with the columns that are expected: checked row by row, its files found in the data."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wara.data.grids import Grid, named, no_table, read_grid
from wara.data.items import frame_name, frame_name_parts
from wara.data.matching import FileIndex
from wara.data.sources import Source, unreadable_file
from wara.data.words import split_of
from wara.errors import InputError

TABLE_NAMES = ("labels.csv", "labels.tsv", "labels.xlsx")
_SHOWN = 3
_MAX_TABLE_BYTES = 1 << 28
_OLDEST = 130.0  # years


@dataclass(frozen=True, slots=True)
class Table:
    """A table's bytes and its name; the name is relative to the source where the table lies in it."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the file as written, its class, and patient, side, sex and age (years) where the table has them."""

    line: int
    file: str
    label: str
    patient: str | None
    split: str | None
    sex: str | None = None
    age: float | None = None


def find_table(source: Source, labels: Path | str | None) -> Table | None:
    """Return the table that was asked for, else ``labels.csv``, ``.tsv`` or ``.xlsx`` of the top folder, else None.

    Raises:
        InputError: the table asked for is not there, cannot be read or is no table.
    """
    if labels is None:
        tops = {name.lower(): name for name in source.names() if "/" not in name}
        found = next((tops[name] for name in TABLE_NAMES if name in tops), None)
        return None if found is None else Table(found, source.read(found))
    path = Path(labels)
    if path.is_file():
        if path.stat().st_size > _MAX_TABLE_BYTES:
            raise no_table(path.name, "larger than 256 MB")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise unreadable_file(path.name, error.strerror or "cannot be opened") from error
        return Table(_name_inside(source, path), data)
    name = PurePosixPath(str(labels)).as_posix()
    for candidate in (name, name.removeprefix(source.prefix)):
        if candidate in source:
            return Table(candidate, source.read(candidate))
    raise InputError(
        "The table of labels is not there", seen=labels, remedy="Check the spelling of the path.", code="csv-not-found"
    )


def parse_table(data: bytes, name: str) -> list[Row]:
    """Read a table's rows whose columns are named file, label and perhaps patient and split.

    Cells stay texts: a class "1" is not turned into a number.

    Args:
        data: the file (see ``wara.data.grids.read_grid``).
        name: shown in errors.

    Raises:
        InputError: no table, a column missing, an empty label, an unknown side, or a file named twice.
    """
    return table_rows(read_grid(data, name))


def table_rows(grid: Grid) -> list[Row]:
    """Return the rows of a table (see ``parse_table``)."""
    name = grid.name
    columns = _columns(grid.header, name)
    rows = [_row(number, cells, columns, name) for number, cells in grid.rows]
    _refuse(name, [row for row in rows if not row.file], "rows without a file name", "csv-empty-file",
            "Fill in the column 'file', or delete these rows.")  # fmt: skip
    _refuse(name, [row for row in rows if not row.label], "rows without a label", "csv-empty-label",
            "Fill in the column 'label', or delete these rows.")  # fmt: skip
    _check_splits(rows, name)
    _check_twice((row.file for row in rows), name)
    return rows


def has_expected_columns(grid: Grid) -> bool:
    """Whether a table names its columns as ``parse_table`` wants them."""
    return {"file", "label"} <= {cell.casefold() for cell in grid.header}


def resolve_files(rows: list[Row], names: list[str], prefix: str, table: str) -> list[str]:
    """Find each row's file among the names of the source.

    A file is taken as written; else relative to the folder that was seen through, or to the table's own folder;
    else by its name alone, with or without the suffix, where that is unique and no other folder is written.
    "scan.dcm#12" is frame 12 of such a file.

    Args:
        rows: the table's rows.
        names: the source's names.
        prefix: the source's wrapping folder, with a slash, or "".
        table: the table's name, relative to the source where it lies in it.

    Returns:
        A name of the source for each row.

    Raises:
        InputError: files that the table names are missing, or two rows mean one file.
    """
    index = FileIndex(names, prefix, table)

    def find_frame(written: str) -> str | None:
        path, frame = frame_name_parts(written.strip())
        file = index.file(path) if frame is not None else None
        return None if file is None or frame is None else frame_name(file, frame)

    found = [index.file(row.file) or find_frame(row.file) for row in rows]
    missing = [row.file for row, name in zip(rows, found, strict=True) if name is None]
    unclear = [written for written in missing if index.alike(written)]
    if unclear:
        raise InputError(
            f"The table names {len(unclear):,} of {len(rows):,} files without saying which of several is meant",
            seen=f"{PurePosixPath(table).name}: {_some(unclear)}; e.g. {_some(index.alike(unclear[0]))}",
            remedy="Write them with their folders in the column 'file', relative to the data's folder.",
            code="csv-files-alike",
        )
    if missing:
        raise InputError(
            f"The table names {len(missing):,} of {len(rows):,} files that are not in the data",
            seen=f"{PurePosixPath(table).name}: {_some(missing)}",
            remedy="Add the files, correct their paths in the column 'file' (relative to the data's folder), "
            "or delete these rows.",
            code="csv-files-missing",
        )
    files = [name for name in found if name is not None]
    _check_twice(files, table)
    return files


def _name_inside(source: Source, path: Path) -> str:
    """Return a table's name relative to the data's top folder where it lies in it, else its own name."""
    if source.path.is_dir():
        try:
            inside = path.resolve().relative_to((source.path / source.prefix).resolve())
        except ValueError:
            return path.name
        return inside.as_posix()
    return path.name


def _columns(header: Sequence[str], name: str) -> dict[str, int]:
    known = {"file", "label", "patient", "split", "sex", "age"}
    folded = [cell.casefold() for cell in header]
    for column in ("file", "label"):
        if column not in folded:
            raise InputError(
                f"The table has no column '{column}'",
                seen=f"{name}: its columns are {named(header)}",
                remedy=f"Rename the column that holds the {'paths' if column == 'file' else 'classes'} to '{column}'.",
                code="csv-column-missing",
            )
    twice = [column for column in known if folded.count(column) > 1]
    if twice:
        raise InputError(
            f"The table has the column '{twice[0]}' twice",
            seen=name,
            remedy="Rename or delete one of them.",
            code="csv-column-twice",
        )
    return {column: folded.index(column) for column in known if column in folded}


def _row(number: int, cells: Sequence[str], columns: dict[str, int], name: str) -> Row:
    def cell(column: str) -> str:
        place = columns.get(column)
        return cells[place].strip() if place is not None and place < len(cells) else ""

    word = cell("split")
    split = split_of(word) if word else None
    if word and split is None:
        raise InputError(
            "The column 'split' holds a word that names no side",
            seen=f"{name}, line {number}: {word}",
            remedy="Use train, val and test.",
            code="csv-split-word",
        )
    return Row(
        number, cell("file"), unicodedata.normalize("NFC", cell("label")), cell("patient") or None, split,
        cell("sex") or None, age_in_years(cell("age"), f"{name}, line {number}"),
    )  # fmt: skip


def age_in_years(text: str, where: str) -> float | None:
    """Return an age in years: a number, or DICOM's form such as 045Y or 010M; None for an empty text.

    Raises:
        InputError: no age; code "csv-age".
    """
    if not text:
        return None
    years = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}.get(text[-1].upper())
    try:
        age = float((text[:-1] if years else text).replace(",", ".")) / (years or 1.0)
    except ValueError:
        age = -1.0
    if not 0 <= age <= _OLDEST:
        raise InputError(
            "The column 'age' holds something that is no age in years", seen=f"{where}: {text[:20]}",
            remedy="Use numbers such as 47, DICOM's form such as 047Y, or leave the cell empty.", code="csv-age",
        )  # fmt: skip
    return age


def _check_splits(rows: list[Row], name: str) -> None:
    without = [row for row in rows if row.split is None]
    if len(without) < len(rows):
        _refuse(name, without, "rows without a side in the column 'split', which others have", "csv-split-empty",
                "Fill in train, val or test in every row, or delete the column.")  # fmt: skip


def _check_twice(files: Iterable[str], name: str) -> None:
    twice = [file for file, count in Counter(files).items() if count > 1]
    if twice:
        raise InputError(
            f"The table names {len(twice):,} {'file' if len(twice) == 1 else 'files'} more than once",
            seen=f"{name}: {_some(twice)}",
            remedy="Keep one row for each file.",
            code="csv-duplicate",
        )


def _refuse(name: str, rows: list[Row], what: str, code: str, remedy: str) -> None:
    if rows:
        lines = "line " if len(rows) == 1 else "lines "
        lines += ", ".join(str(row.line) for row in rows[:_SHOWN]) + (", ..." if len(rows) > _SHOWN else "")
        raise InputError(f"The table has {len(rows):,} {what}", seen=f"{name}, {lines}", remedy=remedy, code=code)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
