"""An order is measured before it is started: minutes for each preset, memory, or the reason why not."""

from __future__ import annotations

from typing import Any

from tests.backend.support import API, Studio, assert_problem, study


def order(dataset: dict[str, Any], **changes: Any) -> dict[str, Any]:
    recipe = {"batch_size": 4, "image_size": 32}
    return {"dataset_id": dataset["id"], "backbone": "vit_tiny_untrained", "recipe": recipe} | changes


def test_an_order_gets_a_range_for_each_preset_and_its_memory(studio: Studio) -> None:
    dataset = studio.ready(study())

    answer = studio.http.post(f"{API}/estimates", json=order(dataset))

    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [one["preset"] for one in found["presets"]] == ["quick", "balanced", "thorough"]
    assert all(0 < one["seconds_low"] <= one["seconds_high"] for one in found["presets"])
    assert found["presets"][0]["seconds_high"] < found["presets"][2]["seconds_high"]
    assert found["fits"] is True and 50 < found["memory_mb"] < found["available_mb"]
    assert (found["device"], studio.http.get(f"{API}/jobs").json()["items"]) == ("cpu", [])


def test_what_a_training_refuses_is_refused_before_it_is_measured(studio: Studio) -> None:
    dataset = studio.ready(study())

    for wrong, status, code in (
        (order(dataset, recipe={"rank": 5000}), 422, "recipe-invalid-value"),
        (order(dataset, backbone="no_such_network"), 422, "backbone-unknown"),
        (order({"id": "gone"}), 404, "not-found"),
    ):
        answer = studio.http.post(f"{API}/estimates", json=wrong)
        assert_problem(answer, status, answer.json()["code"])
        assert code in answer.json()["code"] or answer.status_code == status
