"""Sex and age of the images: from headers that were allowed to keep them, and from the table before these."""

from __future__ import annotations

import io

import pydicom
from pydicom.data import get_testdata_file

from wara.data import PixelStore, data_report, ingest, open_source, read_catalogue
from wara.data.mapping import Mapping
from wara.imaging.deidentify import Consent, deidentify


def _kept_on_purpose(number: int, sex: str, age: str) -> bytes:
    """One of pydicom's own files, cleaned as the server cleans it where a person agreed."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.PatientID, dataset.PatientSex, dataset.PatientAge = f"P{number}", sex, age
    file = io.BytesIO()
    dataset.save_as(file)
    return deidentify(file.getvalue(), "a.dcm", Consent.of_band(5))


def test_sex_and_age_of_headers_come_where_they_were_kept_and_no_table_tells(folder, png, tmp_path):
    files = {f"{'ab'[n % 2]}/{n}.dcm": _kept_on_purpose(n, "MF"[n % 2], f"0{41 + n}Y") for n in range(4)}
    root = folder(files | {"a/9.png": png(9)})
    with open_source(root) as source:
        listed = read_catalogue(source)
        found, _ = ingest(source, listed)
        _, store = ingest(source, listed, size=16, store=tmp_path / "pixels")
    told = {item.file: (item.sex, item.age) for item in found.items}
    assert told == {"a/0.dcm": ("M", 40.0), "b/1.dcm": ("F", 40.0), "a/2.dcm": ("M", 40.0), "b/3.dcm": ("F", 40.0),
                    "a/9.png": (None, None)}  # fmt: skip
    assert {item.file: (item.sex, item.age) for item in PixelStore.open(tmp_path / "pixels").catalogue.items} == told
    assert store is not None and found.from_table == ()
    assert not any("headers" in note for note in data_report(found)["notes"])


def test_a_trait_that_the_table_tells_is_the_tables_alone_and_the_report_says_so(folder, tmp_path):
    rows = ["file,label,sex", "0.dcm,a,female", "1.dcm,b,", "2.dcm,a,male", "3.dcm,b,male"]
    files = {f"{n}.dcm": _kept_on_purpose(n, "M", "041Y") for n in range(4)}
    with open_source(folder(files | {"labels.csv": "\n".join(rows)})) as source:
        found, _ = ingest(source, read_catalogue(source))
        _, store = ingest(source, read_catalogue(source), size=16, store=tmp_path / "pixels")
    assert [(item.sex, item.age) for item in found.items] == [
        ("female", 40.0), (None, 40.0), ("male", 40.0), ("male", 40.0),
    ]  # fmt: skip
    assert found.from_table == store.catalogue.from_table == PixelStore.open(tmp_path / "pixels").catalogue.from_table
    assert found.from_table == ("sex",)
    assert "The table of labels tells sex: what DICOM headers say of it is not used." in data_report(found)["notes"]


def test_a_table_with_other_column_names_tells_sex_and_age_too(folder):
    rows = ["Image,Dx,Geschlecht ,AGE,note", "0.png,x,w,44,", "1.png,y,m,010M,", "2.png,x,not asked at all,n/a,"]
    root = folder({f"{n}.png": None for n in range(4)} | {"labels.csv": "\n".join([*rows, "3.png,y,,,"])})
    mapping = Mapping("table", table="labels.csv", columns={"file": "Image", "label": "Dx"})
    with open_source(root) as source:
        found = read_catalogue(source, None, mapping)
        assert [(i.sex, i.age) for i in found.items] == [("w", 44.0), ("m", 10 / 12), (None, None), (None, None)]
        assert found.from_table == ("sex", "age")
        by_sex = Mapping("table", table="labels.csv", columns={"file": "Image", "label": "Geschlecht"})
        found = read_catalogue(source, None, by_sex)  # a column that is the label is no trait beside it
    assert {item.sex for item in found.items} == {None} and found.from_table == ("age",)


def test_rows_of_one_file_that_tell_different_ages_tell_none(folder):
    rows = "Image,Dx,age\n0.png,x,44\n0.png,x,45\n1.png,y,50\n1.png,y,50"
    mapping = Mapping("table", table="labels.csv", columns={"file": "Image", "label": "Dx"})
    with open_source(folder({"0.png": None, "1.png": None, "labels.csv": rows})) as source:
        assert [item.age for item in read_catalogue(source, None, mapping).items] == [None, 50.0]
