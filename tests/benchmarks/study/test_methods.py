"""Every base of the study starts as the backbone, learns, and leaves it alone; the study's own forms do as told."""

from __future__ import annotations

import copy
import functools
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F

from benchmarks.study.adapters import Beside, ConvMix, WaveletMix
from benchmarks.study.methods import BASES, build, parameter_groups
from benchmarks.study.plan import Cell, study_of
from wara.backbones import Backbone, load_backbone
from wara.errors import InputError
from wara.training.class_token import class_token_only
from wara.training.methods import trained_state
from wara.tuner import SubbandTransform, TokenGrid, WaraConfig
from wara.tuner.readout import readout_of
from wara.tuner.tokens import TokenTransform

GRID = TokenGrid(4, 4, 1)
OPTIONS: dict[str, dict[str, Any]] = {"tinylora": {"u": 8}, "vera": {"r": 16}, "tiny-wara": {"u": 8}}
FORMS: dict[str, dict[str, Any]] = {
    "gates": {"activation": "gated-gelu", "prefix": "plain"},
    "residual": {"activation": "residual-gelu", "gain_init": [1, 0], "gains": "subband-rank"},
    "shrink": {"activation": "soft-threshold", "prefix": "none"},
    "gelu": {"activation": "gelu"},
    "coarse": {"band_ranks": {"A": 4, "2": 2, "1": 1}},
    "apart": {"band_ranks": {"A": 2, "2": 1, "1": 1}, "apart": True},
    "depth": {"by_depth": [{"levels": 1, "bands": ["A", 1]}, {"levels": 2, "bands": ["A"]}]},
    "class": {"class_statistics": True},
    "halves": {"halves": True, "rank_factor": 2},
    "places": {"targets": ["proj", "fc1", "fc2"]},
    "beside": {"targets": ["block"]},
    "parts": {"targets": ["attn", "mlp"]},
}


def cell_of(base: str, options: dict[str, Any] | None = None, **more: Any) -> Cell:
    method = {"name": base, "base": base, "options": options or {}, **more}
    study = study_of("small", {
        "methods": [method], "data": {"demo": {"folder": "demo"}}, "ranks": [4], "sizes": [10], "seeds": [0],
        "protocol": {"backbone": "vit_tiny_untrained", "image_size": 64},
    })  # fmt: skip
    return next(study.groups("demo", 10))


@functools.cache
def made() -> Backbone:
    torch.manual_seed(0)
    return load_backbone("vit_tiny_untrained", 2, image_size=64)


def fresh() -> Backbone:
    return copy.deepcopy(made())


@functools.cache
def images() -> torch.Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@functools.cache
def plain_answers() -> torch.Tensor:
    with torch.no_grad():
        answers: torch.Tensor = made().model(images())
    return answers


CASES = [(base, OPTIONS.get(base, {})) for base in BASES] + [("wavelet", options) for options in FORMS.values()]
NAMES = [*BASES, *FORMS]


@pytest.mark.parametrize(("base", "options"), CASES, ids=NAMES)
def test_every_method_starts_as_the_backbone_and_learns_without_touching_it(base: str, options: Any) -> None:
    backbone = fresh()
    before = {name: parameter.detach().clone() for name, parameter in backbone.model.named_parameters()}
    cell = cell_of(base, options)
    torch.manual_seed(2)
    model = build(cell, backbone)
    with torch.no_grad():
        assert torch.allclose(model(images()), plain_answers(), atol=1e-4)
    groups = parameter_groups(model, backbone, cell)
    first = trained_state(model)
    optimiser = torch.optim.Adam([{"params": group["params"], "lr": 2e-4} for group in groups])
    losses = []
    for _ in range(3):
        optimiser.zero_grad()
        with class_token_only(model):
            loss = F.cross_entropy(model(images()), torch.arange(4) % 2)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert [name for name, tensor in trained_state(model).items() if torch.equal(tensor, first[name])] == []
    if base != "full":
        kept = [p for name, p in model.named_parameters() if not p.requires_grad]
        assert all(any(torch.equal(p, old) for old in before.values() if old.shape == p.shape) for p in kept)


def test_without_a_middle_an_update_is_that_of_lora() -> None:
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=["0"])
    lora = peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(6, 8)), config)
    layer: Any = lora.get_submodule("base_model.model.0")
    mine = Beside(layer.base_layer, 6, 8, 3, None)
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
        mine.down.copy_(layer.lora_A["default"].weight)
        mine.up.copy_(layer.lora_B["default"].weight)
    x = torch.randn(2, 17, 6)
    assert torch.allclose(mine(x), layer(x), atol=1e-6)


@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_the_wavelet_form_is_the_librarys_wara(activation: str) -> None:
    mine, theirs = fresh(), fresh()
    ours = build(cell_of("wavelet", {"activation": activation}), mine)
    peft_model = peft.get_peft_model(
        theirs.model, WaraConfig(r=4, wara_alpha=8, activation=activation, target_modules=["qkv"])
    )
    for name, layer in ((n, m) for n, m in ours.named_modules() if isinstance(m, Beside)):
        other: Any = peft_model.get_submodule(f"base_model.model.{name}")
        with torch.no_grad():
            other.wara_B["default"].normal_()
            other.wara_gain["default"].uniform_(0, 2)
            layer.down.copy_(other.wara_A["default"])
            layer.up.copy_(other.wara_B["default"])
            mix: Any = layer.mix
            mix.gain.copy_(other.wara_gain["default"])
    with torch.no_grad():
        assert torch.allclose(ours(images()), peft_model(images()), atol=1e-4)


