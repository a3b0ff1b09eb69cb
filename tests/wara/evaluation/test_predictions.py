"""predictions.csv, there and back."""

import csv

import numpy as np
import pytest

from wara.errors import InputError
from wara.evaluation.novelty import WARNING
from wara.evaluation.predictions import Predictions, read_predictions, write_predictions

CLASSES = ["no, none", "yes"]


def side(split, **members):
    rows = np.array([[0.75, 0.25], [0.125, 0.875]])
    values = {
        "files": ["a.png", "b.png"], "targets": np.array([0, 1]), "labels": np.array([1, 1]), "probabilities": rows,
        "uncalibrated": rows[:, ::-1], "sets": np.array([[True, True], [False, True]]), "novel": [False, True],
        "patients": ["p1", None], "traits": {"sex": ["F", None]},
    }  # fmt: skip
    return Predictions(split, **(values | members))


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "predictions.csv"
    write_predictions(path, CLASSES, [side("val"), side("test", traits={}, patients=[None, None])])
    found = read_predictions(path, CLASSES)
    assert list(found) == ["val", "test"]
    for name in ("files", "patients", "novel"):
        assert getattr(found["val"], name) == getattr(side("val"), name)
    for name in ("targets", "labels", "probabilities", "uncalibrated", "sets"):
        assert (getattr(found["val"], name) == getattr(side("val"), name)).all()
    assert found["val"].traits == {"sex": ["F", None]} and found["test"].traits == {"sex": [None, None]}
    assert found["val"].groups() == ["patient p1", "file b.png"]
    with path.open(newline="") as file:
        second = list(csv.DictReader(file))[1]
    assert (second["set"], second["warning"], second["predicted"]) == ("yes", WARNING, "yes")


def test_a_file_of_an_older_run_has_no_sets_and_no_warnings(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text('file,split,label,predicted,"p_no, none",p_yes\na.png,test,yes,yes,0.2,0.8\n')
    found = read_predictions(path, CLASSES)["test"]
    assert found.sets is None and found.novel is None and found.patients == [None]
    assert (found.uncalibrated == found.probabilities).all()


@pytest.mark.parametrize(
    "classes",
    [
        ["benign | typical", "malignant"], ["malignant", "benign | malignant"], ["a |", "| b"], ["a", "b | a"],
        ["x | y | z", "x"], ["x\ny", '"q", r'],
    ],
)  # fmt: skip
def test_sets_are_read_back_whatever_the_classes_are_called(tmp_path, classes):
    sets = np.array([[True, False], [True, True]])
    write_predictions(tmp_path / "p.csv", classes, [side("test", sets=sets), side("val")])
    found = read_predictions(tmp_path / "p.csv", classes)
    assert (found["test"].sets == sets).all() and (found["val"].sets == side("val").sets).all()


def test_a_set_of_other_classes_is_said_not_to_be_readable(tmp_path):
    path = tmp_path / "predictions.csv"
    write_predictions(path, CLASSES, [side("test")])
    path.write_text(path.read_text().replace("no, none | yes", "no, none | perhaps"))
    with pytest.raises(InputError, match="cannot be read"):
        read_predictions(path, CLASSES)


@pytest.mark.parametrize("text", ["file,split\na.png,test\n", "file,split,label,predicted,p_a\na,test,other,a,1\n"])
def test_a_file_that_cannot_be_read_is_said_to_be_so(tmp_path, text):
    (tmp_path / "predictions.csv").write_text(text)
    for name in ("predictions.csv", "none.csv"):
        with pytest.raises(InputError, match=rf"cannot be read \(seen: {name}\)"):
            read_predictions(tmp_path / name, ["a", "b"])
