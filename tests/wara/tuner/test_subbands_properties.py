"""What holds for every transform, whatever the grid, wavelet, depth and border: tried on random ones."""

from __future__ import annotations

import math
from typing import Any

import peft
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.wara.support import MakeVit
from tests.wara.tuner.methods import images, outlines, require_equal, snapshot
from tests.wara.tuner.written import stirred, written_update
from wara.tuner import AdapterError, SubbandTransform, TinyWaraConfig, WaraConfig, adapted_layers
from wara.tuner.grid import TokenGrid
from wara.tuner.layer import WaraLinear
from wara.tuner.matrices import MODES, coefficient_norms, max_levels
from wara.tuner.tokens import TokenTransform

WAVELETS = ("haar", "db2", "db3", "db4", "sym2", "sym3", "sym4", "bior1.3", "bior2.2", "bior4.4", "coif1")
quietly = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def keys(draw: st.DrawFn, largest: int = 12) -> tuple[tuple[int, int], str, int, str]:
    grid = draw(st.integers(2, largest)), draw(st.integers(2, largest))
    levels = draw(st.integers(1, max_levels(grid)))
    return grid, draw(st.sampled_from(WAVELETS)), levels, draw(st.sampled_from(MODES))


def made(key: tuple[tuple[int, int], str, int, str], **options: Any) -> SubbandTransform:
    """Return the transform in float64; what is refused is no example."""
    try:
        return SubbandTransform(*key, **options).double()
    except AdapterError:
        assume(False)
        raise


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(keys(), st.floats(-3, 3), st.integers(0, 99), st.booleans())
@quietly
def test_both_ways_are_linear_and_give_the_tokens_back(key: Any, factor: float, seed: int, thin: bool) -> None:
    transform = made(key, separable=thin)
    x, y = drawn(transform.num_tokens, 2, seed=seed), drawn(transform.num_tokens, 2, seed=seed + 1)
    c, d = transform.analyse(x), transform.analyse(y)

    torch.testing.assert_close(transform.analyse(factor * x + y), factor * c + d, atol=1e-10, rtol=1e-10)
    back = transform.synthesise(factor * c + d)
    torch.testing.assert_close(back, factor * x + y, atol=1e-5 * (1 + abs(factor)) * float(x.abs().max()), rtol=0)


@given(keys(), st.integers(0, 99))
@quietly
def test_the_transform_commutes_with_channel_maps(key: Any, seed: int) -> None:
    transform = made(key)
    tokens, down = drawn(transform.num_tokens, 6, seed=seed), drawn(3, 6, seed=seed + 1)

    torch.testing.assert_close(
        transform.analyse(tokens) @ down.T, transform.analyse(tokens @ down.T), atol=1e-10, rtol=1e-10
    )


@given(keys())
@quietly
def test_coefficients_are_products_with_the_matrix_and_gradients_with_its_transpose(key: Any) -> None:
    transform, thin = made(key), made(key, separable=True)
    tokens = drawn(transform.num_tokens, 2).requires_grad_()
    towards = drawn(transform.num_coefficients, 2, seed=1)
    for each in (transform, thin):
        coefficients = each.analyse(tokens)
        torch.testing.assert_close(coefficients, transform.analysis @ tokens, atol=1e-10, rtol=1e-10)
        (gradient,) = torch.autograd.grad((coefficients * towards).sum(), tokens)
        torch.testing.assert_close(gradient, transform.analysis.T @ towards, atol=1e-10, rtol=1e-10)
        # <W x, y> = <x, W^T y>
        assert float((coefficients * towards).sum().detach()) == pytest.approx(
            float((tokens * gradient).sum().detach())
        )


