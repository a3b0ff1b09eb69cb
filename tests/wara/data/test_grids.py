"""Tables as text cells: workbooks, what damages them, and columns by name."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from wara.data.grids import read_grid
from wara.errors import InputError


def workbook(**sheets: list[list[Any]]) -> bytes:
    book = Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _refusal(data: bytes, sheet: str | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        read_grid(data, "list.xlsx", sheet)
    return caught.value


def test_cells_of_a_workbook_are_texts_as_a_person_sees_them():
    rows = [["a", "b"], [1, 1.0], [True, 0.25], [date(2024, 3, 1), datetime(2024, 3, 1, 12, 30)], [" x ", None]]
    grid = read_grid(workbook(one=rows), "list.xlsx")
    assert grid.header == ("a", "b")
    assert [cells for _, cells in grid.rows] == [
        ("1", "1"), ("TRUE", "0.25"), ("2024-03-01", "2024-03-01 12:30:00"), ("x",),
    ]  # fmt: skip
    assert grid.values(1)[-1] == ""


def test_zeros_that_a_format_puts_before_a_number_are_kept():
    book = Workbook()
    book.active.append(["pid"])
    book.active.append([7])
    book.active["A2"].number_format = "000"
    file = io.BytesIO()
    book.save(file)
    assert read_grid(file.getvalue(), "t.xlsx").values(0) == ["007"]


def test_the_first_sheet_that_holds_anything_is_read_unless_another_is_named():
    data = workbook(cover=[], first=[["f"], ["1"]], second=[["g"], ["2"]])
    grid = read_grid(data, "t.xlsx")
    assert (grid.sheet, grid.header, grid.sheets) == ("first", ("f",), ("cover", "first", "second"))
    assert read_grid(data, "t.xlsx", "second").header == ("g",)
    error = _refusal(data, "third")
    assert error.code == "sheet-missing"
    assert error.seen == "third in list.xlsx: its sheets are cover, first, second"


def test_empty_lines_above_the_header_are_passed_over_and_rows_keep_their_numbers():
    grid = read_grid(workbook(s=[[None], ["f", "l"], [None], ["a", "x"]]), "t.xlsx")
    assert grid.header == ("f", "l")
    assert grid.rows == ((4, ("a", "x")),)


def test_what_is_no_workbook_is_refused_in_words():
    whole = workbook(s=[["f", "l"], ["a", "b"]])
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "x")
    for data in (whole[: len(whole) // 2], other.getvalue(), workbook(s=[]), workbook(s=[["f", "l"]])):
        assert _refusal(data).code == "csv-unreadable"
    assert "old Excel" in (_refusal(b"\xd0\xcf\x11\xe0" + bytes(600)).seen or "")


def test_a_column_is_found_whatever_its_capitals_and_the_others_are_named_where_it_is_not():
    grid = read_grid(b"Image ID,Dx,dx\na,b,c\n", "t.csv")
    assert grid.place("image id") == 0
    assert (grid.place("Dx"), grid.place("dx")) == (1, 2)
    with pytest.raises(InputError) as caught:
        grid.place("file")
    assert caught.value.seen == "t.csv: its columns are Image ID, Dx, dx"
    with pytest.raises(InputError) as caught:
        grid.place("DX")
    assert caught.value.code == "csv-column-twice"


CELLS = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6))
def test_a_workbook_gives_back_every_text(rows):
    grid = read_grid(workbook(s=[["f", "l"], *([f"x{a}", f"x{b}"] for a, b in rows)]), "t.xlsx")
    assert [cells for _, cells in grid.rows] == [
        (normalize("NFC", f"x{a}"), normalize("NFC", f"x{b}")) for a, b in rows
    ]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_bring_the_reader_down(data):
    for start in (b"", b"PK\x03\x04", b"\xff\xfe"):
        try:
            read_grid(start + data, "t")
        except InputError as error:
            assert error.code == "csv-unreadable"


@pytest.mark.parametrize("told", ["A1", "A1:B4", "A1:A7"])
def test_a_sheet_is_read_whole_whatever_it_says_of_its_size(told):
    rows = [["file", "label"], *([f"{number}.png", "a"] for number in range(6))]
    written = io.BytesIO(workbook(one=rows))
    changed = io.BytesIO()
    with zipfile.ZipFile(written) as archive, zipfile.ZipFile(changed, "w") as other:
        for info in archive.infolist():
            text = archive.read(info)
            if info.filename.endswith("sheet1.xml"):
                assert b'ref="A1:B7"' in text
                text = text.replace(b'ref="A1:B7"', f'ref="{told}"'.encode())
            other.writestr(info, text)
    grid = read_grid(changed.getvalue(), "t.xlsx")
    assert grid.header == ("file", "label") and grid.values(0) == [f"{number}.png" for number in range(6)]


def test_a_delimiter_inside_a_quoted_name_is_none():
    grid = read_grid(b'"Image; full; path",Dx\na.png,ill\n', "t.csv")
    assert grid.header == ("Image; full; path", "Dx") and grid.rows == ((2, ("a.png", "ill")),)


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "sep=|", "sep=\t"])
def test_a_line_that_tells_excel_the_delimiter_is_no_header(first):
    mark = first.strip('"')[-1]
    grid = read_grid(f"{first}\r\nfile{mark}label\r\na,b.png{mark}ill\r\n".encode(), "t.csv")
    assert grid.header == ("file", "label") and grid.rows == ((3, ("a,b.png", "ill")),)
