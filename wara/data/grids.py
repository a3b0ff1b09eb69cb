"""A table as text cells, whatever program wrote it: CSV, TSV and the like, or a sheet of an Excel workbook."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import PurePosixPath
from typing import Any
from xml.etree.ElementTree import ParseError

from wara.errors import InputError

TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx")
# A workbook is a zip: beyond this it is no table of labels, or one made to fill the memory.
_MAX_WORKBOOK_BYTES = 1 << 28
_MAX_CELLS = 20_000_000
# A first line by which a text tells Excel its delimiter.
_SEPARATOR = re.compile(r'\s*"?sep=([^\w\s"]|\t)"?[ ,;\t]*\r?\n', re.IGNORECASE)


@dataclass(frozen=True)
class Grid:
    """A table's cells as texts, spaces around them gone.

    Attributes:
        name: the table's name, for messages.
        header: the columns' names.
        rows: (line in the file or row in the sheet, cells); a row may be shorter or longer than the header.
        sheets: the names of a workbook's sheets, the one that was read among them; empty for text.
        sheet: the sheet that was read; None for text.
    """

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    sheets: tuple[str, ...] = ()
    sheet: str | None = None

    def place(self, column: str) -> int:
        """Return where a column stands, by its name, else by its name with capitals and spaces left aside.

        Raises:
            InputError: there is no such column (code "csv-column-missing"), or there are several of the name
                ("csv-column-twice").
        """
        wanted = column.strip()
        places = [place for place, name in enumerate(self.header) if name == wanted]
        if not places:
            places = [place for place, name in enumerate(self.header) if name.casefold() == wanted.casefold()]
        if not places:
            raise InputError(
                f"The table has no column '{column}'",
                seen=f"{self.name}: its columns are {named(self.header)}",
                remedy="Name one of these columns.",
                code="csv-column-missing",
            )
        if len(places) > 1:
            raise InputError(
                f"The table has the column '{column}' twice",
                seen=self.name,
                remedy="Rename or delete one of them.",
                code="csv-column-twice",
            )
        return places[0]

    def values(self, place: int) -> list[str]:
        """Return a column's cells, "" where a row is too short."""
        return [cells[place] if place < len(cells) else "" for _, cells in self.rows]


def is_table_name(name: str) -> bool:
    """Whether a file of this name may be a table of labels."""
    return PurePosixPath(name).suffix.lower() in TABLE_SUFFIXES


def named(header: Iterable[str]) -> str:
    """Return column names as a list to read."""
    return ", ".join(cell or "(empty)" for cell in header)


def read_grid(data: bytes, name: str, sheet: str | None = None) -> Grid:
    """Read a table; its first line that is not empty is the header. Cells stay texts: "007" keeps its zeros.

    Args:
        data: an Excel workbook (.xlsx), or text in UTF-8 (with or without a mark), UTF-16 or Windows-1252, its cells
            parted by comma, semicolon, tab or bar.
        name: shown in errors.
        sheet: which sheet of a workbook; by default the first that holds anything.

    Raises:
        InputError: no table, code "csv-unreadable"; no such sheet, code "sheet-missing".
    """
    if data.startswith(b"PK\x03\x04"):
        return _read_workbook(data, name, sheet)
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise no_table(name, "it is a workbook of an old Excel (.xls), or one that is locked by a password",
                       "Open it in a spreadsheet program and save it as .xlsx or CSV.")  # fmt: skip
    return _read_text(data, name)


def no_table(name: str, why: str, remedy: str = "") -> InputError:
    """Return the error for a file that is no table."""
    return InputError(
        "The table of labels cannot be read",
        seen=f"{name}: {why}",
        remedy=remedy or "Save it as CSV (UTF-8) or .xlsx, with the columns file and label.",
        code="csv-unreadable",
    )


def _grid(numbered: Sequence[tuple[int, tuple[str, ...]]], name: str, **facts: Any) -> Grid:
    if not numbered:
        raise no_table(name, "it is empty")
    if len(numbered) == 1:
        raise no_table(name, "it has a header and no rows")
    return Grid(name, numbered[0][1], tuple(numbered[1:]), **facts)


