"""WaRA and Tiny-WaRA as PEFT methods: what is trained, saved, loaded, switched, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from torch import nn

from tests.wara.support import MakeVit
from wara.tuner import SubbandTransform, TinyWaraConfig, WaraConfig, adapted_layers

CONFIGS = {
    "wara": WaraConfig(r=4, modules_to_save=["head"], init_weights=False),
    "wara-shrinkage": WaraConfig(r=4, gains="subband-rank", activation="soft-threshold", init_weights=False),
    "tiny-wara": TinyWaraConfig(r=8, u=5, modules_to_save=["head"], init_weights=False),
    "tiny-wara-from-seed": TinyWaraConfig(r=8, u=5, save_projection=False, init_weights=False),
}


def trained(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_adapter_is_the_same_after_saving_and_loading_with_another_seed(
    make_vit: MakeVit, name: str, tmp_path: Path
) -> None:
    model = peft.get_peft_model(make_vit(), CONFIGS[name]).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = model(images)
    model.save_pretrained(tmp_path)
    torch.manual_seed(4711)

    loaded = peft.PeftModel.from_pretrained(make_vit(), tmp_path).eval()

    if name == "tiny-wara-from-seed":  # its basis is recomputed; the head, not saved, is the base model's
        torch.testing.assert_close(loaded(images), expected, atol=1e-6, rtol=1e-5)
    else:
        assert torch.equal(loaded(images), expected)


def test_a_fresh_process_gives_the_same_outputs(make_vit: MakeVit, tmp_path: Path) -> None:
    model = peft.get_peft_model(make_vit(), CONFIGS["wara"]).eval()
    model.save_pretrained(tmp_path)
    images = torch.ones(1, 3, 32, 32)
    program = """
import sys, torch, timm, peft, wara.tuner
torch.manual_seed(0)
vit = timm.models.VisionTransformer(img_size=32, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=3)
torch.manual_seed(99)
model = peft.PeftModel.from_pretrained(vit.eval(), sys.argv[1]).eval()
print(model(torch.ones(1, 3, 32, 32)).detach().double().flatten().tolist())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )

    found = torch.tensor(json.loads(done.stdout.splitlines()[-1]))

    torch.testing.assert_close(found, model(images).detach().flatten().double().to(found.dtype), atol=1e-6, rtol=1e-5)


def test_wara_trains_its_factors_gains_and_the_head_and_nothing_else(make_vit: MakeVit) -> None:
    names = trained(peft.get_peft_model(make_vit(), CONFIGS["wara"]))

    assert {name.rsplit(".", 2)[-2] for name in names} == {"wara_A", "wara_B", "wara_gain", "default"}
    assert {name for name in names if "head" in name} == {n for n in names if "modules_to_save" in n}
    assert len(names) == 2 * 3 + 2


def test_tiny_wara_trains_only_v_gains_and_the_head(make_vit: MakeVit) -> None:
    model = peft.get_peft_model(make_vit(), CONFIGS["tiny-wara"])
    adapter = {name: p for name, p in model.named_parameters() if p.requires_grad and "head" not in name}

    assert {name.rsplit(".", 2)[-2] for name in adapter} == {"wara_v", "wara_gain"}
    assert sum(p.numel() for p in adapter.values()) == 2 * (5 + 7)  # two layers: u numbers and 7 subbands


@pytest.mark.parametrize("name", CONFIGS)
def test_three_steps_change_only_the_adapter_and_the_head(make_vit: MakeVit, name: str) -> None:
    model = peft.get_peft_model(make_vit(), CONFIGS[name]).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
        optimiser.step()

    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}

    assert changed == trained(model)


def test_a_new_adapter_leaves_the_base_model_as_it_is(make_vit: MakeVit) -> None:
    images = torch.randn(2, 3, 32, 32)
    expected = make_vit()(images)

    assert torch.equal(peft.get_peft_model(make_vit(), WaraConfig(r=4)).eval()(images), expected)


def test_disabling_gives_the_base_model_and_leaving_restores_the_adapter(make_vit: MakeVit) -> None:
    images = torch.randn(2, 3, 32, 32)
    expected = make_vit()(images)
    model = peft.get_peft_model(make_vit(), CONFIGS["wara-shrinkage"]).eval()
    adapted = model(images)

    with model.disable_adapter():
        assert torch.equal(model(images), expected)

    assert torch.equal(model(images), adapted)
    assert not torch.equal(adapted, expected)


def test_two_adapters_switch_and_one_can_be_deleted(make_vit: MakeVit) -> None:
    images = torch.randn(2, 3, 32, 32)
    model = peft.get_peft_model(make_vit(), WaraConfig(r=4, init_weights=False)).eval()
    first = model(images)
    model.add_adapter("other", WaraConfig(r=2, wavelet="db2", init_weights=False))
    assert torch.equal(model(images), first)

    model.set_adapter("other")
    second = model(images)
    model.set_adapter("default")
    model.delete_adapter("other")

    assert not torch.equal(first, second)
    assert torch.equal(model(images), first)
    assert not any("other" in name for name, _ in model.named_parameters())


def test_all_layers_share_one_transform(make_vit: MakeVit) -> None:
    model = peft.get_peft_model(make_vit(), WaraConfig(r=4))
    assert sum(isinstance(m, SubbandTransform) for m in model.modules()) == 1


def test_layers_to_transform_adapts_only_those_blocks(make_vit: MakeVit) -> None:
    model = peft.get_peft_model(make_vit(), WaraConfig(r=4, target_modules=["qkv", "fc1"], layers_to_transform=[1]))
    assert set(adapted_layers(model)) == {"blocks.1.attn.qkv", "blocks.1.mlp.fc1"}


def test_the_grid_and_the_prefix_are_read_from_the_model(make_vit: MakeVit) -> None:
    model = peft.get_peft_model(make_vit(img_size=(24, 40), reg_tokens=3), WaraConfig(r=4))
    layer = next(iter(adapted_layers(model).values()))

    assert (layer.grid, layer.num_prefix_tokens) == ((6, 10), 4)
    assert model(torch.randn(1, 3, 24, 40)).shape == (1, 3)


@pytest.mark.parametrize("config", [CONFIGS["wara"], CONFIGS["tiny-wara"], peft.LoraConfig(target_modules=["qkv"])])
def test_the_view_of_a_layer_computes_its_update(make_vit: MakeVit, config: peft.PeftConfig) -> None:
    model = peft.get_peft_model(make_vit(), config).eval()
    layer = next(iter(adapted_layers(model).values()))
    x = torch.randn(2, 65, 24)

    torch.testing.assert_close(
        layer.module(x), layer.module.get_base_layer()(x) + layer.update(x), atol=1e-5, rtol=1e-4
    )


def test_bfloat16_autocast_gives_finite_gradients(make_vit: MakeVit) -> None:
    model = peft.get_peft_model(make_vit(), CONFIGS["wara-shrinkage"]).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(torch.randn(2, 3, 32, 32)).float().square().mean()
    loss.backward()

    gradients = [p.grad for p in model.parameters() if p.requires_grad]

    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
