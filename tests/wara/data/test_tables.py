from __future__ import annotations

import pytest

from wara.data import open_source, read_catalogue
from wara.data.tables import parse_table, resolve_files
from wara.errors import InputError


def _refusal(text: str | bytes, name: str = "labels.csv") -> InputError:
    with pytest.raises(InputError) as caught:
        parse_table(text.encode() if isinstance(text, str) else text, name)
    return caught.value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_tables_of_every_spreadsheet_are_read(encoding, delimiter, newline):
    lines = [["file", "label", "note"], ["a.png", "größer", "x"], ["b.png", "1.0", ""]]
    text = newline.join(delimiter.join(cells) for cells in lines) + newline
    rows = parse_table(text.encode(encoding), "t.csv")
    assert [(row.file, row.label, row.patient, row.split) for row in rows] == [
        ("a.png", "größer", None, None),
        ("b.png", "1.0", None, None),
    ]


def test_cells_stay_texts_and_spaces_around_them_go():
    rows = parse_table(b"File , LABEL,patient\n a.png , 1 ,007\nb.png,NA,nan\n", "t.csv")
    assert [(row.file, row.label, row.patient) for row in rows] == [("a.png", "1", "007"), ("b.png", "NA", "nan")]


def test_quoted_cells_and_empty_lines_are_understood():
    rows = parse_table(b'\nfile,label\n"a,1.png","x ""y"""\n\nb.png,z\n,\n', "t.csv")
    assert [(row.file, row.label) for row in rows] == [("a,1.png", 'x "y"'), ("b.png", "z")]


def test_words_for_sides_are_understood():
    text = "file,label,split\na,x,Training\nb,x,VALID\nc,x,Testing\n"
    assert [row.split for row in parse_table(text.encode(), "t")] == ["train", "val", "test"]


@pytest.mark.parametrize("column", ["file", "label"])
def test_a_missing_column_is_named_with_those_there_are(column):
    other = {"file": "label", "label": "file"}[column]
    error = _refusal(f"image_id,{other},age\na,b,c\n")
    assert error.what == f"The table has no column '{column}'"
    assert error.seen == f"labels.csv: its columns are image_id, {other}, age"
    assert error.code == "csv-column-missing"


def test_a_column_that_stands_twice_is_named():
    assert _refusal("file,label,Label\na,b,c\n").code == "csv-column-twice"


def test_an_unknown_side_is_shown_with_its_line():
    error = _refusal("file,label,split\na,x,train\nb,x,tent\n")
    assert (error.code, error.seen) == ("csv-split-word", "labels.csv, line 3: tent")


def test_sides_in_some_rows_only_are_refused():
    error = _refusal("file,label,split\na,x,train\nb,x,\n")
    assert (error.code, error.seen) == ("csv-split-empty", "labels.csv, line 3")


def test_empty_labels_are_counted_and_their_lines_shown():
    error = _refusal("file,label\n" + "".join(f"{number}.png,\n" for number in range(5)))
    assert error.what == "The table has 5 rows without a label"
    assert error.seen == "labels.csv, lines 2, 3, 4, ..."
    assert error.code == "csv-empty-label"
    assert _refusal("file,label\n,x\n").code == "csv-empty-file"


def test_a_file_named_twice_is_refused():
    error = _refusal("file,label\na.png,x\nb.png,x\na.png,y\n")
    assert (error.code, error.seen) == ("csv-duplicate", "labels.csv: a.png")


@pytest.mark.parametrize(
    "data", [b"", b"\n \n", b"file,label\n", b"PK\x03\x04\0\0", b'file,label\n"a,x\n', b"\xff\xfef"]
)
def test_what_is_no_table_is_refused(data):
    assert _refusal(data).code == "csv-unreadable"


def _resolve(written: list[str], names: list[str], prefix: str = "", table: str = "labels.csv") -> list[str]:
    text = "file,label\n" + "".join(f'"{file}",x\n' for file in written)
    return resolve_files(parse_table(text.encode(), table), names, prefix, table)


def test_files_are_found_as_people_write_them():
    names = ["images/NORMAL/a.png", "images/b.v2.jpg", "c.png"]
    assert _resolve(["images/NORMAL/a.png"], names) == ["images/NORMAL/a.png"]
    assert _resolve(["./images\\b.v2.jpg"], names) == ["images/b.v2.jpg"]
    assert _resolve(["top/c.png"], names, prefix="top/") == ["c.png"]
    assert _resolve(["NORMAL/a.png"], names, table="images/labels.csv") == ["images/NORMAL/a.png"]
    assert _resolve(["a.png", "b.v2", "/old/disk/c.png"], names) == ["images/NORMAL/a.png", "images/b.v2.jpg", "c.png"]


def test_composed_and_decomposed_letters_are_the_same_name():
    assert _resolve(["gro\u0308ße.png"], ["größe.png"]) == ["größe.png"]


def test_missing_files_are_counted_and_the_first_three_shown():
    with pytest.raises(InputError) as caught:
        _resolve([f"{number}.png" for number in range(6)], ["0.png"])
    assert caught.value.what == "The table names 5 of 6 files that are not in the data"
    assert caught.value.seen == "labels.csv: 1.png, 2.png, 3.png, ..."
    assert caught.value.code == "csv-files-missing"


def test_a_bare_name_that_two_folders_share_is_not_guessed():
    with pytest.raises(InputError) as caught:
        _resolve(["a.png"], ["one/a.png", "two/a.png"])
    assert caught.value.code == "csv-files-alike"
    assert "one/a.png, two/a.png" in str(caught.value.seen)


def test_two_ways_to_write_one_file_are_a_duplicate():
    with pytest.raises(InputError) as caught:
        _resolve(["x/a.png", "a.png"], ["x/a.png", "x/b.png"])
    assert caught.value.code == "csv-duplicate"


def test_a_table_beside_the_data_names_files_in_it(folder, tmp_path):
    root = folder(["images/a/1.png", "images/b/2.png"])
    table = tmp_path / "truth.csv"
    table.write_text("file,label\nimages/a/1.png,p\nimages/b/2.png,q\n")
    with open_source(root) as source:  # "images/" is seen through
        assert source.prefix == "images/"
        assert [item.label for item in read_catalogue(source, table).items] == ["p", "q"]


def test_sex_and_age_are_read_where_the_table_has_them():
    rows = parse_table(b"file,label,Sex,age\na.png,x,F,47\nb.png,x,,\nc.png,y,m,006M\nd.png,y,M,071Y\n", "t.csv")
    assert [(row.sex, row.age) for row in rows] == [("F", 47.0), (None, None), ("m", 0.5), ("M", 71.0)]


@pytest.mark.parametrize("age", ["old", "-3", "200", "Y", "nan", "47 years"])
def test_an_age_that_is_none_is_refused_by_its_line(age):
    with pytest.raises(InputError, match=rf"no age in years \(seen: t.csv, line 3: {age}\)") as caught:
        parse_table(f"file,label,age\na.png,x,3\nb.png,x,{age}\n".encode(), "t.csv")
    assert caught.value.code == "csv-age"
