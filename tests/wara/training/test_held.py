"""Held casts change no bit of an answer and are gone afterwards."""

from __future__ import annotations

import contextlib

import peft
import pytest
import timm
import torch
from torch import nn

from wara import TinyWaraConfig, WaraConfig
from wara.training.class_token import answering
from wara.training.held import HeldCasts

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 3}
CONFIGS = {
    "wara": WaraConfig(r=2, modules_to_save=["head"], init_weights=False),
    "tiny-wara": TinyWaraConfig(r=2, u=4, modules_to_save=["head"], init_weights=False),
    "lora": peft.LoraConfig(r=2, target_modules=["qkv"], modules_to_save=["head"], init_lora_weights=False),
    "full": None,
}


@pytest.mark.parametrize("method", CONFIGS)
def test_answers_are_the_same_bits_and_the_weights_come_back(method: str) -> None:
    torch.manual_seed(0)
    config = CONFIGS[method]
    model: nn.Module = timm.models.vision_transformer.VisionTransformer(**SIZES).eval()
    if config is not None:
        model = peft.get_peft_model(model, config).eval()
    images, cpu = torch.randn(3, 3, 32, 32), torch.device("cpu")
    before = dict(model.named_parameters())
    held = HeldCasts(model)
    with torch.inference_mode(), answering(model, cpu, "bfloat16"):
        expected = model(images)
        with held.in_place():
            dtypes = {p.dtype for n, p in model.named_parameters() if n.endswith("qkv.base_layer.weight")}
            found = model(images)
    assert dtypes == ({torch.bfloat16} if config is not None else set())
    assert torch.equal(found, expected)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_weights_come_back_when_a_pass_fails() -> None:
    model = timm.models.vision_transformer.VisionTransformer(**SIZES).eval()
    held, seen = HeldCasts(model), []
    with contextlib.suppress(ZeroDivisionError), held.in_place():
        seen.append(model.head.weight.dtype)
        raise ZeroDivisionError
    assert seen == [torch.bfloat16]
    assert model.head.weight.dtype == torch.float32
