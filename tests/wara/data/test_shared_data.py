"""The real data beside the checkout, where it is there: a table over a folder, and a given split that leaks."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from pathlib import Path

import pytest

from wara.data import data_report, ingest, make_split, open_source, read_catalogue, require_trainable
from wara.data.patients import patient_code

pytestmark = pytest.mark.shared

SHARED = Path(os.environ.get("WARA_SHARED") or Path(__file__).parents[4] / "shared") / "data"


def _data(name: str) -> Path:
    if not (SHARED / name / "labels.csv").is_file():
        pytest.skip(f"{SHARED / name} is not here (set WARA_SHARED to the folder that holds data/{name})")
    return SHARED / name


@pytest.mark.parametrize(("name", "images", "classes"), [("chest_xray", 5856, 2), ("isic2017", 2750, 3)])
def test_the_catalogue_holds_every_image_of_the_table(name, images, classes):
    with open_source(_data(name)) as source:
        catalogue = read_catalogue(source)
    require_trainable(catalogue)
    assert len(catalogue.items) == images
    assert len(catalogue.classes) == classes
    assert set(catalogue.counts()) == {"train", "val", "test"}
    assert catalogue.passed_over == ()


def test_the_report_finds_every_patient_that_the_given_split_leaks():
    root = _data("chest_xray")
    sides = defaultdict(set)
    with (root / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            sides[row["patient"]].add(row["split"])
    leaking = {patient_code(patient) for patient, found in sides.items() if len(found) > 1}
    assert leaking
    with open_source(root) as source:
        catalogue = read_catalogue(source)
    report = data_report(catalogue, make_split(catalogue, 0))
    assert {leak["patient"] for leak in report["leaks"]} == leaking
    assert report["split_source"] == "given"
    assert any("the test result will look better than it is" in warning for warning in report["warnings"])


def test_a_split_of_our_own_of_the_same_images_does_not_leak():
    root = _data("chest_xray")
    with open_source(root) as source:
        catalogue = read_catalogue(source)
    free = catalogue.with_items([type(item)(item.file, item.label, item.patient) for item in catalogue.items], ())
    report = data_report(free, make_split(free, 0))
    assert report["leaks"] == []
    for entry in report["classes"]:
        shares = [
            report["splits"][side]["classes"][entry["name"]] / entry["count"] for side in ("train", "val", "test")
        ]
        assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.005)


def test_real_images_are_stored_in_one_channel_where_they_are_grey(tmp_path):
    root = _data("chest_xray")
    with open_source(root) as source:
        catalogue = read_catalogue(source)
        few = catalogue.with_items(catalogue.items[::200], ())
        decoded, store = ingest(source, few, size=224, store=tmp_path / "p.pix")
    assert store is not None
    assert (store.channels, len(store)) == (1, len(decoded.items))
    assert decoded.passed_over == ()
