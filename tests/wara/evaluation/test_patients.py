"""One answer for all images of a patient."""

import numpy as np
import pytest

from wara.errors import InputError
from wara.evaluation import evaluate
from wara.evaluation.patients import by_patient, evaluate_patients

TWO = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])


def test_mean_is_the_mean_of_the_images_and_worst_the_most_suspicious_image():
    groups = ["a", "a", "b", None]
    mean = by_patient(TWO, [0, 0, 1, 1], groups, "mean")
    worst = by_patient(TWO, [0, 0, 1, 1], groups, "worst")
    assert mean.probabilities == pytest.approx(np.array([[0.55, 0.45], [0.6, 0.4], [0.7, 0.3]]))
    assert worst.probabilities == pytest.approx(np.array([[0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]))
    assert mean.targets.tolist() == worst.targets.tolist() == [0, 1, 1]


def test_worst_of_many_classes_is_the_image_least_like_the_first_class():
    rows = np.array([[0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [0.5, 0.5, 0.0]])
    assert by_patient(rows, [2, 2, 2], ["a"] * 3, "worst").probabilities.tolist() == [rows[1].tolist()]


def test_a_patient_with_one_positive_image_is_positive():
    assert by_patient(TWO, [0, 1, 0, 0], ["a", "a", "b", "b"]).targets.tolist() == [1, 0]


def test_patients_of_several_classes_are_left_out_and_counted_where_there_are_more_than_two():
    rows = np.full((4, 3), 1 / 3)
    found = by_patient(rows, [0, 2, 1, 1], ["a", "a", "b", "b"])
    assert (found.targets.tolist(), found.mixed) == ([1], 1)


def test_patients_are_measured_as_one_image_each():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(50) % 2, 4)
    second = np.clip(0.5 + 0.2 * (truth - 0.5) + 0.2 * rng.normal(size=200), 0.01, 0.99)
    rows = np.stack([1 - second, second], axis=1)
    groups = [f"p{i // 4}" for i in range(200)]
    found = evaluate_patients(rows, truth, ["no", "yes"], groups, replicates=200, threshold=0.4)
    means = rows.reshape(50, 4, 2).mean(axis=1)
    labels = (means[:, 1] >= 0.4).astype(int)
    expected = evaluate(means, truth[::4], ["no", "yes"], replicates=200, labels=labels)
    assert {key: found[key] for key in ("auroc", "confusion", "n_images")} == {
        key: expected[key] for key in ("auroc", "confusion", "n_images")
    }
    assert (found["rule"], found["mixed_left_out"]) == ("mean", 0)
    images = evaluate(rows, truth, ["no", "yes"], groups, replicates=20)
    assert found["auroc"]["value"] > images["auroc"]["value"]  # the mean of four is less noisy than one


def test_few_patients_are_called_patients():
    groups = ["a", "a", "b", "c"]
    found = evaluate_patients(TWO, [1, 1, 0, 0], ["no", "yes"], groups, replicates=10)
    assert "There are only 2 patients of no: intervals that rest on them are unreliable." in found["warnings"]


def test_patients_with_one_image_each_are_not_measured_twice():
    assert evaluate_patients(TWO, [0, 1, 0, 1], ["no", "yes"], [None, "a", "b", "c"]) is None


def test_an_unknown_rule_is_refused():
    with pytest.raises(InputError, match=r"seen: median\)\. Use mean or worst"):
        by_patient(TWO, [0, 1, 0, 1], [None] * 4, "median")
