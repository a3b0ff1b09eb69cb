"""The real data beside the checkout, where it is there: a table over a folder, and a given split that leaks."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from pathlib import Path

import pytest

from wara.data import data_report, ingest, make_split, open_source, read_catalogue, require_trainable
from wara.data.decisions import apply_decisions
from wara.data.findings import decide, find
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


def test_chest_xray_has_its_leaks_found_and_fixed_and_no_stranger_called_a_copy():
    root = _data("chest_xray")
    with open_source(root) as source:
        catalogue, _ = ingest(source, read_catalogue(source))
    split = make_split(catalogue, 0)
    found = {finding.id: finding for finding in find(catalogue, split)}

    leaks = found["leaks"].to_dict(catalogue.items, split)
    assert "170 patients have images in the test part and in another one" in leaks["sentence"]
    assert sum("test" in group.note for group in found["leaks"].groups) == 170
    assert leaks["group_count"] == 435

    # Thirty pictures are there twice or three times, byte by byte; all other X-rays are of somebody else.
    exact = [group for name in ("copies-across", "copies-within") for group in found[name].groups]
    assert (len(exact), sum(len(group.places) for group in exact)) == (30, 62)
    assert {group.note for group in exact} == {"the same file"}
    assert not any(finding.kind == "near-copies" for finding in found.values())

    decision = decide(list(found.values()), catalogue.items, "leaks", "move")
    moved = apply_decisions(catalogue, [decision])
    assert "leaks" not in {finding.id for finding in find(moved, make_split(moved, 0))}
    assert make_split(moved, 0).count("test") == 624 + 457


def test_isic2017_has_lesions_twice_on_both_sides():
    with open_source(_data("isic2017")) as source:
        catalogue, _ = ingest(source, read_catalogue(source))
    found = {finding.id: finding for finding in find(catalogue, make_split(catalogue, 0))}
    assert {name: len(finding.groups) for name, finding in found.items() if "copies" in finding.kind} == {
        "copies-across": 4, "near-copies-across": 6, "copies-within": 2, "near-copies-within": 5,
    }  # fmt: skip


def test_the_time_that_a_machine_wrote_into_chest_x_rays_is_seen():
    with open_source(_data("chest_xray")) as source:
        catalogue = read_catalogue(source)
        chosen = [item for item in catalogue.items if "_virus_26" in item.file or "_virus_634" in item.file]
        looked_at, _ = ingest(source, catalogue.with_items(chosen, ()))
    seen = {Path(item.file).name for item in looked_at.items if item.text == "seen"}
    assert seen == {f"person{name}.jpeg" for name in ("311_virus_634", "1531_virus_2666", "1535_virus_2672")}
    assert len(looked_at.items) > 20
