"""Tiny-WaRA: the basis of the pretrained weight, projections from a seed, and vectors that layers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.wara.support import MakeVit
from tests.wara.tuner.methods import images, outlines, require_equal, snapshot
from wara.tuner import AdapterError, TinyWaraConfig, adapted_layers
from wara.tuner.tiny import TinyWaraLinear, projections, svd_basis


def tiny(base: nn.Module, **options: Any) -> peft.PeftModel:
    torch.manual_seed(1)
    config = TinyWaraConfig(**{"r": 4, "u": 5, "init_weights": False, **options})
    return peft.get_peft_model(base, config).eval()


def layers_of(model: nn.Module) -> list[TinyWaraLinear]:
    return [module for module in model.modules() if isinstance(module, TinyWaraLinear)]


def weight(out: int = 10, into: int = 7, seed: int = 0) -> Tensor:
    return torch.randn(out, into, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(10, 7), (7, 10), (6, 6)])
def test_the_basis_is_the_best_approximation_of_its_rank_split_evenly(shape: tuple[int, int]) -> None:
    w = weight(*shape)
    values = torch.linalg.svdvals(w)

    down, up = svd_basis(w, 3)

    assert down.shape == (3, shape[1]) and up.shape == (shape[0], 3)
    # Eckart-Young: what is left over has the norm of the values that were cut off.
    left_over = torch.linalg.vector_norm(w - up @ down)
    torch.testing.assert_close(left_over, torch.linalg.vector_norm(values[3:]), atol=1e-5, rtol=1e-5)
    for gram in (down @ down.T, up.T @ up):
        torch.testing.assert_close(gram, torch.diag(values[:3]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_basis_is_computed_in_float32_whatever_the_weight_is_kept_in(dtype: torch.dtype) -> None:
    kept = weight().to(dtype)

    found, expected = svd_basis(kept, 4), svd_basis(kept.float(), 4)

    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_low_precision_keeps_the_basis_in_float32(make_vit: MakeVit, dtype: torch.dtype) -> None:
    model = tiny(make_vit().to(dtype), init_weights=True)

    for layer in layers_of(model):
        down, up = svd_basis(layer.get_base_layer().weight.float(), 4)
        assert layer.wara_A["default"].dtype == torch.float32
        assert torch.equal(layer.wara_A["default"], down) and torch.equal(layer.wara_B["default"], up)
    exact = [projections(TinyWaraConfig(r=4, u=5), index) for index in range(2)]
    assert all(torch.equal(layer.wara_P["default"], p) for layer, p in zip(layers_of(model), exact, strict=True))


def test_the_basis_does_not_depend_on_the_signs_that_the_decomposition_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, svd = svd_basis(weight(), 5), torch.linalg.svd
    for signs in ([-1, 1, 1, -1, 1, -1, 1], [-1] * 7, [1, -1] * 3 + [1]):
        flips = torch.tensor(signs, dtype=torch.float32)

        def flipped(w: Tensor, full_matrices: bool, flips: Tensor = flips) -> tuple[Tensor, Tensor, Tensor]:
            left, values, right = svd(w, full_matrices=full_matrices)
            return left * flips, values, right * flips[:, None]

        monkeypatch.setattr(torch.linalg, "svd", flipped)
        found = svd_basis(weight(), 5)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)
    largest = expected[1].abs().argmax(dim=0)
    assert (expected[1][largest, torch.arange(5)] > 0).all()


def test_the_basis_is_the_same_each_time_and_leaves_the_weight_alone() -> None:
    w = weight()
    before = w.clone()

    first, second = svd_basis(w, 4), svd_basis(w, 4)

    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert torch.equal(w, before)


def test_a_weight_of_lower_rank_than_asked_for_gives_a_finite_basis() -> None:
    w = torch.outer(torch.arange(1.0, 7.0), torch.ones(5))

    for w_of_rank, most in ((w, 1), (torch.zeros(6, 5), 0)):
        down, up = svd_basis(w_of_rank, 4)
        assert torch.isfinite(down).all() and torch.isfinite(up).all()
        torch.testing.assert_close(up @ down, w_of_rank, atol=1e-5, rtol=1e-5)
        assert int((torch.linalg.svdvals(up @ down) > 1e-4).sum()) == most


def test_projections_are_those_of_their_seed_and_layer() -> None:
    config = TinyWaraConfig(r=4, u=5)

    assert torch.equal(projections(config, 2), projections(TinyWaraConfig(r=4, u=5), 2))
    assert not torch.equal(projections(config, 2), projections(config, 3))
    assert not torch.equal(projections(config, 2), projections(TinyWaraConfig(r=4, u=5, projection_seed=7), 2))
    assert torch.equal(projections(TinyWaraConfig(r=4, u=9), 2)[:5], projections(config, 2))  # a longer v goes on


def test_projections_do_not_depend_on_the_state_of_random_numbers_nor_change_it() -> None:
    config = TinyWaraConfig(r=4, u=5)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = projections(config, 0)

    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(projections(config, 0), first)


def test_gaussian_projections_have_a_frobenius_norm_of_about_one() -> None:
    drawn = projections(TinyWaraConfig(r=16, u=200), 0)

    assert float(drawn.std()) == pytest.approx(1 / 16, rel=0.02)
    assert float(drawn.mean()) == pytest.approx(0, abs=1e-3)
    assert float(torch.linalg.matrix_norm(drawn).mean()) == pytest.approx(1, rel=0.02)


def test_layers_have_projections_of_their_own_that_their_seed_gives_back(make_vit: MakeVit) -> None:
    first, again, other = (
        [layer.wara_P["default"] for layer in layers_of(tiny(make_vit(), projection_seed=seed))] for seed in (5, 5, 8)
    )

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("u", [1, 2, 16, 17, 40])
def test_any_number_of_coefficients_from_one_upward_mixes_as_many_projections(make_vit: MakeVit, u: int) -> None:
    model = tiny(make_vit(), u=u)
    for layer in layers_of(model):
        v, p = layer.wara_v["default"], layer.wara_P["default"]
        assert v.shape == (u,) and p.shape == (u, 4, 4)
        mixing = torch.stack([v[i] * p[i] for i in range(u)]).sum(dim=0)

        down, up = layer.factors("default")

        torch.testing.assert_close(down, mixing @ layer.wara_A["default"], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(up, layer.wara_B["default"] * 16 / 4)  # alpha / r
    assert sum(p.numel() for n, p in model.named_parameters() if "wara_v" in n) == 2 * u


@pytest.mark.parametrize("u", [1, 6, 16])
def test_unit_projections_learn_the_first_entries_of_the_matrix_of_lora_xs(make_vit: MakeVit, u: int) -> None:
    model = tiny(make_vit(), r=4, u=u, projection="unit", gains="none")
    for layer in layers_of(model):
        entries = torch.zeros(16)
        entries[:u] = layer.wara_v["default"].detach()
        matrix = entries.reshape(4, 4)  # row by row
        left, values, right = torch.linalg.svd(layer.get_base_layer().weight.detach(), full_matrices=False)
        # Signs of singular vectors are free in pairs; those of the layer have the largest entry of a left one positive.
        sign = left[:, :4].gather(0, left[:, :4].abs().argmax(dim=0, keepdim=True)).sign().squeeze(0)
        half = values[:4].sqrt() * sign
        x = torch.randn(2, 65, 24)

        expected = 16 / 4 * x @ (half[:, None] * right[:4]).T @ matrix.T @ (left[:, :4] * half).T

        torch.testing.assert_close(layer.update(x, "default"), expected.detach(), atol=1e-5, rtol=1e-4)


def test_more_unit_projections_than_the_matrix_has_entries_are_refused() -> None:
    with pytest.raises(AdapterError, match=r"u=17 is more than the r \* r = 16 numbers .* Use u=16 or less"):
        TinyWaraConfig(r=4, u=17, projection="unit")
    assert TinyWaraConfig(r=4, u=17).u == 17  # drawn ones may be as many as one likes


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_by_name_and_nothing_is_changed(make_vit: MakeVit, value: float) -> None:
    base = make_vit()
    with torch.no_grad():
        base.blocks[1].attn.proj.weight[0, 0] = value  # type: ignore[union-attr, index]
    layout = outlines(base)

    with pytest.raises(AdapterError, match=r"'blocks\.1\.attn\.proj'.* holds values that are not finite\. Use a sound"):
        peft.get_peft_model(base, TinyWaraConfig(r=4, target_modules=["qkv", "attn.proj"]))

    assert outlines(base) == layout


@pytest.mark.parametrize("stored", [True, False])
def test_basis_and_projections_are_stored_or_made_again(make_vit: MakeVit, tmp_path: Path, stored: bool) -> None:
    model = tiny(make_vit(), save_projection=stored, projection_seed=9)
    expected = model(images())
    model.save_pretrained(tmp_path)

    parts = {name.rsplit(".", 1)[-1] for name in load_file(tmp_path / "adapter_model.safetensors")}
    assert parts == {"wara_v", "wara_gain"} | ({"wara_A", "wara_B", "wara_P"} if stored else set())
    torch.manual_seed(77)
    again = peft.PeftModel.from_pretrained(make_vit(), tmp_path).eval()
    assert torch.equal(again(images()), expected)


def test_a_stored_basis_is_the_one_used_and_not_made_again(make_vit: MakeVit, tmp_path: Path) -> None:
    model = tiny(make_vit(), save_projection=True)
    with torch.no_grad():
        for layer in layers_of(model):
            layer.wara_A["default"] *= 2  # as if another machine's decomposition had been another
            layer.wara_P["default"] += 1
    expected = model(images())
    model.save_pretrained(tmp_path)

    assert torch.equal(peft.PeftModel.from_pretrained(make_vit(), tmp_path).eval()(images()), expected)


def vectors(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if "wara_v" in name}


@pytest.mark.parametrize(("share", "holders"), [(0.0, 4), (0.25, 3), (0.5, 2), (0.75, 1), (1.0, 1)])
def test_layers_share_as_many_vectors_as_the_tying_leaves(make_vit: MakeVit, share: float, holders: int) -> None:
    model = tiny(make_vit(depth=4), weight_tying=share)
    layers = layers_of(model)

    assert len(vectors(model)) == holders
    assert len({id(layer.vector("default")) for layer in layers}) == holders
    assert sum(p.numel() for p in vectors(model).values()) == holders * 5
    # Groups are runs of neighbours, and the first of a group holds its vector.
    held = ["default" in layer.wara_v for layer in layers]
    assert held[0] and sum(held) == holders
    for before, layer, holds in zip(layers[:-1], layers[1:], held[1:], strict=True):
        assert holds is (layer.vector("default") is not before.vector("default"))
    # Projections and gains stay a layer's own.
    assert len({float(layer.wara_P["default"].sum()) for layer in layers}) == 4
    assert len({id(layer.wara_gain["default"]) for layer in layers}) == 4


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_gradient_of_a_shared_vector_is_the_sum_over_its_layers(make_vit: MakeVit, share: float) -> None:
    tied, free = (tiny(make_vit(depth=4), weight_tying=value).double() for value in (share, 0.0))
    for mine, own in zip(layers_of(tied), layers_of(free), strict=True):
        with torch.no_grad():
            own.wara_v["default"].copy_(mine.vector("default"))

    outputs = [model(images().double()) for model in (tied, free)]
    torch.testing.assert_close(*outputs, atol=1e-12, rtol=1e-12)
    for output in outputs:
        output.square().sum().backward()

    expected: dict[int, Tensor] = {}
    for mine, own in zip(layers_of(tied), layers_of(free), strict=True):
        key, gradient = id(mine.vector("default")), own.wara_v["default"].grad
        assert gradient is not None
        expected[key] = expected.get(key, torch.zeros_like(gradient)) + gradient
    assert len(expected) == len(vectors(tied))
    for vector in vectors(tied).values():
        torch.testing.assert_close(vector.grad, expected[id(vector)], atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_shared_vectors_are_saved_once_and_shared_after_loading(
    make_vit: MakeVit, tmp_path: Path, share: float
) -> None:
    model = tiny(make_vit(depth=4), weight_tying=share)
    expected = model(images())
    model.save_pretrained(tmp_path)

    stored = [name for name in load_file(tmp_path / "adapter_model.safetensors") if name.endswith("wara_v")]
    again = peft.PeftModel.from_pretrained(make_vit(depth=4), tmp_path, is_trainable=True).eval()

    assert len(stored) == len(vectors(model)) == len(vectors(again))
    assert len({id(layer.vector("default")) for layer in layers_of(again)}) == len(stored)
    assert torch.equal(again(images()), expected)


def test_a_shared_vector_moves_every_layer_of_its_group_and_no_other(make_vit: MakeVit) -> None:
    model = tiny(make_vit(depth=4), weight_tying=0.5)
    before = {name: layer.B @ layer.A for name, layer in adapted_layers(model).items()}
    with torch.no_grad():
        next(iter(vectors(model).values())).mul_(2)

    for index, (name, layer) in enumerate(adapted_layers(model).items()):
        factor = 2 if index < 2 else 1
        torch.testing.assert_close(layer.B @ layer.A, factor * before[name], atol=1e-6, rtol=1e-5)


def test_deleting_an_adapter_with_shared_vectors_leaves_nothing_of_it_and_the_other_whole(make_vit: MakeVit) -> None:
    model = tiny(make_vit(depth=4), weight_tying=1.0)
    expected = model(images())
    before = snapshot(model)
    model.add_adapter("other", TinyWaraConfig(r=3, u=2, weight_tying=0.5, init_weights=False))
    assert len([name for name in vectors(model) if "other" in name]) == 2

    model.delete_adapter("other")

    require_equal(snapshot(model), before)
    assert all("other" not in layer._holder_of_v for layer in layers_of(model))
    assert torch.equal(model(images()), expected)


def test_tying_goes_over_the_layers_that_are_adapted(make_vit: MakeVit) -> None:
    model = tiny(make_vit(depth=4), weight_tying=1.0, layers_to_transform=[1, 3], target_modules=["qkv", "attn.proj"])

    assert len(layers_of(model)) == 4 and len(vectors(model)) == 1
    assert next(iter(vectors(model))).startswith("base_model.model.blocks.1.attn.qkv.")
