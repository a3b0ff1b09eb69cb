from __future__ import annotations

import os
import unicodedata

import pytest

from wara.data import open_source, read_catalogue
from wara.data.items import natural_key
from wara.data.patients import patient_code
from wara.data.report import data_report
from wara.errors import InputError


def _read(path, labels=None):
    with open_source(path) as source:
        return read_catalogue(source, labels)


def _refusal(path, labels=None) -> InputError:
    with pytest.raises(InputError) as caught:
        _read(path, labels)
    return caught.value


def test_class_folders_give_the_classes(folder):
    catalogue = _read(folder(["sick/a.png", "normal/b.png", "normal/deep/c.png", "sick/d"]))
    assert catalogue.layout == "class-folders"
    assert catalogue.classes == ("normal", "sick")
    assert catalogue.counts() == {"all": {"normal": 2, "sick": 2}}
    assert [item.file for item in catalogue.items] == ["normal/b.png", "normal/deep/c.png", "sick/a.png", "sick/d"]
    assert catalogue.targets() == [0, 0, 1, 1]
    assert all(item.patient is None and item.split is None for item in catalogue.items)


@pytest.mark.parametrize(
    "words", [("train", "val", "test"), ("Training", "validation", "TEST"), ("train", "valid", "testing")]
)
def test_folders_of_sides_over_class_folders_give_the_split(folder, words):
    catalogue = _read(folder([f"{word}/{name}/{word}{name}.png" for word in words for name in ("a", "b")]))
    assert catalogue.layout == "split-folders"
    assert catalogue.counts() == {side: {"a": 1, "b": 1} for side in ("train", "val", "test")}


def test_sides_are_found_inside_a_wrapping_folder_and_alone(folder):
    assert _read(folder(["x/train/a/1.png", "x/test/a/2.png"], "one")).layout == "split-folders"
    assert _read(folder(["train/a/1.png", "train/b/2.png"], "two")).counts() == {"train": {"a": 1, "b": 1}}


def test_sides_in_every_class_folder_give_the_split(folder):
    files = [f"{name}/{side}/{side}{name}.png" for name in ("nevus", "naevus") for side in ("Train", "test")]
    catalogue = _read(folder(files))
    assert (catalogue.layout, catalogue.classes) == ("split-folders", ("naevus", "nevus"))
    assert catalogue.counts() == {side: {"naevus": 1, "nevus": 1} for side in ("train", "test")}


@pytest.mark.parametrize("other", ["a/3.png", "a/left/3.png", "c/left/3.png"])
def test_sides_in_some_class_folders_alone_are_folders(folder, other):
    catalogue = _read(folder(["a/train/1.png", "b/train/2.png", "b/test/2.png", other]))
    assert catalogue.layout == "class-folders"
    assert all(item.split is None for item in catalogue.items)


def test_one_side_in_all_class_folders_is_a_folder(folder):
    assert _read(folder(["a/train/1.png", "b/train/2.png"])).layout == "class-folders"


def test_a_class_that_is_called_test_is_a_class(folder):
    catalogue = _read(folder(["control/1.png", "test/2.png"]))
    assert (catalogue.layout, catalogue.classes) == ("class-folders", ("control", "test"))


def test_masks_beside_their_images_are_no_images_of_the_class(folder):
    busi = ["benign (1).png", "benign (1)_mask.png", "benign (1)_mask_1.png", "my_mask.png"]
    covid = ["images/a.png", "masks/a.png", "masks/b.png"]
    catalogue = _read(folder([*(f"benign/{file}" for file in busi), *(f"COVID/{file}" for file in covid)]))
    assert [item.file for item in catalogue.items] == [
        "COVID/images/a.png", "COVID/masks/b.png", "benign/benign (1).png", "benign/my_mask.png",
    ]  # fmt: skip
    assert {entry.reason for entry in catalogue.passed_over} == {"by its name the mask of another image"}
    assert len(catalogue.passed_over) == 3


def test_a_class_that_is_called_mask_is_a_class(folder):
    assert _read(folder(["Mask/1.png", "No mask/1.png"])).counts() == {"all": {"Mask": 1, "No mask": 1}}


def test_sides_that_hold_images_alone_are_no_classes(folder):
    error = _refusal(folder({"train_images/1.png": None, "test_images/2.png": None, "train.csv": "id,x\n"}))
    assert error.code == "no-classes"
    assert "train.csv" in error.remedy


def test_a_table_that_is_not_used_is_told_as_such(folder):
    root = folder({"part_1/1.png": None, "part_2/2.png": None, "meta.csv": "image,dx\n1,a\n2,b\n"})
    catalogue = _read(root)
    assert [entry.reason for entry in catalogue.passed_over] == ["a table that was not named as the one of the labels"]
    assert any("1 table beside the images not used" in note for note in data_report(catalogue)["notes"])


def test_what_is_no_image_is_passed_over_with_its_reason(folder):
    root = folder(["a/1.png", "b/2.png", "a/notes.txt", "loose.png", "DICOMDIR", "b/x.gif"])
    reasons = {entry.file: entry.reason for entry in _read(root).passed_over}
    assert reasons == {
        "a/notes.txt": "not an image of a kind that is read (.txt)",
        "loose.png": "not inside a class folder",
        "DICOMDIR": "the index of a disc, not an image",
        "b/x.gif": "not an image of a kind that is read (.gif)",
    }


