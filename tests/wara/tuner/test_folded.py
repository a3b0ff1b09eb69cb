"""A folded adapter gives what its layer gives, and only adapters that are linear on a fixed grid are folded."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import timm
import torch
from torch import Tensor, nn

from wara.tuner import TinyWaraConfig, WaraConfig
from wara.tuner.folded import FoldedLayer, is_foldable
from wara.tuner.layer import SubbandLayer

GAINS = ["none", "subband", "subband-rank"]


def adapted(config: Any, **options: object) -> nn.Module:
    torch.manual_seed(0)
    vit = timm.models.vision_transformer.VisionTransformer(
        **{"img_size": 40, "patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 3, "num_classes": 3} | options
    )
    model = peft.get_peft_model(vit, config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "wara_gain" in name:
                parameter.uniform_(-1, 2)
    return model


def layer_of(model: nn.Module) -> SubbandLayer:
    [layer] = [module for module in model.modules() if isinstance(module, SubbandLayer)]
    return layer


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("gains", GAINS)
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior2.2"])
@pytest.mark.parametrize("tiny", [False, True])
def test_a_folded_layer_gives_what_the_layer_gives(gains: str, wavelet: str, tiny: bool) -> None:
    shared = {"r": 3, "gains": gains, "wavelet": wavelet, "levels": 2, "init_weights": False}
    layer = layer_of(adapted(TinyWaraConfig(u=4, **shared) if tiny else WaraConfig(**shared)))
    assert is_foldable(layer)
    x = torch.randn(3, 26, 48)
    with torch.inference_mode():
        expected, base = layer(x), layer.base_layer(x)
        assert apart(base, expected) > 1e-3  # the adapter does something
        torch.testing.assert_close(FoldedLayer(layer, torch.float32)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gains", GAINS)
def test_in_bfloat16_folding_is_as_near_to_float32_as_the_layer_is(gains: str) -> None:
    layer = layer_of(adapted(WaraConfig(r=4, gains=gains, init_weights=False)))
    x = torch.randn(4, 26, 48)
    with torch.inference_mode():
        exact = layer.update(x, "default")
        usual = layer.update(x.bfloat16(), "default").float()
        base = nn.Linear(48, 144, bias=False)
        base.weight.zero_()
        layer.base_layer = base.bfloat16()
        folded = FoldedLayer(layer, torch.bfloat16)(x.bfloat16()).float()
    assert apart(folded, exact) < max(1.2 * apart(usual, exact), 0.006)


def test_other_adapters_are_not_folded() -> None:
    assert not is_foldable(layer_of(adapted(WaraConfig(r=2, activation="gelu"))))
    assert not is_foldable(layer_of(adapted(WaraConfig(r=2, activation="soft-threshold"))))
    model = adapted(WaraConfig(r=2, gains="none"))
    layer = layer_of(model)
    assert is_foldable(layer)
    with model.disable_adapter():
        assert not is_foldable(layer)
    model.merge_adapter()
    assert not is_foldable(layer)


def test_a_folded_adapter_follows_images_of_another_size() -> None:
    model = adapted(WaraConfig(r=2, init_weights=False), dynamic_img_size=True)
    layer = layer_of(model)
    for side in (40, 64):
        images = torch.randn(2, 3, side, side)
        with torch.inference_mode():
            expected = model(images)
            layer.forward = FoldedLayer(layer, torch.float32)  # type: ignore[method-assign]
            torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)
            del layer.forward


def test_tokens_of_another_grid_are_refused_as_by_the_layer() -> None:
    layer = layer_of(adapted(WaraConfig(r=2, init_weights=False)))
    with pytest.raises(Exception, match="made for 26 tokens"):
        FoldedLayer(layer, torch.float32)(torch.randn(1, 17, 48))
