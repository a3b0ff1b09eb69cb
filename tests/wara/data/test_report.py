from __future__ import annotations

import json
from dataclasses import replace

import pytest

from wara.data import Catalogue, Item, PassedOver, data_report, make_split
from wara.data.items import class_names


@pytest.fixture
def items() -> list[Item]:
    """Thirty patients with two images each, in turn of two classes."""
    return [
        Item(f"{who:02}-{n}.png", "ab"[who % 2], f"p{who}", None, f"d{who}-{n}") for who in range(30) for n in (0, 1)
    ]


def _catalogue(items, passed_over=()) -> Catalogue:
    return Catalogue(tuple(items), class_names(items), tuple(passed_over), "csv", "print")


def test_a_clean_data_set_is_described_without_warnings(items):
    catalogue = _catalogue(items)
    split = make_split(catalogue, 0)
    report = data_report(catalogue, split)
    assert json.loads(json.dumps(report)) == report
    assert (report["images"], report["patients"], report["layout"], report["fingerprint"]) == (60, 30, "csv", "print")
    assert report["classes"] == [
        {"name": "a", "count": 30, "patients": 15},
        {"name": "b", "count": 30, "patients": 15},
    ]
    assert list(report["splits"]) == ["train", "val", "test"]
    for side, facts in report["splits"].items():
        assert facts["images"] == split.count(side) == 2 * facts["patients"] == sum(facts["classes"].values())
    assert report["split_source"] == "made"
    assert report["leaks"] == report["copies"] == report["warnings"] == []
    assert report["passed_over"] == {"count": 0, "reasons": {}, "list": []}


def test_patients_on_two_sides_of_a_given_split_are_listed(items):
    given = [replace(item, split=("train", "val", "test")[place % 3]) for place, item in enumerate(items)]
    given = [replace(item, split="train") if item.patient not in ("p4", "p7") else item for item in given]
    given[8], given[9] = replace(given[8], split="val"), replace(given[9], split="train")
    given[14], given[15] = replace(given[14], split="train"), replace(given[15], split="test")
    given += [replace(given[14], file=f"x{n}.png", digest=None) for n in range(6)]
    catalogue = _catalogue(given)
    report = data_report(catalogue, make_split(catalogue, 0))
    assert report["leaks"] == [
        {
            "patient": "p7",
            "splits": ["train", "test"],
            "files": ["07-0.png", "07-1.png", "x0.png", "x1.png", "x2.png"],
            "file_count": 8,
        },
        {"patient": "p4", "splits": ["train", "val"], "files": ["04-0.png", "04-1.png"], "file_count": 2},
    ]
    text = " ".join(report["warnings"])
    assert "1 patient in the test part and in another one of the given split: the test result will look better" in text
    assert "1 patient in both the training and the validation part" in text
    assert report["split_source"] == "given"


def test_a_split_that_is_made_never_leaks(items):
    for seed in range(20):
        catalogue = _catalogue(items)
        assert data_report(catalogue, make_split(catalogue, seed))["leaks"] == []


def test_a_completed_split_is_called_so(items):
    given = [replace(item, split="test" if place < 10 else "train") for place, item in enumerate(items)]
    catalogue = _catalogue(given)
    assert data_report(catalogue, make_split(catalogue, 0))["split_source"] == "completed"


def test_copies_are_listed_with_those_that_matter_first(items):
    items[0] = replace(items[0], digest="same")
    items[1] = replace(items[1], digest="same")
    items[4] = replace(items[4], digest="torn")
    items[6] = replace(items[6], digest="torn")
    sides = ["train"] * len(items)
    sides[1] = "test"
    report = data_report(_catalogue(items), sides)
    assert report["copy_count"] == 2
    assert [entry["labels"] for entry in report["copies"]] == [["a", "b"], ["a"]]
    assert report["copies"][1] == {"files": ["00-0.png", "00-1.png"], "splits": ["train", "test"], "labels": ["a"]}
    text = " ".join(report["warnings"])
    assert "1 image on more than one side as an exact copy" in text
    assert "1 image in two classes as an exact copy: one of the labels is wrong" in text


def test_passed_over_files_are_counted_by_reason_and_listed():
    passed_over = [PassedOver("a", "cut"), PassedOver("b", "empty"), PassedOver("c", "cut")]
    report = data_report(_catalogue([Item("x", "a")], passed_over))
    assert report["passed_over"]["count"] == 3
    assert report["passed_over"]["reasons"] == {"cut": 2, "empty": 1}
    assert report["passed_over"]["list"][1] == {"file": "b", "reason": "empty"}
    assert "3 files passed over; the most frequent reason (2): cut." in report["warnings"]


