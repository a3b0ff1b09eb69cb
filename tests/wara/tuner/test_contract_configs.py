"""PEFT's contract, beside LoRA: attributes, configs that come back as they were, refusals that change nothing."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn

from tests.wara.support import MakeVit
from tests.wara.tuner.methods import (
    Method,
    each_of_ours,
    every_method,
    images,
    outlines,
    require_equal,
    snapshot,
    trained,
)
from wara.tuner import AdapterError, TinyWaraConfig, WaraConfig

# A value other than the default for every field of our own.
_OTHERWISE: dict[str, Any] = {
    "r": 3, "wara_alpha": 5.5, "wara_dropout": 0.25, "wavelet": "db2", "levels": 1, "mode": "zero",
    "gains": "subband-rank", "activation": "gelu", "target_modules": {"fc1", "qkv"}, "exclude_modules": {"proj"},
    "modules_to_save": ["head"], "layers_to_transform": [1], "layers_pattern": "blocks", "grid": (8, 8),
    "num_prefix_tokens": 1, "init_weights": False,
}  # fmt: skip
_TINY_OTHERWISE = {"u": 7, "projection_seed": 5, "save_projection": False, "projection": "unit", "weight_tying": 0.5}


def _without(names: set[str], values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


@every_method
def test_the_model_tells_what_it_holds(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"])
    model.add_adapter("other", method.config(**method.unlike()))
    layers = [status for status in model.get_layer_status() if status.name.endswith("qkv")]
    whole = model.get_model_status()

    assert model.active_adapter == "default"
    assert model.active_adapters == ["default"]
    assert set(model.peft_config) == {"default", "other"}
    assert model.peft_type == method.config().peft_type
    assert [layer.name for layer in layers] == ["model.blocks.0.attn.qkv", "model.blocks.1.attn.qkv"]
    assert {(tuple(layer.active_adapters), tuple(layer.merged_adapters)) for layer in layers} == {(("default",), ())}
    assert {tuple(layer.available_adapters) for layer in layers} == {("default", "other")}
    assert all(layer.requires_grad == {"default": True, "other": False} for layer in layers)
    assert whole.enabled is True
    assert whole.trainable_params == sum(p.numel() for p in model.parameters() if p.requires_grad)


@every_method
def test_a_config_comes_back_from_its_file_as_it_was(make_vit: MakeVit, method: Method, tmp_path: Path) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"])
    model.save_pretrained(tmp_path)

    found = peft.PeftConfig.from_pretrained(str(tmp_path))

    assert type(found) is method.kind
    assert found.inference_mode is True
    differs = {"inference_mode", "auto_mapping"}  # what PEFT itself sets when it saves
    assert _without(differs, found.to_dict()) == _without(differs, model.peft_config["default"].to_dict())
    assert json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))["peft_type"] == found.peft_type


@pytest.mark.parametrize(
    ("kind", "options"),
    [(WaraConfig, _OTHERWISE), (TinyWaraConfig, _OTHERWISE | _TINY_OTHERWISE)],
    ids=["wara", "tiny-wara"],
)
def test_every_field_of_a_config_survives_its_file(kind: Any, options: dict[str, Any], tmp_path: Path) -> None:
    config = kind(**options)
    config.save_pretrained(tmp_path)

    found = kind.from_pretrained(str(tmp_path))

    own = {field.name for field in dataclasses.fields(kind)} - {f.name for f in dataclasses.fields(peft.PeftConfig)}
    assert set(options) == own
    assert {name: getattr(found, name) for name in own} == options
    assert all(options[field.name] != field.default for field in dataclasses.fields(kind) if field.name in own)


_WRONG: list[tuple[str, Any]] = [
    *(("r", value) for value in (0, -1, 2.5, "8", None, True)),
    *(("wara_alpha", value) for value in (0, -2, "x", None, math.nan, math.inf, True)),
    *(("wara_dropout", value) for value in (1.0, -0.1, "x", None, math.nan)),
    *(("wavelet", value) for value in ("harr", "morl", 3, None)),
    *(("levels", value) for value in (0, 1.5, "2", True)),
    *(("mode", value) for value in ("mirror", None)),
    *(("gains", value) for value in ("all", None, 1)),
    *(("activation", value) for value in ("relu", None)),
    *(("target_modules", value) for value in (5, [], ["qkv", 3], "qkv[")),
    *(("exclude_modules", value) for value in (5, [3])),
    *(("modules_to_save", value) for value in ("head", 5, [3])),
    *(("layers_to_transform", value) for value in ("1", [1.5], -1, [])),
    *(("layers_pattern", value) for value in (5, [3])),
    *(("grid", value) for value in ((0, 8), (8,), "8x8", (8, 8.5), 64)),
    *(("num_prefix_tokens", value) for value in (-1, 0.5, "1", True)),
    *(("init_weights", value) for value in ("yes", 1, None)),
]
_WRONG_FOR_TINY: list[tuple[str, Any]] = [
    *(("u", value) for value in (0, 1.5, None, True)),
    *(("projection_seed", value) for value in ("x", 0.5, None, True, -1)),
    *(("save_projection", value) for value in ("yes", None)),
    *(("projection", value) for value in ("normal", None)),
    *(("weight_tying", value) for value in (-0.1, 1.5, "all", None, math.nan, True)),
]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(WaraConfig, *case) for case in _WRONG] + [(TinyWaraConfig, *case) for case in _WRONG + _WRONG_FOR_TINY],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_a_wrong_value_of_any_field_is_an_error_with_the_value_and_what_to_use(
    kind: Any, field: str, value: Any
) -> None:
    with pytest.raises(AdapterError) as caught:
        kind(**{field: value})

    said = str(caught.value)
    assert field in said
    assert repr(value) in said
    assert "Use " in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"r": 25}, r"'blocks\.0\.attn\.qkv': r=25 is larger .* Use a rank of 1 to 24"),
        ({"levels": 9}, r"levels=9 .* Use 1 to 3"),
        (
            {"wavelet": "db4", "mode": "periodization", "levels": 3},
            r"largest error .*, allowed 1e-05\. Use mode='symmetric'",
        ),
        ({"target_modules": ["nothing"]}, r"nothing.*not found"),
        ({"target_modules": ["norm1"]}, r"'blocks\.0\.norm1' is a LayerNorm.*Leave it out"),
        ({"modules_to_save": ["hat"]}, r"modules_to_save .*'hat'.*Use "),
        ({"layers_to_transform": [0, 7]}, r"layers_to_transform=\[0, 7\] has 7, .*Use 0 to 1"),
        ({"grid": (4, 4)}, r"grid=\(4, 4\)"),
        ({"num_prefix_tokens": 5}, r"num_prefix_tokens=5"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [WaraConfig, TinyWaraConfig])
def test_a_refused_config_leaves_the_base_model_as_it_was(
    make_vit: MakeVit, kind: Any, options: dict[str, Any], said: str
) -> None:
    model = make_vit()
    before, layout, flags = snapshot(model), outlines(model), trained(model)

    with pytest.raises(ValueError, match=said):
        peft.get_peft_model(model, kind(**{"r": 4, **options}))

    require_equal(snapshot(model), before)
    assert outlines(model) == layout
    assert trained(model) == flags


@each_of_ours
def test_a_refused_second_adapter_leaves_the_first_as_it_was(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"])
    before, layout, flags = snapshot(model), outlines(model), trained(model)

    with pytest.raises(AdapterError):
        model.add_adapter("other", method.config(levels=9))

    require_equal(snapshot(model), before)
    assert outlines(model) == layout
    assert trained(model) == flags
    assert set(model.peft_config) == {"default"}
    model.add_adapter("other", method.config(**method.unlike()))  # and the name is free


@every_method
def test_a_name_that_is_taken_is_refused_and_nothing_changes(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit())
    before, config = snapshot(model), model.peft_config["default"]

    with pytest.raises(ValueError, match="default"):
        model.add_adapter("default", method.config(**method.unlike()))

    require_equal(snapshot(model), before)
    assert model.peft_config["default"] is config


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (WaraConfig, TinyWaraConfig),
        (TinyWaraConfig, WaraConfig),
        (WaraConfig, peft.LoraConfig),
        (peft.LoraConfig, WaraConfig),
    ],
)
def test_methods_are_not_mixed_in_one_model(make_vit: MakeVit, first: Any, second: Any) -> None:
    model = peft.get_peft_model(make_vit(), first(r=4, target_modules=["qkv"]))
    expected = model(images())

    with pytest.raises(ValueError, match="type"):
        model.add_adapter("other", second(r=4, target_modules=["qkv"]))

    assert torch.equal(model(images()), expected)
    assert set(model.peft_config) == {"default"}


def test_a_model_without_a_token_grid_is_refused() -> None:
    model = nn.Sequential()
    model.qkv = nn.Linear(4, 12)

    with pytest.raises(AdapterError, match=r"no patch_embed\.grid_size"):
        peft.get_peft_model(model, WaraConfig(r=2))


def test_a_model_without_qkv_is_refused_with_the_layers_that_it_has() -> None:
    model = nn.Sequential()
    model.fc = nn.Linear(4, 12)

    with pytest.raises(AdapterError, match=r"no linear layers named 'qkv'.*\['fc'\]"):
        peft.get_peft_model(model, WaraConfig(r=2))
