"""The function that a WaRA layer computes, against its written form and against LoRA."""

from __future__ import annotations

import warnings
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.wara.support import MakeVit
from wara.tuner import AdapterError, TinyWaraConfig, WaraConfig, adapted_layers
from wara.tuner.layer import WaraLinear
from wara.tuner.tiny import TinyWaraLinear

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_wavelets import DWTForward, DWTInverse


def adapted(model: nn.Module, **options: Any) -> nn.Module:
    return peft.get_peft_model(model, WaraConfig(init_weights=False, **options)).eval()


def first_layer(model: nn.Module) -> WaraLinear:
    return next(m for m in model.modules() if isinstance(m, WaraLinear))


def written_form(layer: WaraLinear, x: Tensor) -> Tensor:
    """WaRA as it is written: DWT of the d-channel tokens, adapter in every subband, inverse DWT."""
    a, b = layer.wara_A["default"], layer.wara_B["default"] * layer.scaling["default"]
    gain = layer.wara_gain["default"]
    rows, columns, prefix_tokens = layer.token_grid["default"]
    prefix, patches = x[:, :prefix_tokens], x[:, prefix_tokens:]
    images = patches.transpose(1, 2).reshape(len(x), -1, rows, columns)
    low, high = _double(DWTForward(J=2, wave="haar", mode="symmetric"))(images)

    def adapter(band: Tensor, s: int) -> Tensor:  # (B, d, h, w) -> (B, e, h, w)
        z = torch.einsum("bdhw,rd->brhw", band, a)
        return torch.einsum("brhw,er->behw", z * gain[s].reshape(-1, 1, 1), b)

    new_low = adapter(low, 0)
    new_high = [
        torch.stack([adapter(high[level][:, :, i], 1 + 3 * (1 - level) + i) for i in range(3)], dim=2)
        for level in (0, 1)
    ]
    update = _double(DWTInverse(wave="haar", mode="symmetric"))((new_low, new_high))
    update = update[..., :rows, :columns].flatten(2).transpose(1, 2)
    prefix_update = (F.linear(prefix, a) * gain[0]) @ b.T
    return layer.get_base_layer()(x) + torch.cat([prefix_update, update], dim=1)


def _double(module: nn.Module) -> nn.Module:
    """Haar's filters are +-sqrt(1/2); pytorch_wavelets keeps them in float32 only."""
    module = module.double()
    for buffer in module.buffers():
        buffer.copy_(torch.sign(buffer) * 0.5**0.5)
    return module


@pytest.mark.parametrize("gains", ["subband", "subband-rank"])
def test_the_layer_equals_the_written_form_on_all_channels(make_vit: MakeVit, gains: str) -> None:
    layer = first_layer(adapted(make_vit(img_size=28), gains=gains, levels=2).double())  # 7 x 7: odd
    with torch.no_grad():
        layer.wara_gain["default"].uniform_(-1, 2)
    x = torch.randn(2, 1 + 49, 24, dtype=torch.float64)

    torch.testing.assert_close(layer(x), written_form(layer, x), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("value", [1.0, 0.7])
def test_equal_gains_make_it_exactly_lora_on_every_token(make_vit: MakeVit, value: float) -> None:
    model = adapted(make_vit(), r=4, wara_alpha=8, wavelet="db2").double()
    lora = peft.get_peft_model(make_vit(), peft.LoraConfig(r=4, lora_alpha=8, target_modules=["qkv"])).double().eval()
    for ours, theirs in zip(adapted_layers(model).values(), adapted_layers(lora).values(), strict=True):
        with torch.no_grad():
            ours.module.wara_gain["default"].fill_(value)
            theirs.module.lora_A["default"].weight.copy_(ours.module.wara_A["default"])
            theirs.module.lora_B["default"].weight.copy_(ours.module.wara_B["default"] * value)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)

    torch.testing.assert_close(model(images), lora(images), atol=1e-10, rtol=1e-10)


def test_without_gains_and_activation_the_transform_is_left_out_and_nothing_changes(make_vit: MakeVit) -> None:
    plain, ones = adapted(make_vit(), gains="none").double(), adapted(make_vit(), gains="subband").double()
    for a, b in zip(adapted_layers(plain).values(), adapted_layers(ones).values(), strict=True):
        a.module.wara_A["default"].data.copy_(b.module.wara_A["default"])
        a.module.wara_B["default"].data.copy_(b.module.wara_B["default"])
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)

    torch.testing.assert_close(plain(images), ones(images), atol=1e-10, rtol=1e-10)