def test_the_convolution_sees_neighbours_and_leaves_prefix_tokens_alone() -> None:
    mix = ConvMix(GRID, 3)
    z = torch.randn(3, 2, 17)
    assert torch.equal(mix(z), z)  # the gate is shut at first
    with torch.no_grad():
        mix.gate.fill_(1)
        mix.conv.weight.fill_(1)
    out = mix(z) - z
    assert torch.equal(out[..., 0], torch.zeros(3, 2))
    around = z[..., 1:].reshape(3, 2, 4, 4)[:, :, 0:3, 1:4].sum((-1, -2))
    assert torch.allclose(out[..., 1 + 4 * 1 + 2], around, atol=1e-5)


def path() -> TokenTransform:
    return TokenTransform(GRID, SubbandTransform((4, 4), "haar", 2))


def test_a_scale_that_is_shut_out_does_not_pass_and_prefix_tokens_may_be_left_alone() -> None:
    z = torch.randn(4, 2, 17)
    only = WaveletMix(path(), 4, bands=["A"], prefix="none")(z)
    assert torch.equal(only[..., 0], torch.zeros(4, 2))
    assert torch.allclose(only[..., 1:], z[..., 1:].mean(-1, keepdim=True).expand(4, 2, 16), atol=1e-5)
    plain = WaveletMix(path(), 4, activation="gelu", prefix="plain")(z)
    assert torch.equal(plain[..., 0], z[..., 0])


def test_ranks_of_scales_shut_out_the_other_channels() -> None:
    z = torch.randn(4, 2, 17)
    apart = WaveletMix(path(), 4, band_ranks={"A": 2, "2": 1, "1": 1}, apart=True, prefix="plain")(z)
    means = z[..., 1:].mean(-1)
    assert torch.allclose(apart[:2, :, 1:].mean(-1), means[:2], atol=1e-5)
    assert torch.allclose(apart[2:, :, 1:].mean(-1), torch.zeros(2, 2), atol=1e-5)
    with pytest.raises(InputError, match="ranks of the scales"):
        WaveletMix(path(), 4, band_ranks={"A": 2, "2": 1, "1": 2}, apart=True)


def test_statistics_of_subbands_reach_the_class_token_alone() -> None:
    mix, z = WaveletMix(path(), 4, class_statistics=True), torch.randn(4, 2, 17)
    assert torch.allclose(mix(z), z, atol=1e-5)
    with torch.no_grad():
        assert mix.statistics is not None
        mix.statistics[0] = 1  # the approximation: one coefficient, four times the mean
    change = mix(z) - z
    assert torch.allclose(change[..., 0], 4 * z[..., 1:].mean(-1).abs(), atol=1e-4)
    assert torch.allclose(change[..., 1:], torch.zeros(4, 2, 16), atol=1e-5)


def test_halves_of_the_feature_axis_are_a_weight_of_twice_the_rank() -> None:
    base = torch.nn.Linear(6, 8)
    layer = Beside(base, 6, 8, 2, None, halves=True)
    with torch.no_grad():
        layer.up.normal_()
        assert layer.half_gain is not None
        layer.half_gain.copy_(torch.tensor([1.0, 0.5]))
        weight = (layer(torch.eye(6)[None]) - base(torch.eye(6)[None]))[0].T
        x = torch.randn(3, 5, 6)
        assert torch.allclose(layer(x) - base(x), x @ weight.T, atol=1e-5)
    assert torch.linalg.matrix_rank(weight) == 4


def test_an_adapter_that_looks_at_the_grid_gets_every_token_in_the_last_block() -> None:
    backbone = fresh()
    model = build(cell_of("wavelet", {"targets": ["proj"]}), backbone)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".up"):
                parameter.normal_()
        whole = model(images())
        with class_token_only(model):
            assert torch.equal(model(images()), whole)


def test_gains_and_b_have_rates_of_their_own_and_gains_are_not_decayed() -> None:
    cell = cell_of("wara", {"gains": "subband-rank", "gain_init": [1, 0]}, role_rates={"wara_B": 4, "wara_gain": 10})
    backbone = fresh()
    model = build(cell, backbone)
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in parameter_groups(model, backbone, cell) for p in g["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = 4 if "wara_B" in name else 10 if "wara_gain" in name else 1
            decay = 0.0 if "wara_gain" in name or parameter.dim() == 1 else 0.01
            assert rates[id(parameter)] == pytest.approx((1e-3 * factor, decay))
            if "wara_gain" in name:
                assert parameter[0].eq(1).all() and parameter[1:].eq(0).all()


def test_the_head_may_have_a_multiple_of_its_own_step_size() -> None:
    cell, backbone = cell_of("tiny-wara", role_rates={"head": 3}), fresh()
    model = build(cell, backbone)
    rates = {id(p): group["lr"] for group in parameter_groups(model, backbone, cell) for p in group["params"]}
    found = {("head" in name): rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert found == {True: pytest.approx(3 * cell.protocol.head_rate), False: cell.rate}


def test_options_that_no_method_takes_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be built"):
        build(cell_of("lora", {"rang": 3}), fresh())
    with pytest.raises(InputError, match="cannot be built"):
        build(cell_of("conv", {"levels": 3, "gains": "none"}), fresh())
    cell, backbone = cell_of("lora", role_rates={"wara_gain": 10}), fresh()
    model = build(cell, backbone)
    with pytest.raises(InputError, match="trains nothing of this name"):
        parameter_groups(model, backbone, cell)


@pytest.mark.parametrize("base", ["lora", "wara"])
def test_an_adapter_beside_a_readout_goes_into_the_blocks_that_are_named(base: str) -> None:
    model = build(cell_of(base, {"readout": True, "layers_to_transform": [2, 3]}), fresh())
    trained = [name for name, p in model.named_parameters() if p.requires_grad and "head" not in name]
    assert {name.partition("blocks.")[2][0] for name in trained} == {"2", "3"}
    assert readout_of(model) is not None
