"""From probabilities to an answer, and back from the file."""

from pathlib import Path

import numpy as np
import pytest

from wara.errors import InputError
from wara.evaluation.answers import Answers, fit_answers
from wara.evaluation.calibration import fit_temperature
from wara.evaluation.operating import choose


def validation(k=2, n=200):
    rng = np.random.default_rng(0)
    targets = np.arange(n) % k
    rows = np.exp(3 * rng.normal(size=(n, k)) + 3 * np.eye(k)[targets])
    return rows / rows.sum(axis=1, keepdims=True), targets


def test_everything_is_learned_on_the_calibrated_scale():
    rows, targets = validation()
    answers = fit_answers(rows, targets, criterion="sensitivity=0.9", coverage=0.8)
    assert answers.temperature == fit_temperature(rows, targets)
    calibrated = answers.calibrated(rows)
    assert answers.operating_point == choose(calibrated[:, 1], targets, "sensitivity=0.9")
    assert (answers.labels(calibrated) == (calibrated[:, 1] >= answers.threshold)).all()
    assert answers.sets(calibrated)[np.arange(200), targets].mean() >= 0.8


def test_more_classes_take_the_most_probable_one():
    rows, targets = validation(3)
    answers = fit_answers(rows, targets)
    assert answers.threshold is None and (answers.labels(rows) == rows.argmax(axis=1)).all()


@pytest.mark.parametrize("k", [2, 3])
def test_the_file_holds_all_of_it(tmp_path, k):
    answers = fit_answers(*validation(k))
    answers.save(tmp_path / "calibration.json")
    assert Answers.load(tmp_path / "calibration.json") == answers


def test_a_run_without_the_file_answers_as_it_did():
    answers = Answers.load(Path("nowhere"))
    rows, _ = validation()
    assert (answers.calibrated(rows) == rows).all() and answers.sets(rows) is None
    assert (answers.labels(rows) == rows.argmax(axis=1)).all()


@pytest.mark.parametrize("text", ["", "{}", '{"format": 9}', "[1]"])
def test_a_damaged_file_is_said_to_be_so(tmp_path, text):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(InputError, match=r"cannot be read \(seen: calibration.json\)"):
        Answers.load(tmp_path / "calibration.json")
