"""Backbones over HTTP: listed without paths, added when they fit, told when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
from safetensors.torch import save_file

from tests.backend.support import API, Studio, assert_problem, serve, settings_for, study

NAME = "deit_tiny_patch16_224"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(timm.create_model(NAME, pretrained=False).state_dict(), path)
    return path


def test_without_weights_the_server_says_what_is_missing(studio: Studio) -> None:
    items = studio.http.get(f"{API}/backbones").json()["items"]
    assert [(item["id"], item["pretrained"], item["available"]) for item in items] == [
        ("vit_tiny_untrained", False, True)
    ]
    health = studio.http.get(f"{API}/health").json()
    assert health["backbones_available"] == 0 and "untrained" in health["notice"]
    assert health["device"]["type"] == "cpu" and health["device"]["name"]
    assert health["disk_free_mb"] > 0


def test_weights_of_the_settings_stand_first_under_a_name_without_a_path(tmp_path: Path, weights: Path) -> None:
    missing = tmp_path / "gone.safetensors"
    settings = settings_for(tmp_path / "data", backbones=f"{NAME}:{weights},{NAME}:{missing}")
    with serve(settings) as client:
        studio = Studio(client)
        answer = studio.http.get(f"{API}/backbones")
        assert str(weights.parent) not in answer.text and str(tmp_path) not in answer.text
        first, gone, _ = answer.json()["items"]
        assert (first["source"], first["pretrained"], first["available"], first["input_size"]) == (
            "file", True, True, 224,
        )  # fmt: skip
        assert not gone["available"] and gone["id"] != first["id"]
        assert studio.http.get(f"{API}/health").json()["notice"] is None

        dataset = studio.ready(study(5))
        order: dict[str, Any] = {"dataset_id": dataset["id"], "backbone": gone["id"]}
        assert_problem(studio.http.post(f"{API}/jobs", json=order), 422, "weights-missing")
        too_large = order | {"backbone": first["id"], "recipe": {"rank": 193}}
        problem = assert_problem(studio.http.post(f"{API}/jobs", json=too_large), 422, "recipe-adapter")
        assert "192" in problem["detail"]
        for pixels in (16, 100_000):
            odd_size = order | {"backbone": first["id"], "recipe": {"image_size": pixels}}
            problem = assert_problem(studio.http.post(f"{API}/jobs", json=odd_size), 422, "recipe-image-size")
            assert f"{pixels} pixels" in problem["detail"]


def test_uploaded_weights_that_fit_are_offered(studio: Studio, weights: Path) -> None:
    for _ in range(2):  # the same file again is the same backbone
        with weights.open("rb") as file:
            answer = studio.http.post(
                f"{API}/backbones", files={"file": ("mine.safetensors", file)}, data={"name": NAME}
            )
        assert answer.status_code == 201, answer.text
    added = answer.json()
    assert added["label"] == f"{NAME} (mine.safetensors)" and added["source"] == "file"
    assert added["id"].startswith(f"{NAME}@")
    items = studio.http.get(f"{API}/backbones").json()["items"]
    assert [item["id"] for item in items] == [added["id"], "vit_tiny_untrained"]