def test_folders_of_a_dicom_disc_are_no_classes(folder):
    disc = ["DICOMDIR", "PAT1/ST1/IM1", "PAT1/ST1/IM2", "PAT2/ST1/IM1", "PAT2/ST1/IM2"]
    error = _refusal(folder(disc))
    assert error.code == "no-classes"
    assert "patients and studies" in error.what and "PAT" not in str(error)
    table = {"labels.csv": "file,label\nPAT1/ST1/IM1,a\nPAT2/ST1/IM2,b\n"}
    assert len(_read(folder(dict.fromkeys(disc) | table, "with a table")).items) == 2


def test_images_beside_the_sides_are_passed_over(folder):
    catalogue = _read(folder(["train/a/1.png", "test/b/2.png", "extra/a/3.png", "train/4.png"]))
    assert [item.file for item in catalogue.items] == ["test/b/2.png", "train/a/1.png"]
    assert [entry.reason for entry in catalogue.passed_over] == [
        "outside the train, val and test folders",
        "not inside a class folder",
    ]


def test_classes_stand_in_natural_order(folder):
    names = ["grade 10", "grade 2", "Grade 1"]
    assert _read(folder([f"{name}/1.png" for name in names])).classes == ("Grade 1", "grade 2", "grade 10")
    assert sorted(["b", "a10", "A2", "a2", "10", "9"], key=natural_key) == ["9", "10", "A2", "a2", "a10", "b"]


def test_nothing_is_decoded(folder):
    root = folder({"a/1.png": b"not an image", "b/2.png": b""})
    assert len(_read(root).items) == 2


def test_a_zip_gives_the_same_catalogue_as_its_folder(folder, make_zip):
    files = {"a/1.png": b"1", "b/2.png": b"22", "b/3.txt": b""}
    plain, zipped = _read(folder(files)), _read(make_zip(files))
    assert (plain.items, plain.classes, plain.passed_over) == (zipped.items, zipped.classes, zipped.passed_over)


def test_the_fingerprint_changes_with_any_file_and_any_label(folder):
    root = folder(["a/1.png", "b/2.png"])
    before = _read(root).fingerprint
    assert _read(root).fingerprint == before
    os.utime(root / "a/1.png", ns=(1, 1))
    changed = _read(root).fingerprint
    assert changed != before
    (root / "a/1.png").rename(root / "b/1.png")
    assert _read(root).fingerprint not in (before, changed)


def test_an_empty_folder_says_so(tmp_path, folder, make_zip):
    (tmp_path / "empty" / "normal").mkdir(parents=True)
    error = _refusal(tmp_path / "empty")
    assert (error.what, error.seen, error.code) == ("The folder is empty", "empty", "empty-data")
    assert _refusal(make_zip({})).what == "The archive is empty"


def test_a_folder_without_images_says_so(folder):
    error = _refusal(folder({"a/notes.txt": "x", "b/more.docx": "y"}))
    assert error.code == "no-images"
    assert "2 files" in str(error)


def test_images_that_are_not_sorted_say_how_to(folder):
    error = _refusal(folder({"1.png": None, "2.png": None, "meta.csv": "id,x\n"}))
    assert error.code == "no-classes"
    assert "2 images outside class folders" in str(error)
    assert "meta.csv" in error.remedy


def test_a_table_gives_labels_patients_and_sides(folder):
    table = "file,label,patient,split\nimages/2.png,b,007,test\nimages/1.png,1,,train\n"
    catalogue = _read(folder({"labels.csv": table, "images/1.png": None, "images/2.png": None, "images/3.png": None}))
    first, second = catalogue.items
    assert (first.file, first.label, first.patient, first.split) == ("images/1.png", "1", None, "train")
    assert (second.label, second.patient, second.split) == ("b", patient_code("007"), "test")
    assert catalogue.layout == "csv"
    assert catalogue.classes == ("1", "b")
    assert [(entry.file, entry.reason) for entry in catalogue.passed_over] == [
        ("images/3.png", "not named in the table")
    ]


def test_a_table_that_is_given_comes_before_the_one_that_is_found(folder, tmp_path):
    root = folder({"labels.csv": "file,label\na.png,found\n", "a.png": None})
    other = tmp_path / "other.csv"
    other.write_text("file,label\na.png,given\n")
    assert _read(root).classes == ("found",)
    assert _read(root, other).classes == ("given",)


def test_a_table_inside_a_zip_or_a_wrapping_folder_is_found(make_zip, folder, png):
    files = {"top/labels.csv": b"file,label\nx/1.png,a\nx/2.png,b\n", "top/x/1.png": png(1), "top/x/2.png": png(2)}
    assert _read(make_zip(files)).classes == ("a", "b")
    assert _read(folder(files)).classes == ("a", "b")
    renamed = {name.replace("labels", "truth"): data for name, data in files.items()}
    for labels in ("truth.csv", "top/truth.csv"):
        assert _read(make_zip(renamed, "r.zip"), labels).classes == ("a", "b")


def test_a_table_that_is_not_there_is_named(folder):
    error = _refusal(folder(["a/1.png", "b/1.png"]), "missing.csv")
    assert (error.code, error.seen) == ("csv-not-found", "missing.csv")


def test_a_class_that_is_called_tr_beside_others_is_a_class(folder):
    mitral = folder(["TR/p1/1.png", "AS/p2/2.png"], "one")  # tricuspid regurgitation, aortic stenosis
    assert (_read(mitral).layout, _read(mitral).classes) == ("class-folders", ("AS", "TR"))
    assert _read(folder(["tr/a/1.png", "val/a/2.png"], "two")).layout == "split-folders"


def test_a_class_from_a_mac_and_the_same_from_elsewhere_are_one(folder):
    names = [unicodedata.normalize("NFC", "train/Läsion/1.png"), unicodedata.normalize("NFD", "test/Läsion/2.png")]
    assert len(_read(folder([*names, "train/ok/3.png"])).classes) == 2
