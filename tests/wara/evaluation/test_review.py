"""A run looked at closely, from its files alone."""

import json

import numpy as np
import pytest

from tests.wara.evaluation.support import answered
from wara.errors import InputError
from wara.evaluation.predictions import write_predictions
from wara.evaluation.review import compare_runs, review


def write_run(folder, sides, answers, classes):
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"classes": classes}))
    write_predictions(folder / "predictions.csv", classes, [sides["val"], sides["test"]])
    answers.save(folder / "calibration.json")
    return folder


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", *answered(per_patient=4), ["no", "yes"])


def test_every_image_stands_in_one_cell_of_the_matrix(run):
    found, test = review(run), answered(per_patient=4)[0]["test"]
    cells = found["confusion"]["cells"]
    files = [file for cell in cells for file in cell["files"]]
    assert sorted(files) == sorted(test.files)
    assert np.sum(found["confusion"]["matrix"]) == found["n_images"] == 240 and found["n_patients"] == 60
    for cell in cells:
        rows = [test.files.index(file) for file in cell["files"]]
        assert {("no", "yes")[test.targets[i]] for i in rows} == {cell["label"]}
        assert {("no", "yes")[test.labels[i]] for i in rows} == {cell["predicted"]}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_confident_errors_are_wrong_and_the_surest_come_first(run):
    errors = review(run)["confident_errors"]
    assert errors and all(error["label"] != error["predicted"] for error in errors)
    sure = [error["probability"] for error in errors]
    assert sure == sorted(sure, reverse=True)


def test_another_operating_point_can_be_asked_for_and_is_chosen_on_validation(run):
    stored, strict = review(run)["operating_point"], review(run, "sensitivity=0.99")["operating_point"]
    assert stored["criterion"] == "youden" and strict["threshold"] < stored["threshold"]
    assert strict["val"]["sensitivity"]["value"] >= 0.99
    matrix = np.array(review(run, "sensitivity=0.99")["confusion"]["matrix"])
    assert matrix[1, 1] / matrix[1].sum() == pytest.approx(strict["test"]["sensitivity"]["value"])
    with pytest.raises(InputError, match="operating point cannot be used"):
        review(run, "best")


def test_more_classes_have_curves_each_and_no_operating_point(tmp_path):
    found = review(write_run(tmp_path / "run", *answered(3), ["a", "b", "c"]))
    assert found["operating_point"] is None and list(found["curves"]) == ["a", "b", "c"]
    with pytest.raises(InputError, match="two classes"):
        review(tmp_path / "run", "youden")


def test_a_run_compared_with_itself_does_not_differ_and_order_of_files_does_not_matter(run, tmp_path):
    sides, answers = answered(per_patient=4)
    turned = {}
    for name, side in sides.items():
        back = slice(None, None, -1)
        turned[name] = type(side)(
            side.split, side.files[back], side.targets[back], side.labels[back], side.probabilities[back],
            side.uncalibrated[back], side.sets[back], None, side.patients[back],
        )  # fmt: skip
    other = write_run(tmp_path / "other", turned, answers, ["no", "yes"])
    found = compare_runs(run, other)
    assert found["difference"] == pytest.approx(0) and found["n_groups"] == 60 and found["method"] == "bootstrap"


def test_runs_that_cannot_be_paired_are_refused(run, tmp_path):
    sides, answers = answered(n=200, per_patient=4)
    fewer = write_run(tmp_path / "fewer", sides, answers, ["no", "yes"])
    with pytest.raises(InputError, match="200 images in common of 240 and 200"):
        compare_runs(run, fewer)
    renamed = write_run(tmp_path / "renamed", *answered(per_patient=4), ["healthy", "ill"])
    with pytest.raises(InputError, match=r"other classes \(seen: no, yes; healthy, ill\)"):
        compare_runs(run, renamed)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a whole training run"):
        review(tmp_path)
