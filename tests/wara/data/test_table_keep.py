"""What is kept of tables: the columns that labels are read from, codes of patients, and what singles nobody out."""

from __future__ import annotations

import pytest

from wara.data.grids import Grid, read_grid
from wara.data.patients import patient_code
from wara.data.table_keep import keep_table, may_identify, singles_out
from wara.errors import InputError
from wara.imaging.deidentify import NOTHING_MORE, Consent

COLUMNS = {"file": "file", "label": "label", "patient": "patient"}


def as_it_is(written: str) -> list[str]:
    return [written]


def kept(text: str, columns: dict[str, str] = COLUMNS, consent: Consent = NOTHING_MORE, stored=as_it_is) -> list[str]:
    table = keep_table(read_grid(text.encode(), "t.csv"), columns, stored, consent)
    return [] if table is None else table.data.decode().splitlines()


def rows(*columns: list[str]) -> str:
    return "\n".join(",".join(cells) for cells in zip(*columns, strict=True))


def test_patients_become_the_codes_that_they_are_read_as() -> None:
    lines = kept("file;label;patient;Name;born\na.png;x;4711;Doe, Jane;1951-02-03\nb.png;y;;Roe;")
    assert lines == ["file,label,patient", f"a.png,x,WARA-{patient_code('4711')}", "b.png,y,"]
    assert patient_code(f"WARA-{patient_code('4711')}") == patient_code("4711")


def test_rows_follow_the_files_and_go_with_them() -> None:
    where = {"a": ["1.png", "2.png"], "b": ["3.png"]}
    lines = kept("file,label,patient\na,x,1\nb,y,2\nc,y,3", stored=lambda written: where.get(written, []))
    assert [line.split(",")[:2] for line in lines[1:]] == [["1.png", "x"], ["2.png", "x"], ["3.png", "y"]]
    assert kept("file,label,patient\nc,y,3", stored=lambda _: []) == []


def test_a_column_that_is_file_and_patient_at_once_becomes_two() -> None:
    table = keep_table(read_grid(b"case,dx\n007,x\n008,y", "t"), {"file": "case", "label": "dx", "patient": "case"},
                       lambda written: [f"{written}/1.png"], NOTHING_MORE)  # fmt: skip
    assert table is not None and table.columns == {"file": "case", "label": "dx", "patient": "patient"}
    assert table.data.decode().splitlines()[1] == f"007/1.png,x,WARA-{patient_code('007')}"


@pytest.mark.parametrize(("values", "stays"), [("pq", True), ("pqr", True), (["p"] * 26 + list("wxyz"), False)])
def test_a_further_column_stays_where_each_value_stands_with_five_patients(values: str, stays: bool) -> None:
    text = rows(
        ["file", *(f"{n}.png" for n in range(30))], ["label", *("ab" * 15)], ["patient", *map(str, range(30))],
        ["subtype", *(values[n % len(values)] for n in range(30))],
    )  # fmt: skip
    assert (kept(text)[0] == "file,label,patient,subtype") is stays
    assert kept(text, {"file": "file", "label": "label"})[0] == "file,label"  # nobody knows who is who


def test_thirty_images_of_three_people_are_three_people() -> None:
    text = rows(
        ["file", *(f"{n}.png" for n in range(30))], ["label", *("ab" * 15)],
        ["patient", *(str(n % 3) for n in range(30))], ["subtype", *("pq" * 15)],
    )  # fmt: skip
    assert kept(text)[0] == "file,label,patient"


def test_more_than_a_hundred_values_single_out() -> None:
    patients = [str(n) for n in range(1010)]
    assert singles_out([str(n % 101) for n in range(1010)], patients)
    assert not singles_out([str(n % 100) for n in range(1000)], patients[:1000])
    assert not singles_out(["", *"a" * 5], ["9", *"12345"])


@pytest.mark.parametrize(
    "column",
    ["Name", "patient_name", "PatientName", "MRN", "dob", "BirthDate", "study date", "Geburtsdatum", "Nachname", "id",
     "Image ID", "Adresse", "E-Mail", "Tel.", "Referring physician", "comment", "Notes", "Bemerkung", "apellidos",
     "date de naissance", "téléphone", "Hospital", "StudyTime", "PLZ", "Accession-No", "history", "", "1234"],
)  # fmt: skip
def test_names_of_columns_that_may_identify(column: str) -> None:
    assert may_identify(column)


@pytest.mark.parametrize("column", ["subtype", "grade", "view", "laterality", "Modality", "eye", "Stadium", "quality"])
def test_names_of_columns_that_do_not(column: str) -> None:
    assert not may_identify(column)


def test_sex_and_age_need_agreement_and_ages_are_bands() -> None:
    text = "file,label,patient,Sex,age\na.png,x,1,F,47\nb.png,y,2,M,093Y\nc.png,y,3,M,who"
    assert kept(text)[0] == "file,label,patient"
    lines = kept(text, consent=Consent(True, 10))
    assert [line.split(",")[3:] for line in lines] == [["Sex", "age"], ["F", "40"], ["M", "90"], ["M", ""]]


def test_names_of_columns_cannot_be_taken_for_marks_between_columns() -> None:
    grid = Grid("t.xlsx", ("a;b;c;d", "dx|1"), ((2, ("1.png", "x")), (3, ("2.png", "y"))))
    table = keep_table(grid, {"file": "a;b;c;d", "label": "dx|1"}, as_it_is, NOTHING_MORE)
    assert table is not None
    assert read_grid(table.data, "t").header == tuple(table.columns.values()) == ("a b c d", "dx 1")


def test_a_column_that_is_not_there_is_said() -> None:
    with pytest.raises(InputError) as caught:
        kept("file,label\na.png,x", {"file": "file", "label": "dx"})
    assert caught.value.code == "csv-column-missing"
