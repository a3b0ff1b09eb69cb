"""How good a model is, over HTTP: the whole evaluation, another operating point, two models compared."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.backend.support import API, Studio, as_form, assert_problem, png


@pytest.fixture
def model(trained: tuple[Studio, dict[str, Any]]) -> str:
    return f"{API}/models/{trained[1]['model_id']}"


@pytest.fixture
def http(trained: tuple[Studio, dict[str, Any]]) -> Any:
    return trained[0].http


def test_the_evaluation_holds_curves_cells_and_their_images(http: Any, model: str) -> None:
    found = http.get(f"{model}/evaluation").json()
    metrics = http.get(model).json()["metrics"]
    assert found["confusion"]["matrix"] == metrics["test"]["confusion"]
    assert found["curves"]["fine"]["roc"]["auroc"] == pytest.approx(metrics["test"]["auroc"]["value"])
    assert found["operating_point"]["threshold"] == metrics["operating_point"]["threshold"]
    assert found["calibration"] == metrics["calibration"] and found["prediction_sets"] == metrics["prediction_sets"]
    assert found["warnings"] == metrics["test"]["warnings"] != []
    files = [file for cell in found["confusion"]["cells"] for file in cell["files"]]
    assert len(files) == found["n_images"] == np.sum(found["confusion"]["matrix"])
    assert set(found["images"]) == set(files)
    assert http.get(found["images"][files[0]]).headers["content-type"] == "image/jpeg"


def test_another_operating_point_is_measured_on_request_and_changes_nothing_that_is_stored(
    http: Any, model: str
) -> None:
    asked = http.get(f"{model}/evaluation", params={"criterion": "sensitivity=1"}).json()["operating_point"]
    assert (asked["criterion"], asked["target"]) == ("sensitivity", 1)
    assert asked["val"]["sensitivity"]["value"] == 1
    assert http.get(f"{model}/evaluation").json()["operating_point"]["criterion"] == "youden"
    assert_problem(http.get(f"{model}/evaluation?criterion=best"), 422, "operating-point")


@pytest.mark.parametrize("name", ["curves.png", "reliability.png?theme=dark"])
def test_the_curves_are_drawn(http: Any, model: str, name: str) -> None:
    answer = http.get(f"{model}/evaluation/{name}")
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).width > 600


def test_a_model_compared_with_itself_does_not_differ(http: Any, model: str) -> None:
    own = model.rpartition("/")[2]
    found = http.get(f"{API}/models/compare", params={"a": own, "b": own}).json()
    assert found["difference"] == 0 and found["reading"] and found["a"] == own
    assert_problem(http.get(f"{API}/models/compare?a={own}&b=none"), 404, "model-not-found")
    assert_problem(http.get(f"{API}/models/compare?a={own}"), 422, "field-missing")


def test_an_unknown_model_has_no_evaluation(http: Any) -> None:
    assert_problem(http.get(f"{API}/models/none/evaluation"), 404, "model-not-found")


def test_predictions_carry_set_warning_and_the_networks_own_probabilities(http: Any, model: str) -> None:
    images = as_form({"one.png": png(1000)})
    [item] = http.post(f"{model}/predict", files=images).json()["items"]
    point = http.get(model).json()["metrics"]["operating_point"]
    assert (item["label"] == "fine") == (item["probabilities"]["fine"] >= point["threshold"])
    assert set(item["classes"]) <= {"coarse", "fine"} and sum(item["uncalibrated"].values()) == pytest.approx(1)
    table = http.post(f"{model}/predict", params={"format": "csv"}, files=images).text
    [row] = csv.DictReader(io.StringIO(table))
    assert row["set"].split(" | ") == item["classes"] and row["warning"] == (item["warning"] or "")
    assert float(row["uncalibrated_fine"]) == pytest.approx(item["uncalibrated"]["fine"], abs=1e-6)
