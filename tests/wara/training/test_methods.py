"""What each method trains, and at which step size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from tests.wara.support import UNTRAINED, small_recipe
from wara.backbones import Backbone, _require_transformer, load_backbone
from wara.errors import InputError
from wara.training.methods import (
    build,
    count_parameters,
    load,
    load_trained_state,
    parameter_groups,
    save,
    trained_state,
)
from wara.training.recipe import METHODS
from wara.tuner import adapted_layers

# 4 blocks of width 96, 3 classes: the head has 3 * 97 numbers; rank 8 and 7 subbands.
HEAD = 3 * 97
ADAPTER = {
    "wara": 4 * (8 * 96 + 288 * 8 + 7), "tiny-wara": 4 * (64 + 7), "lora": 4 * (8 * 96 + 288 * 8), "linear-probe": 0,
}  # fmt: skip


@pytest.mark.parametrize("method", ADAPTER)
def test_exactly_the_adapter_and_the_head_are_trained(method: str) -> None:
    backbone = load_backbone("vit_tiny_untrained", 3)
    model = build(backbone, small_recipe(method=method))
    assert count_parameters(model, backbone) == (ADAPTER[method] + HEAD, ADAPTER[method])


def test_full_fine_tuning_trains_everything() -> None:
    backbone = load_backbone("vit_tiny_untrained", 3)
    everything = sum(p.numel() for p in backbone.model.parameters())
    assert count_parameters(build(backbone, small_recipe(method="full")), backbone) == (everything, everything - HEAD)


@pytest.mark.parametrize("method", ["wara", "tiny-wara", "lora"])
def test_an_adapter_goes_into_the_layers_that_the_target_names(method: str) -> None:
    for target, blocks in (("qkv", None), ("proj", None), ("proj", 1)):
        backbone = load_backbone("vit_tiny_untrained", 3)
        model = build(backbone, small_recipe(method=method, target=target, last_blocks=blocks))
        expected = [f"blocks.{number}.attn.{target}" for number in range(4)][-(blocks or 4) :]
        assert [name.removeprefix("base_model.model.") for name in adapted_layers(model)] == expected


def test_a_target_that_an_attention_lacks_is_refused_with_the_one_that_it_has() -> None:
    backbone = load_backbone("vit_tiny_untrained", 3)
    for block in backbone.model.blocks:
        block.attn.proj = torch.nn.Identity()
    with pytest.raises(InputError, match="no linear layer for the option target") as raised:
        build(backbone, small_recipe(target="proj"))
    assert raised.value.seen == "blocks.0.attn.proj"
    assert "target to qkv" in raised.value.remedy


class Reordered(torch.nn.Module):
    """Tokens (B, T, d) in another order."""

    def __init__(self, order: torch.Tensor) -> None:
        super().__init__()
        self.order = order

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, self.order]


def test_a_layer_whose_tokens_stand_on_no_grid_is_refused_with_the_target_that_works() -> None:
    def mixed() -> Backbone:
        backbone = load_backbone(UNTRAINED, 3, image_size=64)
        attention = backbone.model.blocks[0].attn
        order = torch.randperm(17, generator=torch.Generator().manual_seed(0))
        attention.norm, attention.proj_drop = Reordered(order), Reordered(order.argsort())
        return backbone

    with pytest.raises(InputError, match=r"blocks\.0\.attn\.proj") as raised:
        build(mixed(), small_recipe(method="tiny-wara"))
    assert raised.value.remedy == "Set the option target to qkv and start again."
    assert adapted_layers(build(mixed(), small_recipe(method="tiny-wara", target="qkv")))
    with pytest.raises(InputError, match="levels=9") as raised:
        build(load_backbone(UNTRAINED, 3), small_recipe(method="tiny-wara", levels=9))
    assert raised.value.remedy == "Change the option and start again."


@pytest.mark.parametrize("method", METHODS)
def test_head_and_adapter_have_step_sizes_of_their_own_and_vectors_no_decay(method: str) -> None:
    backbone = load_backbone("vit_tiny_untrained", 3)
    recipe = small_recipe(method=method, learning_rate=0.5, head_learning_rate=0.25, weight_decay=0.125)
    model = build(backbone, recipe)

    groups = parameter_groups(model, backbone, recipe)

    grouped = [p for group in groups for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == sum(p.requires_grad for p in model.parameters())
    assert sum(p.numel() for g in groups if g["lr"] == 0.25 for p in g["params"]) == HEAD
    assert all(g["weight_decay"] == (0.125 if p.dim() > 1 else 0) for g in groups for p in g["params"])


@pytest.mark.parametrize("method", METHODS)
def test_saving_and_loading_onto_a_fresh_backbone_gives_the_same_outputs(method: str, tmp_path: Path) -> None:
    recipe = small_recipe(method=method)
    model = build(load_backbone("vit_tiny_untrained", 3), recipe).eval()
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save(model, recipe, tmp_path)
    images = torch.randn(2, 3, 224, 224)

    loaded = load(load_backbone("vit_tiny_untrained", 3), recipe, tmp_path)

    assert torch.equal(loaded(images), model(images))
    assert not any(p.requires_grad for p in loaded.parameters())


def small_beit() -> Backbone:
    """A BEiT, whose attention reads the weight of its qkv layer instead of calling it."""
    model = timm.models.beit.Beit(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=3)
    model.pretrained_cfg = {"classifier": "head"}
    return Backbone(model, "small_beit", "file", None, "", True, (0.5,) * 3, (0.5,) * 3, 32, 8, "head")


def test_a_model_that_computes_past_its_adapted_layers_is_refused_for_lora_too() -> None:
    with pytest.raises(InputError, match="does not run its adapted layers"):
        build(small_beit(), small_recipe(method="lora"))


@pytest.mark.parametrize("method", ["wara", "tiny-wara", "lora"])
def test_beit_is_made_to_call_its_layers_and_then_learns(method: str) -> None:
    backbone = small_beit()
    _require_transformer(backbone.model, "small_beit")
    model = build(backbone, small_recipe(method=method))

    model(torch.randn(2, 3, 32, 32)).square().sum().backward()

    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad and "head" not in name}
    assert gradients
    assert all(gradient is not None for gradient in gradients.values())


def test_windows_of_tokens_are_adapted_on_the_grid_of_the_window() -> None:
    model = timm.models.swin_transformer.SwinTransformer(
        img_size=32, patch_size=4, embed_dim=12, depths=(1, 1), num_heads=(2, 2), window_size=4, num_classes=3
    )
    backbone = Backbone(model, "small_swin", "file", None, "", True, (0.5,) * 3, (0.5,) * 3, 32, 4, "head.fc")

    adapted = adapted_layers(build(backbone, small_recipe()))

    assert [layer.grid for layer in adapted.values()] == [(4, 4), (4, 4)]


def test_gains_are_not_decayed() -> None:
    backbone = load_backbone("vit_tiny_untrained", 3)
    recipe = small_recipe(gains="subband-rank", weight_decay=0.5)
    model = build(backbone, recipe)
    gains = {id(p) for name, p in model.named_parameters() if ".wara_gain." in name}
    assert gains
    assert all(
        group["weight_decay"] == 0
        for group in parameter_groups(model, backbone, recipe)
        if any(id(p) in gains for p in group["params"])
    )


def test_a_state_of_another_method_is_refused() -> None:
    wara = build(load_backbone("vit_tiny_untrained", 3), small_recipe())
    lora = build(load_backbone("vit_tiny_untrained", 3), small_recipe(method="lora"))
    with pytest.raises(InputError, match="another method or another rank"):
        load_trained_state(lora, trained_state(wara))


@pytest.mark.parametrize("method", ["wara", "lora"])
def test_a_config_from_elsewhere_is_not_what_a_model_is_loaded_by(method: str, tmp_path: Path) -> None:
    """PEFT would import the module that a LoRA config names."""
    recipe = small_recipe(method=method, last_blocks=2)
    made = build(load_backbone(UNTRAINED, 2, image_size=32), recipe)
    save(made, recipe, tmp_path)
    file = tmp_path / "adapter_config.json"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(stored | {"megatron_config": {"x": 1}, "megatron_core": "nowhere.to.be_found", "r": 3}))
    loaded = load(load_backbone(UNTRAINED, 2, image_size=32), recipe, tmp_path)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), made.eval()(images))