def test_a_gain_of_zero_takes_a_subband_out_of_the_update(make_vit: MakeVit) -> None:
    layer = first_layer(adapted(make_vit(), levels=1))
    transform = layer.wara_transform["default"].subbands
    with torch.no_grad():
        layer.wara_gain["default"][3] = 0
    update = layer.update(torch.randn(2, 65, 24), "default")[:, 1:].detach()

    energy = [float(transform.analyse(update)[:, s].square().sum()) for s in transform.band_slices]

    assert energy[3] == pytest.approx(0, abs=1e-8)
    assert min(energy[:3]) > 1e-6


def test_shrinkage_takes_small_coefficients_out_and_keeps_large_ones(make_vit: MakeVit) -> None:
    layer = first_layer(adapted(make_vit(), activation="soft-threshold", gains="none"))
    with torch.no_grad():
        layer.wara_threshold["default"].fill_(2.0)
    limit = float(F.softplus(torch.tensor(2.0)))
    path = layer.wara_transform["default"]
    c = torch.zeros(3, path.membership.shape[1])
    c[:, 7] = torch.tensor([0.5 * limit, limit + 3.0, -limit - 1.0])

    shrunk = layer._shrink(c, path, "default")

    torch.testing.assert_close(shrunk[:, 7], torch.tensor([0.0, 3.0, -1.0]))


def test_gelu_acts_on_coefficients_and_on_prefix_tokens(make_vit: MakeVit) -> None:
    layer = first_layer(adapted(make_vit(), activation="gelu", gains="none"))
    x = torch.randn(2, 65, 24)
    down, up = layer.factors("default")
    transform = layer.wara_transform["default"].subbands
    z = x @ down.T
    patches = transform.synthesise(F.gelu(transform.analyse(z[:, 1:])))

    expected = torch.cat([F.gelu(z[:, :1]), patches], dim=1) @ up.T

    torch.testing.assert_close(layer.update(x, "default"), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 64, 24), (2, 66, 24), (2, 24), (2, 8, 8, 24)])
def test_tokens_of_another_grid_are_an_error_that_names_both_numbers(make_vit: MakeVit, shape: tuple[int, ...]) -> None:
    layer = first_layer(adapted(make_vit()))
    with pytest.raises(AdapterError, match=r"made for 65 tokens an image \(1 prefix \+ 8 x 8\)") as caught:
        layer(torch.randn(shape))
    assert str(shape[:-1]) in str(caught.value)


def test_nhwc_tokens_are_taken_where_there_is_no_prefix(make_vit: MakeVit) -> None:
    layer = first_layer(adapted(make_vit(class_token=False, global_pool="avg")))
    x = torch.randn(2, 64, 24)

    torch.testing.assert_close(layer(x.reshape(2, 8, 8, 24)).reshape(2, 64, -1), layer(x))


def test_tiny_wara_uses_the_leading_singular_directions_of_the_weight(make_vit: MakeVit) -> None:
    model = peft.get_peft_model(make_vit(), TinyWaraConfig(r=8, u=5))
    layer = next(m for m in model.modules() if isinstance(m, TinyWaraLinear))
    weight = layer.get_base_layer().weight.detach()
    left, singular, right = torch.linalg.svd(weight, full_matrices=False)

    truncated = (left[:, :8] * singular[:8]) @ right[:8]

    torch.testing.assert_close(layer.wara_B["default"] @ layer.wara_A["default"], truncated, atol=1e-5, rtol=1e-4)


def test_tiny_wara_mixes_fixed_projections_that_differ_by_layer(make_vit: MakeVit) -> None:
    model = peft.get_peft_model(make_vit(), TinyWaraConfig(r=8, u=5, wara_alpha=8, init_weights=False))
    first, second = (m for m in model.modules() if isinstance(m, TinyWaraLinear))
    v, p = first.wara_v["default"], first.wara_P["default"]

    down, up = first.factors("default")
    expected = first.wara_B["default"] @ sum(v[i] * p[i] for i in range(5)) @ first.wara_A["default"]

    torch.testing.assert_close(up @ down, expected, atol=1e-6, rtol=1e-4)
    assert not torch.equal(p, second.wara_P["default"])


@pytest.mark.parametrize("grad", [True, False])
def test_what_a_hook_took_from_the_base_layer_stays_as_it_was(make_vit: MakeVit, grad: bool) -> None:
    layer = first_layer(adapted(make_vit(), r=2))
    x = torch.randn(2, tokens_of(layer), layer.in_features)
    expected = layer.get_base_layer()(x)
    taken: list[Tensor] = []
    handle = layer.get_base_layer().register_forward_hook(lambda module, inputs, output: taken.append(output))

    with torch.set_grad_enabled(grad):
        hooked = layer(x)
    handle.remove()

    assert torch.equal(taken[0], expected)
    torch.testing.assert_close(layer(x), hooked)


def tokens_of(layer: WaraLinear) -> int:
    return layer.token_grid["default"].num_tokens
