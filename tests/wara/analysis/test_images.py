"""A data set as batches: whose each image is, and what is told of the files that are in none."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.wara.support import draw_folder, write_dicom
from wara.analysis.images import LeftOut, labelled_batches
from wara.data.items import OF_ONE_FILE
from wara.imaging.identity import pseudonym
from wara.imaging.view import DicomView


def predictor(frames: str = "middle") -> Any:
    """What of a predictor the batches are made by."""
    return SimpleNamespace(
        classes=("left", "right"), recipe={"image": {"fit": "pad"}}, backbone=SimpleNamespace(size=32),
        view=DicomView(frames), normalised=lambda squares: torch.tensor(squares).permute(0, 3, 1, 2),
    )  # fmt: skip


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two images of one patient, one DICOM file and one PNG of nobody known."""
    folder = draw_folder(tmp_path / "set", 1)
    for number in range(2):
        write_dicom(folder / "left" / f"of_{number}.dcm", np.full((3, 32, 32), 60 + number, np.uint8), "HOSP-4711")
    write_dicom(folder / "left" / "of_nobody.dcm", np.full((3, 32, 32), 90, np.uint8), "")
    return folder


def test_patients_that_only_dicom_headers_name_come_with_their_images(mixed: Path) -> None:
    [(images, targets, patients)] = labelled_batches(predictor(), mixed)
    assert images.shape == (5, 3, 32, 32) and targets.tolist() == [0, 0, 0, 0, 1]
    assert patients == ["", pseudonym("HOSP-4711"), pseudonym("HOSP-4711"), "", ""]


def test_the_frames_of_a_file_stay_together_where_nobody_knows_whose_they_are(mixed: Path) -> None:
    [(_, _, patients)] = labelled_batches(predictor("all"), mixed)
    assert len(patients) == 11 and patients.count(str(pseudonym("HOSP-4711"))) == 6
    assert patients[7:10] == [f"{OF_ONE_FILE}left/of_nobody.dcm"] * 3


def test_the_patients_of_a_table_go_before_those_of_headers(mixed: Path) -> None:
    (mixed / "labels.csv").write_text("file,label,patient\nleft/of_0.dcm,left,A1\nleft/00.png,right,\n")
    [(_, _, patients)] = labelled_batches(predictor(), mixed)
    assert patients == ["", pseudonym("A1")]


def test_images_that_cannot_be_read_are_told_with_their_reason_and_without_what_their_header_says(mixed: Path) -> None:
    whole = (mixed / "left" / "of_0.dcm").read_bytes()
    (mixed / "left" / "HOSP-4711_cut.dcm").write_bytes(whole[:-200])
    (mixed / "right" / "text.png").write_text("no image")
    (mixed / "right" / "notes.docx").write_text("words")
    shutil.copy(mixed / "left" / "00.png", mixed / "alone.png")
    left_out = LeftOut()

    [(images, _, _)] = labelled_batches(predictor(), mixed, left_out=left_out)

    told = left_out.to_json()
    assert len(images) == 5 and told["listed"] == 7
    cut, text = told["unreadable"]
    assert cut["file"].startswith("left/") and "4711" not in cut["file"] and "cut short" in cut["reason"]
    assert text == {"file": "right/text.png", "reason": "The file is a text file, not an image"}
    assert told["passed_over"] == {
        "not inside a class folder": 1, "not an image of a kind that is read (.docx)": 1,
    }  # fmt: skip
