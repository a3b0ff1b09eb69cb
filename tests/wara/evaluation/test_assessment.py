"""What metrics.json holds of a run."""

import json

import numpy as np
import pytest

from tests.wara.evaluation.support import answered
from wara.evaluation import evaluate
from wara.evaluation.assessment import assess
from wara.evaluation.novelty import fit_novelty
from wara.evaluation.patients import evaluate_patients


def test_names_that_were_there_stay_and_follow_the_answers():
    sides, answers = answered(criterion="sensitivity=0.95")
    found = assess(sides, ["no", "yes"], answers, None, None, replicates=50)
    test = sides["test"]
    plain = evaluate(
        answers.calibrated(test.uncalibrated), test.targets, ["no", "yes"], test.groups(), replicates=50,
        labels=test.labels,
    )  # fmt: skip
    assert {name: found["test"][name] for name in plain} == plain
    assert found["operating_point"]["test"]["sensitivity"]["value"] == plain["sensitivity"]["yes"]["value"]
    assert found["operating_point"]["val"]["sensitivity"]["value"] >= 0.95
    assert found["test"]["auroc_delong"]["value"] == pytest.approx(plain["auroc"]["value"])
    assert "patients" not in found["test"] and found["novelty"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_calibration_sets_and_subgroups_are_measured_on_test_images():
    sides, answers = answered()
    found = assess(sides, ["no", "yes"], answers, None, None, replicates=50)
    calibration = found["calibration"]
    assert calibration["temperature"] == answers.temperature.value
    assert calibration["log_loss"] < calibration["uncalibrated"]["log_loss"]
    assert found["prediction_sets"]["coverage"]["n"] == 240
    assert [row["value"] for row in found["subgroups"]["sex"]["rows"]] == ["F", "M"]
    assert found["subgroups"]["age"]["rows"][0]["value"] == "18 to 39 years"
    assert found["subgroups"]["age"]["unknown"] == 120


def test_patients_with_several_images_are_measured_beside_the_images():
    sides, answers = answered(per_patient=4)
    found = assess(sides, ["no", "yes"], answers, None, None, patient_rule="worst", replicates=50)
    test = sides["test"]
    assert found["test"]["patients"] == evaluate_patients(
        test.probabilities, test.targets, ["no", "yes"], test.groups(), rule="worst", threshold=answers.threshold,
        replicates=50,
    )  # fmt: skip
    assert found["test"]["patients"]["n_images"] == 60
    assert found["test"]["auroc_delong"] is None  # images of one patient are not independent


def test_more_classes_have_no_operating_point():
    sides, answers = answered(3)
    found = assess(sides, ["a", "b", "c"], answers, None, None, replicates=20)
    assert found["operating_point"] is None and found["test"]["auroc_delong"] is None
    assert found["prediction_sets"]["asked"] == 0.9


def test_false_alarms_of_the_warning_are_counted():
    sides, answers = answered()
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(240, 5)) + 3 for _ in range(3)]
    novelty = fit_novelty(features[0], sides["val"].targets, features[1])
    found = assess(sides, ["no", "yes"], answers, novelty, features[2], replicates=20)
    assert found["novelty"]["false_alarms"]["n"] == 240
