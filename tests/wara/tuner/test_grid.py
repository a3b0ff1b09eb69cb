"""The token grid that a model states, and what a config says instead."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import timm
import torch
from torch import nn

from tests.wara.support import MakeVit
from wara.tuner import AdapterError, TokenGrid, WaraConfig, adapted_layers, token_grid
from wara.tuner.grid import declared_grid, embedding_of


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"img_size": 224, "patch_size": 16}, (14, 14, 1)),
        ({"img_size": 28}, (7, 7, 1)),
        ({"img_size": 64, "reg_tokens": 4}, (16, 16, 5)),
        ({"img_size": 148, "reg_tokens": 4, "depth": 1}, (37, 37, 5)),
        ({"img_size": (32, 64)}, (8, 16, 1)),
        ({"img_size": (40, 24), "patch_size": (8, 4)}, (5, 6, 1)),
        ({"class_token": False, "global_pool": "avg"}, (8, 8, 0)),
        ({"class_token": False, "global_pool": "avg", "reg_tokens": 2}, (8, 8, 2)),
        ({"dynamic_img_size": True}, (8, 8, 1)),
    ],
    ids=str,
)
def test_the_grid_is_the_one_that_the_model_states(
    make_vit: MakeVit, options: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    grid = token_grid(make_vit(**options))

    assert grid == expected
    assert grid.num_tokens == expected[0] * expected[1] + expected[2]


def test_a_distilled_model_has_two_tokens_in_front() -> None:
    model = timm.models.deit.VisionTransformerDistilled(
        img_size=32, patch_size=4, embed_dim=24, depth=1, num_heads=2, num_classes=3
    )
    assert token_grid(model) == (8, 8, 2)


def test_wrappers_around_the_model_are_seen_through(make_vit: MakeVit) -> None:
    adapted = peft.get_peft_model(make_vit(img_size=(32, 64)), WaraConfig(r=2))

    assert token_grid(adapted) == token_grid(nn.Sequential(adapted)) == (8, 16, 1)


def test_the_grid_follows_a_model_that_is_set_to_another_size(make_vit: MakeVit) -> None:
    model = make_vit()
    model.set_input_size((16, 64))  # type: ignore[operator]

    assert token_grid(model) == (4, 16, 1)


def test_what_is_given_takes_the_place_of_what_the_model_states(make_vit: MakeVit) -> None:
    model = make_vit()

    assert token_grid(model, grid=(4, 16)) == TokenGrid(4, 16, 1)
    assert token_grid(model, num_prefix_tokens=0) == TokenGrid(8, 8, 0)
    assert token_grid(nn.Linear(2, 2), grid=(3, 5), num_prefix_tokens=2) == TokenGrid(3, 5, 2)
    assert token_grid(nn.Linear(2, 2), grid=(3, 5)) == TokenGrid(3, 5, 0)


def test_a_model_that_states_nothing_is_refused_with_what_to_give() -> None:
    model = nn.Sequential(nn.Linear(2, 2))

    assert embedding_of(model) is None and declared_grid(model) is None
    with pytest.raises(AdapterError, match=r"Sequential has no patch_embed\.grid_size.*give grid=\(rows, columns\)"):
        token_grid(model)


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"grid": [8, 8], "num_prefix_tokens": 1}, None),
        ({"num_prefix_tokens": 1}, None),
        ({"grid": (4, 16)}, "as many tokens as the model gives it, but they stand on a grid of 8 x 8 after 1 in front"),
        ({"grid": (5, 13), "num_prefix_tokens": 0}, r"num_prefix_tokens=0 has as many .* 8 x 8 after 1 in front"),
        ({"grid": (7, 8)}, r"grid=\(7, 8\) with num_prefix_tokens=1 makes 57 tokens, but the model gives it 65"),
        ({"num_prefix_tokens": 3}, r"grid=\(8, 8\) with num_prefix_tokens=3 makes 67 tokens.* gives it 65"),
    ],
    ids=str,
)
def test_a_grid_in_the_config_is_held_against_what_the_model_gives(
    make_vit: MakeVit, options: dict[str, Any], seen: str | None
) -> None:
    if seen is not None:
        with pytest.raises(AdapterError, match=seen):
            peft.get_peft_model(make_vit(), WaraConfig(r=2, **options))
        return

    model = peft.get_peft_model(make_vit(), WaraConfig(r=2, **options))

    layer = next(iter(adapted_layers(model).values()))
    assert (layer.grid, layer.num_prefix_tokens) == ((8, 8), 1)
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 3)