def test_without_patients_the_report_says_what_that_means(items):
    anonymous = _catalogue([replace(item, patient=None) for item in items])
    report = data_report(anonymous, make_split(anonymous, 0))
    assert report["patients"] is None
    assert all(entry["patients"] is None for entry in report["classes"])
    assert any("No patient numbers are known" in warning for warning in report["warnings"])
    some = _catalogue([replace(items[0], patient=None), *items[1:]])
    assert any("1 image without a patient number" in warning for warning in data_report(some)["warnings"])
    assert data_report(some)["patients"] == 31


def test_small_and_unequal_classes_and_twin_names_are_warned_of():
    items = [Item(f"{n}.png", "Normal", f"p{n}") for n in range(300)]
    items += [Item(f"y{n}.png", "normal", f"q{n}") for n in range(4)]
    warnings = data_report(_catalogue(items))["warnings"]
    assert any("'normal' has only 4 images" in warning for warning in warnings)
    assert any("'Normal' has 75 times as many images as 'normal'" in warning for warning in warnings)
    assert any("'Normal' and 'normal' differ only in capitals:" in warning for warning in warnings)


def test_many_small_classes_are_one_warning_that_names_the_smallest_of_them():
    items = [Item(f"{name}{n}.png", f"c{name}", None) for name in range(10, 40) for n in range(name - 8)]
    [told] = [warning for warning in data_report(_catalogue(items))["warnings"] if "very uncertain" in warning]
    assert told.startswith("18 classes have fewer than 20 images; ")
    assert told.endswith("'c10' (2), 'c11' (3), 'c12' (4), 'c13' (5), 'c14' (6), 'c15' (7), 'c16' (8), 'c17' (9) "
                         "and 10 more.")  # fmt: skip


def test_many_classes_missing_from_a_side_are_one_warning(items):
    more = [Item(f"{n}.png", f"c{n}", f"q{n}", split="train") for n in range(3)]
    catalogue = _catalogue([replace(item, split="test") for item in items] + more)
    warnings = data_report(catalogue, [item.split or "" for item in catalogue.items])["warnings"]
    assert "3 classes have no image in the test part, so they cannot be judged there: 'c0', 'c1', 'c2'." in warnings


@pytest.mark.parametrize("sign", ["-1.0", "-1", "nan", "Unknown", "?", "NA "])
def test_a_label_that_reads_like_a_sign_for_none_is_told(sign):
    items = [Item(f"{n}.png", label, None) for n, label in enumerate(["1.0", "0.0", "None", "-10", sign] * 30)]
    [told] = [warning for warning in data_report(_catalogue(items))["warnings"] if "not known, and" in warning]
    assert told.startswith(f"'{sign}' may stand for a label that is not known, and is taken as a class.")


def test_all_classes_whose_names_look_alike_are_named():
    names = ["No finding", "No  finding", "NO FINDING", "No\u200b finding", "edema"]
    warnings = data_report(_catalogue([Item(f"{name}.png", name, None) for name in names]))["warnings"]
    [told] = [warning for warning in warnings if "are they one class" in warning]
    assert all(f"'{name}'" in told for name in names[:4]) and "edema" not in told
    assert "capitals, spaces or hidden letters" in told


def test_a_class_missing_from_a_side_is_warned_of(items):
    given = [
        replace(item, split="test" if item.label == "a" and place < 20 else "train") for place, item in enumerate(items)
    ]
    catalogue = _catalogue(given)
    warnings = data_report(catalogue, [item.split or "" for item in given])["warnings"]
    assert "The class 'b' has no image in the test part: it cannot be judged there." in warnings


def test_without_a_split_there_are_no_sides(items):
    report = data_report(_catalogue(items))
    assert report["splits"] == {}
    assert report["split_source"] is None


def test_an_empty_catalogue_can_be_described():
    assert data_report(Catalogue((), (), (PassedOver("a", "cut"),), "csv", ""), [])["images"] == 0


def test_formats_and_sizes_are_told_once_the_images_are_decoded(items):
    assert data_report(_catalogue(items))["sizes"] is None
    known = [replace(item, format="PNG", width=500 + place, height=100) for place, item in enumerate(items)]
    known[5] = replace(known[5], format="DICOM", width=40, height=4000)
    report = data_report(_catalogue(known))
    assert report["formats"] == {"PNG": 59, "DICOM": 1}
    assert report["sizes"] == {"smallest": [500, 100], "median": [531, 100], "largest": [40, 4000]}
    assert report["warnings"] == ["1 image smaller than 64 pixels a side: they hold little to learn from."]
