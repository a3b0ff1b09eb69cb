"""Frames of one file are items of their own, of one patient, and never stand on two sides."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom.data
import pytest

from wara.data import PixelStore, data_report, ingest, make_split, open_source, read_catalogue, write_split_csv
from wara.data.items import frame_name, frame_name_parts
from wara.errors import InputError
from wara.imaging import DicomView

STACK = Path(pydicom.data.__file__).parent / "test_files" / "rtdose.dcm"  # 15 frames of 10 x 10
ALL = DicomView("all")


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """Six patients, three a class, of whom the last has no number."""
    for who in range(6):
        dataset = pydicom.dcmread(STACK)
        dataset.PatientID = f"P{who}" if who < 5 else ""
        dataset.SOPInstanceUID = f"1.2.{who}"
        file = io.BytesIO()
        dataset.save_as(file)
        path = tmp_path / "data" / "ab"[who % 2] / f"{who}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    return tmp_path / "data"


def _ingest(root: Path, view: DicomView, labels: Path | None = None, **options):
    with open_source(root) as source:
        return ingest(source, read_catalogue(source, labels), view=view, **options)


def test_one_frame_a_file_is_one_item_by_the_files_name(stacks):
    catalogue, _ = _ingest(stacks, DicomView())
    assert [item.file for item in catalogue.items][:2] == ["a/0.dcm", "a/2.dcm"]
    assert all(item.frame is None and item.spacing == (10.0, 10.0) for item in catalogue.items)


def test_all_frames_are_items_of_one_patient_each_with_a_digest_of_its_own(stacks):
    catalogue, _ = _ingest(stacks, ALL)
    assert len(catalogue.items) == 90
    assert len({item.patient for item in catalogue.items}) == 6
    assert (
        "1 file of several frames without a patient number: each counts as a patient of its own."
        in (data_report(catalogue)["warnings"])
    )
    assert len({item.digest for item in catalogue.items}) == 90
    first = catalogue.items[1]
    assert (first.file, first.path, first.frame, first.spacing) == ("a/0.dcm#2", "a/0.dcm", 2, (10.0, 10.0))


def test_a_split_never_parts_frames_of_one_file(stacks):
    catalogue, _ = _ingest(stacks, ALL)
    for seed in range(5):
        sides: dict[str, set[str]] = {}
        for item, side in zip(catalogue.items, make_split(catalogue, seed), strict=True):
            sides.setdefault(item.path, set()).add(side)
        assert all(len(found) == 1 for found in sides.values())


def test_a_store_keeps_the_frames_and_is_made_anew_for_another_view(stacks, tmp_path):
    path = tmp_path / "x.pixels"
    catalogue, store = _ingest(stacks, ALL, size=10, store=path)
    assert store is not None
    assert len(store) == 90
    assert store.catalogue == catalogue == PixelStore.open(path).catalogue
    assert np.unique(store.planes(range(15)).reshape(15, -1), axis=0).shape[0] > 1
    assert len(_ingest(stacks, DicomView("first"), size=10, store=path)[1] or ()) == 6


def test_a_runs_split_names_frames_that_a_table_finds_again(stacks, tmp_path):
    catalogue, _ = _ingest(stacks, ALL)
    split = make_split(catalogue, 0)
    write_split_csv(tmp_path / "split.csv", catalogue, split)
    again, _ = _ingest(stacks, DicomView(), tmp_path / "split.csv")
    assert {item.file: item.split for item in again.items} == dict(
        zip((item.file for item in catalogue.items), split, strict=True)
    )
    assert {item.digest for item in again.items} == {item.digest for item in catalogue.items}
    assert not again.passed_over


def test_a_file_named_whole_and_by_frames_is_refused(stacks, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("file,label\na/0.dcm,x\na/0.dcm#3,y\n")
    with pytest.raises(InputError) as caught:
        _ingest(stacks, ALL, table)
    assert caught.value.code == "csv-frames"


def test_a_file_with_a_frame_cut_off_is_passed_over_whole(stacks):
    path = stacks / "a" / "0.dcm"
    path.write_bytes(path.read_bytes()[:-500])
    catalogue, _ = _ingest(stacks, ALL)
    assert len(catalogue.items) == 75
    assert [entry.file for entry in catalogue.passed_over] == ["a/0.dcm"]
    assert catalogue.passed_over[0].reason.startswith("The DICOM file is cut short")


def test_an_unknown_view_is_refused_before_anything_is_read(stacks):
    with pytest.raises(InputError, match="choice of frames"):
        _ingest(stacks, DicomView("last"))


@pytest.mark.parametrize(("name", "parts"), [
    (frame_name("a/scan.dcm", 12), ("a/scan.dcm", 12)), ("a#b.dcm", ("a#b.dcm", None)), ("#3", ("#3", None)),
    ("a#0", ("a#0", None)), ("a#x", ("a#x", None)),
])  # fmt: skip
def test_a_frames_name_is_the_files_and_its_number(name, parts):
    assert frame_name_parts(name) == parts
