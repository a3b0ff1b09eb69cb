"""The tables of answers: what stands in them, and that a spreadsheet runs nothing of it."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from wara.answer_table import Mark, Row, image_heading, image_line, patient_lines, patient_rows
from wara.inference import Prediction

MARK = Mark("=Rings", "m1", "1.0")


def parse(*lines: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO("".join(lines), newline="")))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_of_the_table_is_never_a_formula(start: str) -> None:
    cell = f"{start}HYPERLINK(1)"
    row = Row(cell, cell, cell, (0.25,), (cell, "b"), cell, cell)
    head, line = parse(image_heading([cell]), image_line(row, [cell], MARK))
    assert head[:4] == ["file", "patient", "label", f"probability {cell}"]
    assert line == [f"'{cell}"] * 3 + ["0.250000", f"'{cell} | b", f"'{cell}", "'=Rings", "m1", "1.0", f"'{cell}"]
    assert image_line(Row("a-b=c.png"), ["a"], MARK).startswith("a-b=c.png,")


def test_a_row_survives_being_kept() -> None:
    prediction = Prediction("a.png", "b", {"a": 0.25, "b": 0.75}, classes=("a", "b"), warning="unlike", patient="p")
    row = Row.of(prediction, ["a", "b"], 7)
    assert Row.from_json(row.to_json()) == row and row.probabilities == (0.25, 0.75)
    assert Row.of(prediction, ["a", "b"], patient="q").patient == "q"
    astray = Prediction("a.png", "b", {"a": math.nan, "b": math.nan})
    assert Row.of(astray, ["a", "b"]).probabilities is None


def test_patients_are_the_mean_or_the_worst_of_their_images() -> None:
    shares = {"p": [(0.9, 0.1), (0.2, 0.8), (0.7, 0.3)], "q": [(0.6, 0.4)]}
    rows = [Row("x", who, "a", row, warning="w" if who == "q" else None) for who, own in shares.items() for row in own]
    rows += [Row("nobody", None, "a", (0.5, 0.5)), Row("unread", "p", error="no")]
    mean = patient_rows(rows, ["a", "b"], "mean", None)
    assert [(row.patient, row.images, row.warnings) for row in mean] == [("p", 3, 0), ("q", 1, 1)]
    for row in mean:
        assert row.probabilities == pytest.approx(np.mean(shares[row.patient], axis=0))
    assert [row.label for row in mean] == ["a", "a"]
    assert [row.label for row in patient_rows(rows, ["a", "b"], "mean", 0.39)] == ["b", "b"]
    assert patient_rows(rows, ["a", "b"], "worst", None)[0].probabilities == (0.2, 0.8)
    three = [Row("x", "p", "a", (0.5, 0.3, 0.2)), Row("y", "p", "c", (0.1, 0.2, 0.7))]
    assert patient_rows(three, ["a", "b", "c"], "worst", None)[0].label == "c"
    head, first, _ = parse(*patient_lines(mean, ["a", "b"], "mean", MARK))
    assert head[:3] == ["patient", "images", "label"] and first[:3] == ["p", "3", "a"] and first[-4] == "mean"
    assert patient_rows(rows[-2:], ["a", "b"], "mean", None) == []
