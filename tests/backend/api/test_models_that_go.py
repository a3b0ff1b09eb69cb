"""Models that are deleted while a route works with them: they are not there, as if they had gone before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from backend.api.dependencies import Parts
from backend.db import Model
from tests.backend.support import API, Studio, as_form, assert_problem, png


@pytest.fixture
def parts(studio: Studio) -> Parts:
    app: FastAPI = studio.http.app
    found: Parts = app.state.parts
    return found


def add(parts: Parts, identifier: str, method: str = "wara", recipe: dict[str, Any] | None = None) -> None:
    """Add a model's row, and its folder where it has a recipe."""
    with parts.database.session() as session:
        session.add(
            Model(
                id=identifier, name=identifier, dataset_name="d", method=method, backbone="vit_tiny_untrained",
                backbone_spec="vit_tiny_patch16_224", pretrained=False, preset="quick", classes=["a", "b"], metrics={},
            )
        )  # fmt: skip
    if recipe is not None:
        folder = parts.storage.folder("models", identifier)
        folder.mkdir(parents=True)
        (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")


@pytest.mark.parametrize(
    "route",
    [
        "going/card",
        "going/card?format=html",
        "going/export?format=onnx",
        "going/export?format=merged",
        "going/export?format=peft",
        "compare?a=going&b=staying",
        "compare?a=staying&b=going",
    ],
)
def test_a_model_that_goes_while_a_route_works_with_it_is_not_there(
    studio: Studio, parts: Parts, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    add(parts, "going", recipe={})
    add(parts, "staying", recipe={})
    folder = parts.storage.folder

    def deleted_first(kind: str, identifier: str) -> Path:
        if (kind, identifier) != ("models", "going"):
            return folder(kind, identifier)
        with parts.database.session() as session:
            session.delete(session.get_one(Model, identifier))
        monkeypatch.undo()
        parts.storage.remove(kind, identifier)
        return folder(kind, identifier)

    monkeypatch.setattr(parts.storage, "folder", deleted_first)
    problem = assert_problem(studio.http.get(f"{API}/models/{route}"), 404, "model-not-found")
    assert "going" in problem["seen"]


def test_a_card_that_is_lost_while_its_model_stays_is_the_servers_fault(studio: Studio, parts: Parts) -> None:
    add(parts, "staying", recipe={})
    assert_problem(studio.http.get(f"{API}/models/staying/card"), 500, "server-error")


def test_a_prediction_of_a_model_that_has_just_gone_says_so(studio: Studio, parts: Parts) -> None:
    add(parts, "gone")  # its row was read, then its folder went
    answer = studio.http.post(f"{API}/models/gone/predict", files=as_form({"a.png": png(1)}))
    assert_problem(answer, 404, "model-not-found")


def test_costs_of_a_model_that_has_just_gone_say_so(studio: Studio, parts: Parts) -> None:
    add(parts, "gone")
    assert_problem(studio.http.get(f"{API}/models/compare/costs?model=gone"), 404, "model-not-found")


def test_a_whole_training_that_has_just_gone_is_no_reference_for_costs(studio: Studio, parts: Parts) -> None:
    from wara.training.outputs import FORMAT

    backbone, image = {"name": "vit_tiny_patch16_224"}, {"size": 224}
    recipe = {"format": FORMAT, "backbone": backbone, "image": image, "classes": ["a", "b"]}
    add(parts, "here", recipe=recipe)
    add(parts, "gone", method="full")
    answer = studio.http.get(f"{API}/models/compare/costs?model=here")
    assert answer.status_code == 200, answer.text
    assert answer.json()["items"][0]["full"] is None
