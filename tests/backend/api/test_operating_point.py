"""Another operating point of a model over HTTP: predictions, evaluation, card and download go by it, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.backend.support import API, Studio, as_form, assert_problem, png
from wara.evaluation.efficiency import ppe


@pytest.fixture
def model(trained: tuple[Studio, dict[str, Any]]) -> Iterator[str]:
    """The address of the model that all tests share; afterwards it is as it was."""
    address = f"{API}/models/{trained[1]['model_id']}"
    yield address
    trained[0].http.put(f"{address}/operating-point", json={"criterion": None}).raise_for_status()


@pytest.fixture
def http(trained: tuple[Studio, dict[str, Any]]) -> Any:
    return trained[0].http


def test_a_chosen_point_is_used_for_predictions_at_once_and_can_be_taken_back(http: Any, model: str) -> None:
    images = as_form({f"{number}.png": png(1000 + number, coarse=bool(number % 2)) for number in range(6)})
    own = http.get(f"{model}/evaluation").json()
    before = http.post(f"{model}/predict", files=images).json()["items"]
    card = http.get(f"{model}/card").text

    point = http.put(f"{model}/operating-point", json={"criterion": "cost=1000"}).json()
    assert point["in_use"] and not point["from_training"] and (point["criterion"], point["target"]) == ("cost", 1000)
    after = http.post(f"{model}/predict", files=images).json()["items"]
    assert [item["probabilities"] for item in after] == [item["probabilities"] for item in before]
    for item in after:
        assert (item["label"] == "fine") == (item["probabilities"]["fine"] >= point["threshold"])
    found = http.get(f"{model}/evaluation").json()
    assert found["operating_point"] == point and found["measured"]["confusion"] == found["confusion"]["matrix"]
    assert "## Operating point in use" in http.get(f"{model}/card").text

    http.put(f"{model}/operating-point", json={"criterion": None}).raise_for_status()
    assert http.get(f"{model}/evaluation").json() == own
    assert http.post(f"{model}/predict", files=images).json()["items"] == before
    assert http.get(f"{model}/card").text == card


def test_what_cannot_be_an_operating_point_is_refused(http: Any, model: str) -> None:
    assert_problem(http.put(f"{model}/operating-point", json={"criterion": "best"}), 422, "operating-point")
    assert http.put(f"{model}/operating-point", json={}).status_code == 422
    assert http.put(f"{model}/operating-point", json={"criterion": 7}).status_code == 422
    assert_problem(http.put(f"{API}/models/none/operating-point", json={"criterion": None}), 404, "model-not-found")
    assert http.get(f"{model}/evaluation").json()["operating_point"]["from_training"]


def test_costs_are_told_with_what_is_missing(http: Any, model: str) -> None:
    own = model.rpartition("/")[2]
    [item] = http.get(f"{API}/models/compare/costs", params={"model": own}).json()["items"]
    metrics = http.get(model).json()["metrics"]
    assert item["trained"] == metrics["trainable_parameters"] < item["total"]
    assert item["ppe"] == ppe(item["auroc"]["value"], item["trained"], item["total"])
    assert item["full"] is item["pme"] is None and item["memory_mb"] == metrics["peak_memory_mb"]
    assert_problem(http.get(f"{API}/models/compare/costs?model=none"), 404, "model-not-found")
    assert_problem(http.get(f"{API}/models/compare/costs"), 422, "field-missing")
    assert http.get(f"{API}/models/compare/costs", params={"model": [own] * 13}).status_code == 422
