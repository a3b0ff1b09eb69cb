"""Layers to adapt are found by their names, and refused by name before anything is changed."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import timm
import torch
from torch import nn

from tests.wara.support import MakeVit
from tests.wara.tuner.methods import images
from wara.tuner import AdapterError, TinyWaraConfig, WaraConfig, adapted_layers


def _beit() -> nn.Module:
    torch.manual_seed(0)
    return timm.models.Beit(
        img_size=32, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=3, use_rel_pos_bias=True
    ).eval()


def _separate(model: nn.Module) -> set[bool]:
    return {module.qkv_bias_separate for module in model.modules() if hasattr(module, "qkv_bias_separate")}


def test_all_linear_adapts_what_it_adapts_for_lora(make_vit: MakeVit) -> None:
    options: dict[str, Any] = {"r": 2, "target_modules": "all-linear", "exclude_modules": ["head"]}

    ours = peft.get_peft_model(make_vit(), WaraConfig(**options))

    assert set(adapted_layers(ours)) == set(adapted_layers(peft.get_peft_model(make_vit(), peft.LoraConfig(**options))))
    assert len(adapted_layers(ours)) == 2 * 4
    assert ours(images()).shape == (2, 3)


def test_a_regular_expression_names_layers(make_vit: MakeVit) -> None:
    model = peft.get_peft_model(make_vit(), WaraConfig(r=2, target_modules=r"blocks\.1\..*\.(qkv|fc1)"))

    assert set(adapted_layers(model)) == {"blocks.1.attn.qkv", "blocks.1.mlp.fc1"}


def test_excluded_layers_are_left_alone(make_vit: MakeVit) -> None:
    model = peft.get_peft_model(make_vit(), WaraConfig(r=2, exclude_modules=["blocks.0.attn.qkv"]))

    assert set(adapted_layers(model)) == {"blocks.1.attn.qkv"}


def test_a_layer_outside_the_tokens_is_refused_by_name(make_vit: MakeVit) -> None:
    with pytest.raises(AdapterError, match=r"Layer 'head': it is given one token an image.*Leave it out"):
        peft.get_peft_model(make_vit(), WaraConfig(r=2, target_modules=["qkv", "head"]))


def test_one_unknown_name_among_others_is_refused(make_vit: MakeVit) -> None:
    with pytest.raises(AdapterError, match=r"target_modules has 'kqv', which was not found .*'qkv'"):
        peft.get_peft_model(make_vit(), WaraConfig(r=2, target_modules=["qkv", "kqv"]))


def test_beit_runs_its_qkv_as_a_layer_and_gives_the_same_outputs() -> None:
    expected = _beit()(images()).detach()

    model = peft.get_peft_model(_beit(), WaraConfig(r=2))

    torch.testing.assert_close(model(images()), expected, atol=1e-6, rtol=1e-6)
    assert _separate(model) == {True}
    with torch.no_grad():
        next(iter(adapted_layers(model).values())).module.get_parameter("wara_B.default").normal_()
    assert float((model(images()).detach() - expected).abs().max()) > 0.1 * float(expected.abs().max())


@pytest.mark.parametrize("options", [{"levels": 9}, {"r": 99}, {"grid": (3, 3)}], ids=str)
def test_beit_is_as_it_was_after_a_refusal(options: dict[str, Any]) -> None:
    model = _beit()

    with pytest.raises(AdapterError):
        peft.get_peft_model(model, WaraConfig(**{"r": 2, **options}))

    assert _separate(model) == {False}


def test_patch_dropout_is_refused_with_the_reason(make_vit: MakeVit) -> None:
    with pytest.raises(AdapterError, match=r"drops a share of 0\.25 of its patches.*patch_drop_rate=0"):
        peft.get_peft_model(make_vit(patch_drop_rate=0.25), WaraConfig(r=2))


def test_a_broken_weight_in_the_last_layer_is_refused_before_the_first_is_changed(make_vit: MakeVit) -> None:
    model = make_vit()
    with torch.no_grad():
        model.blocks[1].attn.qkv.weight[0, 0] = torch.nan

    with pytest.raises(AdapterError, match=r"'blocks\.1\.attn\.qkv': its pretrained weight .*not finite.*Use a sound"):
        peft.get_peft_model(model, TinyWaraConfig(r=2))

    assert not any("wara" in type(module).__name__.lower() for module in model.modules())
