"""WaRA and Tiny-WaRA as PEFT tuners, beyond the contract: layers found, grids read, a transform shared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch

from tests.wara.support import MakeVit
from wara.tuner import SubbandTransform, TinyWaraConfig, WaraConfig, adapted_layers

HEAD = {"modules_to_save": ["head"], "init_weights": False}


def test_a_fresh_process_gives_the_same_outputs(make_vit: MakeVit, tmp_path: Path) -> None:
    model = peft.get_peft_model(make_vit(), WaraConfig(r=4, **HEAD)).eval()
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


def test_tiny_wara_trains_only_v_gains_and_the_head(make_vit: MakeVit) -> None:
    model = peft.get_peft_model(make_vit(), TinyWaraConfig(r=8, u=5, **HEAD))
    adapter = {name: p for name, p in model.named_parameters() if p.requires_grad and "head" not in name}

    assert {name.rsplit(".", 2)[-2] for name in adapter} == {"wara_v", "wara_gain"}
    assert sum(p.numel() for p in adapter.values()) == 2 * (5 + 7)  # two layers: u numbers and 7 subbands


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


@pytest.mark.parametrize(
    "config", [WaraConfig(r=4, **HEAD), TinyWaraConfig(r=8, u=5, **HEAD), peft.LoraConfig(target_modules=["qkv"])]
)
def test_the_view_of_a_layer_computes_its_update(make_vit: MakeVit, config: peft.PeftConfig) -> None:
    model = peft.get_peft_model(make_vit(), config).eval()
    layer = next(iter(adapted_layers(model).values()))
    x = torch.randn(2, 65, 24)

    torch.testing.assert_close(
        layer.module(x), layer.module.get_base_layer()(x) + layer.update(x), atol=1e-5, rtol=1e-4
    )