def _read_text(data: bytes, name: str) -> Grid:
    text = _decode(data, name)
    told = _SEPARATOR.match(text)
    before = 0
    if told:
        text, before = text[told.end() :], text[: told.end()].count("\n")
    header = next((line for line in text.splitlines() if line.strip()), "")
    if not header:
        raise no_table(name, "it is empty")
    try:
        delimiter = told[1] if told else _delimiter(header)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        numbered = [
            (before + reader.line_num, tuple(cell.strip() for cell in cells))
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as error:
        raise no_table(name, str(error)) from error
    return _grid(numbered, name)


def _decode(data: bytes, name: str) -> str:
    encodings: tuple[str, ...]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ("utf-16",)
    else:
        if b"\0" in data[:4096]:
            raise no_table(name, "it is not text; a spreadsheet's own file?")
        encodings = ("utf-8-sig", "cp1252", "latin-1")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise no_table(name, "its letters cannot be read")


def _delimiter(header: str) -> str:
    """Return the delimiter that splits the header into the most columns that are known, then into the most."""

    def score(delimiter: str) -> tuple[int, int]:
        cells = [cell.strip().casefold() for cell in next(csv.reader([header], delimiter=delimiter), [])]
        return len({"file", "label", "patient", "split"} & set(cells)), len(cells)

    return max((",", ";", "\t", "|"), key=score)


def _read_workbook(data: bytes, name: str, wanted: str | None) -> Grid:
    # Imported on first use: most data sets hold no workbook.
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > _MAX_WORKBOOK_BYTES:
            raise no_table(name, f"it unpacks to {size / 1e6:,.0f} MB", "Keep the columns that are needed, as CSV.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Excel adds and openpyxl leaves out (validation, styles) is no matter
            book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
            try:
                return _sheet(book, name, wanted)
            finally:
                book.close()
    except InputError:
        raise
    except (
        InvalidFileException, zipfile.BadZipFile, zlib.error, ParseError, KeyError, ValueError, TypeError,
        AttributeError, IndexError, EOFError, OSError, NotImplementedError, OverflowError,
    ) as error:  # fmt: skip
        # What openpyxl raises for workbooks that are cut off, or zips of something else.
        raise no_table(name, "it is no workbook of Excel, or is damaged") from error


def _sheet(book: Any, name: str, wanted: str | None) -> Grid:
    sheets = tuple(sheet.title for sheet in book.worksheets)
    if wanted is not None and wanted not in sheets:
        raise InputError(
            "The workbook has no such sheet",
            seen=f"{wanted} in {name}: its sheets are {named(sheets)}",
            remedy="Name one of these sheets.",
            code="sheet-missing",
        )
    for sheet in book.worksheets:
        if wanted is not None and sheet.title != wanted:
            continue
        rows = _rows(sheet, name)
        if rows or wanted is not None:
            return _grid(rows, name, sheets=sheets, sheet=sheet.title)
    raise no_table(name, "all of its sheets are empty")


def _rows(sheet: Any, name: str) -> list[tuple[int, tuple[str, ...]]]:
    rows, cells = [], 0
    sheet.reset_dimensions()  # what the file says of its size is wrong where a program wrote it before the rows
    for number, row in enumerate(sheet.iter_rows(), start=1):
        texts = tuple(_text(cell.value, getattr(cell, "number_format", "")) for cell in row)
        cells += len(texts)
        if cells > _MAX_CELLS:
            raise no_table(name, f"it has more than {_MAX_CELLS:,} cells", "Keep the columns that are needed.")
        if any(texts):
            while texts and not texts[-1]:
                texts = texts[:-1]
            rows.append((number, texts))
    return rows


def _text(value: Any, number_format: str | None) -> str:
    """Return a cell as a person sees it: 1 and not 1.0, 007 where the cell is formatted as 000."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        whole = isinstance(value, int) or (value.is_integer() and abs(value) < 1e15)
        text = str(int(value)) if whole else repr(value)
        zeros = number_format or ""
        return text.zfill(len(zeros)) if whole and zeros and set(zeros) == {"0"} else text
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    return unicodedata.normalize("NFC", str(value)).strip()