@given(keys())
@quietly
def test_bands_partition_the_coefficients_and_follow_from_the_grid(key: Any) -> None:
    grid, _, levels, mode = key
    transform = made(key)
    names = [f"A{levels}"] + [f"{kind}{level}" for level in range(levels, 0, -1) for kind in "HVD"]
    rows = [row for band in transform.band_slices for row in range(band.start, band.stop)]

    assert list(transform.band_names) == names and len(names) == 3 * levels + 1
    assert rows == list(range(transform.num_coefficients))
    assert [math.prod(shape) for shape in transform.band_shapes] == [s.stop - s.start for s in transform.band_slices]
    assert transform.num_coefficients >= transform.num_tokens
    assert transform.analysis.shape == (transform.num_coefficients, grid[0] * grid[1])
    assert transform.synthesis.shape == (grid[0] * grid[1], transform.num_coefficients)
    finest = transform.band_shapes[-1]
    if mode == "periodization":  # halves, rounded up
        assert finest == ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
    if key[1] == "haar":  # two taps, which reach nowhere beyond an even side
        assert finest == ((grid[0] + 1) // 2, (grid[1] + 1) // 2)


@given(keys(), st.integers(0, 3), st.integers(1, 4))
@quietly
def test_any_axes_in_front_pass_through(key: Any, batch: int, channels: int) -> None:
    transform = made(key)
    tokens = drawn(batch, 2, transform.num_tokens, channels)

    coefficients = transform.analyse(tokens)

    assert coefficients.shape == (batch, 2, transform.num_coefficients, channels)
    assert transform.synthesise(coefficients).shape == tokens.shape
    for i in range(batch):
        torch.testing.assert_close(coefficients[i, 1], transform.analyse(tokens[i, 1]), atol=1e-12, rtol=0)
    planes = transform.analyse_planes(tokens.movedim(-1, -2))
    torch.testing.assert_close(planes.movedim(-1, -2), coefficients, atol=1e-12, rtol=0)


@given(st.sampled_from(["haar", "db2", "db3", "db4", "sym2", "sym3", "sym4", "coif1"]), st.integers(1, 3),
       st.integers(1, 3), st.integers(0, 99))  # fmt: skip
@quietly
def test_energy_is_kept_by_orthogonal_wavelets_on_even_sides(wavelet: str, rows: int, columns: int, seed: int) -> None:
    grid = 8 * rows, 8 * columns
    transform = made((grid, wavelet, 1, "periodization"))
    tokens = drawn(transform.num_tokens, 3, seed=seed)
    coefficients = transform.analyse(tokens)

    assert transform.orthogonal and transform.num_coefficients == transform.num_tokens
    assert float(coefficients.square().sum()) == pytest.approx(float(tokens.square().sum()), rel=1e-9)
    torch.testing.assert_close(transform.analysis.T, transform.synthesis, atol=1e-9, rtol=0)
    torch.testing.assert_close(
        coefficient_norms(grid, wavelet, 1, "periodization"), torch.ones(transform.num_tokens).double(), atol=1e-9,
        rtol=0,
    )  # fmt: skip


@given(keys())
@quietly
def test_orthogonal_is_said_of_orthogonal_matrices_only(key: Any) -> None:
    transform = made(key)
    matrix = transform.analysis
    square = matrix.shape[0] == matrix.shape[1]
    distance = float((matrix @ matrix.T - torch.eye(len(matrix), dtype=torch.float64)).abs().max())

    assert transform.orthogonal == (square and distance < 1e-5)
    torch.testing.assert_close(coefficient_norms(*key), torch.linalg.vector_norm(matrix, dim=1), atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior2.2"])
def test_gradients_are_those_of_finite_differences(wavelet: str, thin: bool) -> None:
    transform = SubbandTransform((3, 4), wavelet, 2, separable=thin).double()
    tokens = drawn(1, 12, 2).requires_grad_()

    assert torch.autograd.gradcheck(transform.analyse, (tokens,))
    coefficients = transform.analyse(tokens).detach().requires_grad_()
    assert torch.autograd.gradcheck(transform.synthesise, (coefficients,))
    assert torch.autograd.gradgradcheck(lambda x: transform.analyse(x).square(), (tokens,))


def _layer(key: Any, prefix_tokens: int, wide: tuple[int, int], **options: Any) -> WaraLinear:
    grid, wavelet, levels, mode = key
    torch.manual_seed(0)
    config = WaraConfig(wavelet=wavelet, levels=levels, mode=mode, init_weights=False, **options)
    layer = WaraLinear(nn.Linear(*wide))
    layer.set_adapter("default")
    layer.update_layer("default", config, TokenTransform(TokenGrid(*grid, prefix_tokens), made(key)))
    return stirred(layer)  # type: ignore[return-value]


@given(keys(10), st.integers(0, 5), st.integers(1, 6), st.integers(6, 9), st.integers(6, 9), st.floats(-2, 2))
@quietly
def test_equal_gains_are_lora_on_every_token_of_any_shape(
    key: Any, prefix_tokens: int, rank: int, into: int, out: int, gain: float
) -> None:
    layer = _layer(key, prefix_tokens, (into, out), r=rank, wara_alpha=3)
    with torch.no_grad():
        layer.wara_gain["default"].fill_(gain)
    x = drawn(2, prefix_tokens + key[0][0] * key[0][1], into)
    down, up = layer.wara_A["default"], layer.wara_B["default"]

    expected = layer.base_layer(x) + 3 / rank * gain * x @ down.T @ up.T

    # The pair of transforms is the identity to 1e-5.
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        x @ (layer.base_layer.weight + layer.get_delta_weight("default")).T + layer.base_layer.bias, expected,
        atol=1e-9, rtol=1e-9,
    )  # fmt: skip


@given(keys(9), st.integers(0, 3), st.sampled_from(["none", "gelu", "soft-threshold"]),
       st.sampled_from(["none", "subband", "subband-rank"]))  # fmt: skip
@quietly
def test_any_layer_is_the_written_form(key: Any, prefix_tokens: int, activation: str, gains: str) -> None:
    layer = _layer(key, prefix_tokens, (6, 7), r=2, activation=activation, gains=gains)
    x = drawn(2, prefix_tokens + key[0][0] * key[0][1], 6)

    expected = written_update(layer, x, key[0], prefix_tokens)

    # Without gains and activation the layer leaves the pair out, which is the identity to 1e-5.
    close = 1e-4 if (activation, gains) == ("none", "none") else 1e-9
    torch.testing.assert_close(layer.update(x, "default"), expected, atol=close, rtol=1e-9)


REFUSED = [
    ({"wavelet": "bior4.4", "levels": 2, "mode": "periodization"}, r"does not reconstruct a 7 x 7 token grid: "
     r"largest error \d\.\de[-+]\d\d, allowed 1e-05\. Use mode='(\w+)'\."),
    ({"wavelet": "db4", "levels": 3, "mode": "reflect"}, r"cannot continue a 7 x 7 token grid far enough beyond its "
     r"border\. Use mode='(\w+)'\."),
]  # fmt: skip


@pytest.mark.parametrize("kind", [WaraConfig, TinyWaraConfig])
@pytest.mark.parametrize(("options", "said"), REFUSED, ids=["periodization", "reflect"])
def test_a_model_refuses_a_pair_that_does_not_reconstruct_and_takes_the_mode_that_is_named(
    make_vit: MakeVit, kind: Any, options: dict[str, Any], said: str
) -> None:
    base = make_vit(img_size=28)  # 7 x 7
    before, layout = snapshot(base), outlines(base)

    with pytest.raises(AdapterError, match=r"^Layer 'blocks\.0\.attn\.qkv': .*" + said) as refused:
        peft.get_peft_model(base, kind(r=3, **options))

    require_equal(snapshot(base), before)
    assert outlines(base) == layout
    mode = str(refused.value).rsplit("'", 2)[1]
    model = peft.get_peft_model(base, kind(r=3, **{**options, "mode": mode})).eval()
    assert torch.equal(model(images()[:, :, :28, :28]), make_vit(img_size=28)(images()[:, :, :28, :28]))
    assert {layer.transform.mode for layer in adapted_layers(model).values()} == {mode}  # type: ignore[union-attr]
