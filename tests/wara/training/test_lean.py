"""The short way through frozen layers and attention gives what autocast gives, and leaves the model as it was."""

from __future__ import annotations

import copy

import peft
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.wara.support import CONFIGS
from wara.training.class_token import answering
from wara.training.device import set_fused_attention
from wara.training.lean import ShortWays, attend, lean

CPU = torch.device("cpu")
SIZES = {"img_size": 40, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 3}
OPTIONS = {
    "plain": {}, "no bias": {"qkv_bias": False}, "layer scale": {"init_values": 0.3, "proj_drop_rate": 0.2},
    "qk-norm": {"qk_norm": True}, "attention norm": {"scale_attn_norm": True}, "dropout": {"attn_drop_rate": 0.2},
}  # fmt: skip


def vit(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return timm.models.vision_transformer.VisionTransformer(**SIZES, **options)


def adapted(method: str, **options: object) -> nn.Module:
    config = CONFIGS[method]
    return vit(**options) if config is None else peft.get_peft_model(vit(**options), copy.deepcopy(config))


def step(model: nn.Module, images: Tensor, precision: str = "bfloat16") -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(1)  # the same dropout
    with answering(model, CPU, precision):
        logits = model(images)
    logits.float().square().sum().backward()
    return logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def apart(gradients: dict[str, Tensor], from_others: dict[str, Tensor]) -> float:
    """How far a whole gradient is from another, as a share of that one's length."""
    assert gradients.keys() == from_others.keys()
    of_all = torch.cat([(gradients[name] - other).flatten() for name, other in from_others.items()])
    return float(of_all.norm() / torch.cat([other.flatten() for other in from_others.values()]).norm())


@pytest.mark.parametrize("method", CONFIGS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_answers_and_gradients_are_those_of_autocast_to_rounding(method: str, options: dict[str, object]) -> None:
    model, images = adapted(method, **options), torch.randn(4, 3, 40, 40)
    model.train()
    set_fused_attention(model, CPU, training=True)
    plain, of_plain = step(model, images)
    with lean(model, CPU, "bfloat16"):
        short, of_short = step(model, images)
    torch.testing.assert_close(short, plain, rtol=0.02, atol=0.02)
    assert apart(of_short, of_plain) < 0.03  # bfloat16 keeps eight bits


@pytest.mark.parametrize("method", CONFIGS)
@pytest.mark.parametrize("options", [{}, {"qkv_bias": False}, {"qk_norm": True}], ids=["plain", "no bias", "qk-norm"])
def test_gradients_are_as_near_to_float32_as_those_of_autocast(method: str, options: dict[str, object]) -> None:
    model, images = adapted(method, **options), torch.randn(4, 3, 40, 40)
    model.train()
    set_fused_attention(model, CPU, training=True)
    _, exact = step(model, images, "float32")
    _, of_plain = step(model, images)
    with lean(model, CPU, "bfloat16"):
        _, of_short = step(model, images)
    assert apart(of_short, exact) < 1.1 * apart(of_plain, exact)


def test_attention_alone_has_the_gradient_of_its_formula() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, 5, 3 * 2 * 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: attend(x, 2, 0.5), (qkv,))
    q, k, v = qkv.reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    expected = F.scaled_dot_product_attention(q, k, v, scale=0.5).transpose(1, 2).reshape(2, 5, 8)
    torch.testing.assert_close(attend(qkv, 2, 0.5), expected)


@pytest.mark.parametrize("method", CONFIGS)
def test_a_model_that_no_longer_changes_gives_the_answers_of_autocast(method: str) -> None:
    model, images = adapted(method).requires_grad_(False).eval(), torch.randn(2, 3, 40, 40)
    set_fused_attention(model, CPU, training=False)
    with torch.inference_mode(), answering(model, CPU, "bfloat16"):
        plain = model(images)
        with ShortWays(model).in_place():
            short = model(images)
    assert torch.equal(short, plain)


def test_outside_the_model_is_as_it_was_also_after_an_error() -> None:
    model, images = adapted("wara").eval(), torch.randn(2, 3, 40, 40)
    before, weights = model(images), {n: p.clone() for n, p in model.state_dict().items()}
    with pytest.raises(ZeroDivisionError), lean(model, CPU, "bfloat16"), lean(model, CPU, "bfloat16"):
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(model(images), before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_in_float32_the_model_runs_as_it_is() -> None:
    model, images = adapted("lora").eval(), torch.randn(2, 3, 40, 40)
    before = model(images)
    with lean(model, CPU, "float32"):
        assert torch.equal(model(images), before)


def test_layers_that_are_trained_are_left_alone() -> None:
    model = adapted("wara")
    with lean(model, CPU, "bfloat16"):
        changed = {name for name, module in model.named_modules() if "forward" in vars(module)}
    assert any(name.endswith("qkv.base_layer") for name in changed)
    assert not any("modules_to_save" in name or name.endswith("qkv") for name in changed)
