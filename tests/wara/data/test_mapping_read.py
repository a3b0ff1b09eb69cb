"""A mapping followed: tables, patterns, headers and folders give label, patient and side, or the reason why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.wara.data.test_grids import workbook
from wara.data import ingest, open_source, read_catalogue
from wara.data.mapping import Mapping
from wara.data.patients import patient_code
from wara.errors import InputError


def _read(root: Path, **fields: object):
    with open_source(root) as source:
        return read_catalogue(source, None, Mapping(**fields))


def _facts(catalogue):
    return {item.file: (item.label, item.patient, item.split) for item in catalogue.items}


def _reasons(catalogue):
    return {entry.file: entry.reason for entry in catalogue.passed_over}


def _refusal(root: Path, **fields: object) -> InputError:
    with pytest.raises(InputError) as caught:
        _read(root, **fields)
    return caught.value


def test_a_workbook_with_columns_of_its_own_gives_label_patient_and_side(folder):
    table = workbook(a=[["x"]], b=[["Scan", "Dx", "PID", "Set"], ["1", 0, 7, "Training"], ["2.png", 1, 8, "test"]])
    root = folder({"images/1.png": None, "images/2.png": None, "images/3.png": None, "list.xlsx": table})
    columns = {"file": "Scan", "label": "Dx", "patient": "PID", "split": "Set"}
    found = _read(root, source="table", table="list.xlsx", sheet="b", columns=columns, rename={"0": "healthy"})
    assert _facts(found) == {
        "images/1.png": ("healthy", patient_code("7"), "train"),
        "images/2.png": ("1", patient_code("8"), "test"),
    }
    assert _reasons(found) == {"images/3.png": "not named in the table"}
    assert (found.layout, found.classes) == ("table", ("1", "healthy"))


def test_a_row_may_stand_for_the_folder_of_a_patient(folder):
    root = folder({"P1/a.png": None, "P1/b.png": None, "P2/c.png": None, "t.csv": "who,dx\nP1,ill\nP2,well\nP9,ill\n"})
    found = _read(root, source="table", table="t.csv", columns={"file": "who", "label": "dx", "patient": "who"})
    assert [item.label for item in found.items] == ["ill", "ill", "well"]
    assert [item.patient for item in found.items] == [patient_code("P1")] * 2 + [patient_code("P2")]
    assert _reasons(found) == {"P9": "named in the table, but not in the data"}


def test_files_of_one_name_in_two_folders_are_told_as_such_where_the_table_names_no_folder(folder):
    root = folder({"a/1.jpg": None, "b/1.jpg": None, "a/2.jpg": None, "t.csv": "f,l\n1,x\n2,y\n3,x\n"})
    found = _read(root, source="table", table="t.csv", columns={"file": "f", "label": "l"})
    alike = "other files have its name, and the table does not say by the folder which one is meant"
    assert _reasons(found) == {"a/1.jpg": alike, "b/1.jpg": alike, "3": "named in the table, but not in the data"}


def test_where_no_image_gets_a_label_every_reason_is_told_and_not_the_most_frequent_alone(folder):
    root = folder({"a/1.jpg": None, "b/1.jpg": None, "a/2.jpg": None, "a/3.jpg": None, "a/4.jpg": None,
                   "t.csv": "f,l\n1,x\n"})  # fmt: skip
    seen = str(_refusal(root, source="table", table="t.csv", columns={"file": "f", "label": "l"}).seen)
    assert "3 times: not named in the table" in seen
    assert "2 times: other files have its name" in seen


def test_masks_are_no_images_whichever_folder_names_the_class(folder):
    root = folder(["x/ill/1.png", "x/ill/1_mask.png", "y/well/2.png"])
    found = _read(root, depth=2)
    assert [item.file for item in found.items] == ["x/ill/1.png", "y/well/2.png"]


def test_rows_that_do_not_say_one_thing_are_passed_over_with_the_reason(folder):
    table = "f,l,s\n1,a,train\n1,b,train\n2,,train\n3,a,tent\n4,a,\n5,a,train\n5,a,train\n"
    root = folder({**{f"{n}.png": None for n in range(1, 6)}, "t.csv": table})
    found = _read(root, source="table", table="t.csv", columns={"file": "f", "label": "l", "split": "s"})
    assert list(_facts(found)) == ["5.png"]
    assert _reasons(found) == {
        "1.png": "the table gives it more than one label",
        "2.png": "the table gives it no label",
        "3.png": "'tent' in the table names no side of the split",
        "4.png": "it has no side of the split, which others have",
    }


def test_names_give_label_and_patient_by_a_pattern_and_labels_can_be_left_out(folder):
    root = folder(["01_L_ill.png", "01_R_well.png", "02_L_unsure.png", "cover.png", "notes.txt"])
    found = _read(
        root, source="pattern", pattern=r"(?P<patient>\d+)_(?P<eye>L|R)_(?P<label>[a-z]+)", leave_out=("unsure",)
    )
    assert _facts(found) == {
        "01_L_ill.png": ("ill", patient_code("01"), None),
        "01_R_well.png": ("well", patient_code("01"), None),
    }
    assert _reasons(found) == {
        "02_L_unsure.png": "its label 'unsure' is left out",
        "cover.png": "its name does not fit the pattern",
        "notes.txt": "not an image of a kind that is read (.txt)",
    }


def test_class_folders_and_a_pattern_for_the_patients_go_together(folder):
    root = folder(["train/a/1_x.png", "train/b/2_x.png", "test/a/3_x.png", "test/b/none.png"])
    found = _read(root, pattern=r"(?P<patient>\d+)_")
    assert _facts(found)["test/a/3_x.png"] == ("a", patient_code("3"), "test")
    assert _facts(found)["test/b/none.png"] == ("b", None, "test")
    assert found.layout == "split-folders"


@pytest.mark.parametrize(("depth", "labels"), [(1, {"s"}), (2, {"a", "b"}), (-1, {"left", "right"}), (-2, {"a", "b"})])
def test_the_folder_at_any_depth_can_be_the_class(folder, depth, labels):
    root = folder(["s/a/left/1.png", "s/b/right/2.png", "t.txt", "0.png"])
    found = _read(root, depth=depth)
    assert set(found.classes) == labels
    assert _reasons(found)["0.png"] == "not inside so many folders"


def test_a_header_gives_label_and_coded_patient_without_pixels(folder):
    ct, mr = (Path(str(get_testdata_file(name))).read_bytes() for name in ("CT_small.dcm", "MR_small.dcm"))
    root = folder({"x/1.dcm": ct, "x/2.dcm": mr, "x/3.png": None, "x/4.dcm": ct[:400]})
    found = _read(root, source="dicom", label_tag="(0008,0060)")
    assert {file: facts[0] for file, facts in _facts(found).items()} == {"x/1.dcm": "CT", "x/2.dcm": "MR"}
    assert _reasons(found)["x/3.png"] == "not a DICOM file"
    assert "x/4.dcm" in _reasons(found)
    with open_source(root) as source:
        decoded, _ = ingest(source, found)
    assert [item.patient for item in decoded.items] == [item.patient for item in found.items]


@pytest.mark.parametrize(
    ("tag", "what"),
    [
        ("PatientName", "cannot be a label"),
        ("(0010,0030)", "cannot be a label"),
        ("PatientBirthDate", "cannot be a label"),
        ("Nonsense", "no DICOM attribute"),
        ("(9999,9999)", "no DICOM attribute"),
    ],
)
def test_what_identifies_a_person_never_becomes_a_class(folder, tag, what):
    error = _refusal(folder(["1.png"]), source="dicom", label_tag=tag)
    assert (error.code, what in error.what) == ("dicom-tag", True)
    assert "BodyPartExamined" in error.remedy


def test_a_mapping_that_is_not_complete_says_what_is_missing(folder):
    root = folder({"1.png": None, "t.csv": "Scan,Dx\n1,a\n"})
    assert _refusal(root, source="pattern").code == "mapping-incomplete"
    assert _refusal(root, source="pattern", pattern="(?P<patient>.)").code == "mapping-incomplete"
    assert _refusal(root, source="dicom").code == "mapping-incomplete"
    error = _refusal(root, source="table", columns={"file": "Scan"})
    assert (error.code, error.seen) == ("mapping-incomplete", "the column of the label is missing; t.csv has Scan, Dx")
    error = _refusal(root, source="table", columns={"file": "Scan", "label": "Diagnosis"})
    assert (error.code, error.seen) == ("csv-column-missing", "t.csv: its columns are Scan, Dx")
    assert _refusal(root, source="table", table="../../etc/passwd", columns={"file": "a"}).code == "csv-not-found"


def test_a_mapping_that_fits_no_image_says_why(folder):
    error = _refusal(folder(["1.png", "2.png"]), source="pattern", pattern="(?P<label>zzz)")
    assert error.code == "mapping-nothing"
    assert "2 times: its name does not fit the pattern" in (error.seen or "")


def test_codes_of_patients_stay_as_they_are():
    code = patient_code("4711")
    assert code is not None and code != "4711" and len(code) == 12
    assert patient_code(code) in (code, patient_code(code))
    assert patient_code("a1b2c3d4e5f6") == "a1b2c3d4e5f6"
    assert patient_code("123456789012") != "123456789012"  # twelve digits may be a hospital's number
    assert patient_code("  ") is None
