"""Backbones over HTTP: listed without paths, added when they fit, told when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
from safetensors.torch import save_file

from backend.backbones import check_fits
from backend.settings import Settings
from tests.backend.support import API, Studio, assert_problem, serve, settings_for, study
from wara import embedded
from wara.errors import InputError
from wara.training.recipe import Recipe

NAME = "deit_tiny_patch16_224"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(timm.create_model(NAME, pretrained=False).state_dict(), path)
    return path


def test_the_embedded_backbone_is_offered_first_without_any_setting(studio: Studio) -> None:
    items = studio.http.get(f"{API}/backbones").json()["items"]
    assert [(item["id"], item["pretrained"], item["available"]) for item in items] == [
        ("embedded", True, True), ("vit_tiny_untrained", False, True)
    ]  # fmt: skip
    health = studio.http.get(f"{API}/health").json()
    assert health["backbones_available"] == 1 and health["notice"] is None
    assert health["disk_free_mb"] > 0


def test_without_any_weights_the_server_says_what_is_missing(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(embedded, "FILE", tmp_path / "gone.safetensors")
    health = studio.http.get(f"{API}/health").json()
    assert health["backbones_available"] == 0 and "untrained" in health["notice"]
    order = {"dataset_id": studio.ready(study(5))["id"], "backbone": "embedded"}
    assert_problem(studio.http.post(f"{API}/jobs", json=order), 422, "weights-missing")


def test_weights_of_the_settings_are_offered_under_a_name_without_a_path(tmp_path: Path, weights: Path) -> None:
    missing = tmp_path / "gone.safetensors"
    settings = settings_for(tmp_path / "data", backbones=f"{NAME}:{weights},{NAME}:{missing}")
    with serve(settings) as client:
        studio = Studio(client)
        answer = studio.http.get(f"{API}/backbones")
        assert str(weights.parent) not in answer.text and str(tmp_path) not in answer.text
        own, first, gone, _ = answer.json()["items"]
        assert own["source"] == "embedded"
        assert (first["source"], first["pretrained"], first["available"], first["input_size"]) == (
            "file", True, True, 224,
        )  # fmt: skip
        assert not gone["available"] and gone["id"] != first["id"]

        dataset = studio.ready(study(5))
        order: dict[str, Any] = {"dataset_id": dataset["id"], "backbone": gone["id"]}
        assert_problem(studio.http.post(f"{API}/jobs", json=order), 422, "weights-missing")
        too_large = order | {"backbone": first["id"], "recipe": {"rank": 193}}
        problem = assert_problem(studio.http.post(f"{API}/jobs", json=too_large), 422, "recipe-adapter")
        assert "192" in problem["detail"]
        for pixels, seen in ((16, "multiple of 16"), (230, "multiple of 16"), (100_000, "100000")):
            odd_size = order | {"backbone": first["id"], "recipe": {"image_size": pixels}}
            problem = assert_problem(studio.http.post(f"{API}/jobs", json=odd_size), 422, "recipe-image-size")
            assert seen in problem["detail"]


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
    assert [item["id"] for item in items] == ["embedded", added["id"], "vit_tiny_untrained"]


def test_the_same_weights_for_another_architecture_leave_the_first_alone(
    studio: Studio, settings: Settings, weights: Path
) -> None:
    kept = []
    for name in (NAME, "vit_tiny_patch16_224", NAME):
        before = {path: path.stat().st_ino for path in kept}
        with weights.open("rb") as file:
            answer = studio.http.post(f"{API}/backbones", files={"file": ("w.safetensors", file)}, data={"name": name})
        assert answer.status_code == 201, answer.text
        kept = list((settings.data_dir / "backbones").glob("*/*"))
        assert {path: path.stat().st_ino for path in before} == before
    assert len(kept) == 2
    items = studio.http.get(f"{API}/backbones").json()["items"]
    assert [(item["name"], item["available"]) for item in items[1:3]] == [(NAME, True), ("vit_tiny_patch16_224", True)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("vit_tiny_patch16_224", None), ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", None),
        ("vit_tiny_patch16_224.no_such_tag", "backbone-unknown"), ("vit_of_dreams", "backbone-unknown"),
        ("vit_tiny_patch16_224.x:/etc/passwd", "backbone-unknown"), ("resnet18", "backbone-unsupported"),
    ],
)  # fmt: skip
def test_where_the_hub_may_be_asked_any_of_its_transformers_can_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str | None
) -> None:
    monkeypatch.setenv("WARA_OFFLINE", "false")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serve(settings_for(tmp_path, offline=False)) as client:
        parts = client.app.state.parts
        if code is None:
            offer = parts.backbones.resolve(name)
            assert (offer.id, offer.info.spec, offer.info.source) == (name, name, "hub")
            check_fits(parts.networks, offer, Recipe.from_preset(backbone=name))
            return
        with pytest.raises(InputError) as caught:
            check_fits(parts.networks, parts.backbones.resolve(name), Recipe.from_preset(backbone=name))
        assert caught.value.code == code


def test_where_the_hub_may_not_be_asked_only_what_is_here_can_be_chosen(studio: Studio) -> None:
    with pytest.raises(InputError) as caught:
        studio.http.app.state.parts.backbones.resolve("vit_tiny_patch16_224")
    assert caught.value.code == "backbone-unknown"
