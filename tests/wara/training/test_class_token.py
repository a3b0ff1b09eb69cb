"""The last block for the class token alone gives the same answers and gradients as the whole block."""

from __future__ import annotations

import copy

import peft
import pytest
import timm
import torch
from torch import Tensor, nn

from tests.wara.support import CONFIGS
from wara.training.class_token import class_token_only

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 3}
OPTIONS = [{}, {"reg_tokens": 3}, {"qk_norm": True, "init_values": 0.3}, {"scale_attn_norm": True}]


def vit(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return timm.models.vision_transformer.VisionTransformer(**SIZES, **options).eval()


def gradients(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    model(images).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("target", ["qkv", "attn.proj", "mlp.fc2"])
@pytest.mark.parametrize("method", CONFIGS)
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "registers", "qk-norm and layer scale", "attention norm"])
def test_answers_and_gradients_are_those_of_the_whole_block(
    method: str, options: dict[str, object], target: str
) -> None:
    config = copy.deepcopy(CONFIGS[method])
    if config is not None:
        config.target_modules = {target}
    model = vit(**options) if config is None else peft.get_peft_model(vit(**options), config)
    images = torch.randn(2, 3, 32, 32)
    whole, of_whole = model(images), gradients(model, images)
    with class_token_only(model):
        lean, of_lean = model(images), gradients(model, images)
    torch.testing.assert_close(lean, whole, rtol=1e-5, atol=1e-6)
    # A gradient of the whole block is exactly zero, or missing, where the answer does not depend on a parameter.
    assert of_lean.keys() == of_whole.keys()
    for name, gradient in of_whole.items():
        torch.testing.assert_close(of_lean[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_inside_one_token_leaves_the_last_block_and_outside_all_do() -> None:
    model, images = vit(), torch.randn(1, 3, 32, 32)
    shapes = []
    model.blocks[-1].register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    with class_token_only(model), class_token_only(model):
        model(images)
    with pytest.raises(ZeroDivisionError), class_token_only(model):
        raise ZeroDivisionError
    model(images)
    assert shapes == [(1, 1, 24), (1, 17, 24)]


@pytest.mark.parametrize(
    "model",
    [
        lambda: vit(global_pool="avg"),
        lambda: timm.create_model("test_efficientnet", num_classes=3),
        lambda: timm.models.vision_transformer.VisionTransformer(
            **SIZES, block_fn=timm.models.vision_transformer.ParallelScalingBlock
        ),
    ],
    ids=["mean of all tokens", "no transformer", "other blocks"],
)
def test_models_whose_answer_needs_more_or_is_made_otherwise_run_as_they_are(model: object) -> None:
    made = model().eval()
    images = torch.randn(1, 3, 32, 32)
    whole = made(images)
    with class_token_only(made):
        assert torch.equal(made(images), whole)
