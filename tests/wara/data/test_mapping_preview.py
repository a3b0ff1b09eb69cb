"""Guesses and previews: which columns are taken, what would come of it, and nothing that tells who somebody is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wara.data import open_source
from wara.data.mapping import Mapping
from wara.data.mapping_preview import preview


def _preview(root: Path, mapping: Mapping | None = None):
    with open_source(root) as source:
        return preview(source, mapping)


@pytest.fixture
def ward(folder):
    rows = [f"scan_{n},{'ill' if n % 3 else 'well'},{9000 + n // 2},Smith{n // 2},{n * 1.37:.2f}" for n in range(12)]
    table = "Image Index,Finding,PatientID,Surname,mm\n" + "\n".join(rows) + "\n"
    return folder({**{f"images/scan_{n}.png": None for n in range(10)}, "reading.csv": table})


def test_columns_are_guessed_by_name_and_content_and_the_guess_is_said(ward):
    found = _preview(ward)
    assert found["mapping"] == {
        "source": "table",
        "table": "reading.csv",
        "columns": {"file": "Image Index", "label": "Finding", "patient": "PatientID"},
    }
    assert "'Image Index' is taken as the file: 10 of 12 rows match" in found["guessed"][0]
    assert (found["used"], found["images"], found["counted"]) == (10, 10, 10)
    assert (found["patients"], found["rows_without_file"], found["problem"]) == (5, 2, None)
    assert found["labels"] == [{"name": "ill", "count": 6}, {"name": "well", "count": 4}]


def test_nothing_that_tells_who_somebody_is_stands_in_a_preview(ward):
    text = json.dumps(_preview(ward))
    assert "Smith" not in text
    assert "9001" not in text


def test_unusual_names_are_told_by_what_stands_in_them(folder):
    rows = [f"{n:03d};{'x' if n % 2 else 'y'};{'dev' if n < 4 else 'train'}" for n in range(12)]
    root = folder({**{f"{n:03d}.png": None for n in range(12)}, "q.csv": "K1;K2;K3\n" + "\n".join(rows)})
    assert _preview(root)["mapping"]["columns"] == {"file": "K1", "split": "K3", "label": "K2"}


def test_a_table_that_names_no_file_is_guessed_in_part_and_says_what_is_missing(folder):
    found = _preview(folder({"1.png": None, "q.csv": "who,diagnosis\nx,a\ny,b\n"}))
    assert found["mapping"]["columns"] == {"label": "diagnosis"}
    assert found["problem"]["code"] == "mapping-incomplete"
    assert (found["used"], found["images"]) == (0, 1)


def test_a_preview_shows_examples_of_every_kind_and_reasons_with_counts(folder):
    root = folder([f"{n}_{'ab'[n % 2]}.png" for n in range(20)] + ["cover.png"])
    found = _preview(root, Mapping("pattern", pattern=r"(?P<nr>\d+)_(?P<label>[ab])"))
    assert len(found["rows"]) == 8
    assert {row["label"] for row in found["rows"]} == {"a", "b", None}
    assert found["rows"][0]["groups"] == {"nr": "0"}
    assert found["unused"] == {
        "count": 1,
        "reasons": [{"reason": "its name does not fit the pattern", "count": 1, "example": "cover.png"}],
    }
    assert found["patients"] is None and "No patients are known" in found["warnings"][0]


def test_a_pattern_in_the_making_is_a_problem_and_no_error(folder):
    found = _preview(folder(["a.png"]), Mapping("pattern", pattern="(?P<la"))
    assert found["problem"]["code"] == "pattern"


def test_headers_are_counted_over_the_first_files(folder, monkeypatch):
    from wara.data import mapping_preview

    monkeypatch.setattr(mapping_preview, "MOST_HEADERS", 3)
    found = _preview(folder([f"{n}.png" for n in range(5)]), Mapping("dicom", label_tag="Modality"))
    assert (found["counted"], found["images"], found["unused"]["count"]) == (3, 5, 3)


def test_a_table_that_is_meant_and_not_there_is_asked_for(folder):
    found = _preview(folder(["a/1.png", "b/2.png"]), Mapping("table"))
    assert found["mapping"]["source"] == "table"
    assert (found["problem"]["code"], found["problem"]["seen"]) == (
        "mapping-incomplete",
        "the name of the table is missing",
    )
