"""Large grids go through thin matrices: nothing of size N x N is made, and the numbers are the dense pair's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from wara.tuner import SubbandTransform, TinyWaraConfig, WaraConfig, subbands
from wara.tuner.grid import TokenGrid
from wara.tuner.layer import SubbandLayer, WaraLinear
from wara.tuner.matrices import DENSE_TOKENS
from wara.tuner.tiny import TinyWaraLinear
from wara.tuner.tokens import TokenTransform


class Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def _layer(config: Any, grid: TokenGrid, wide: int = 8) -> SubbandLayer:
    """Put an adapter around a linear layer of a few channels, as the model does."""
    torch.manual_seed(0)
    transform = SubbandTransform(grid[:2], config.wavelet, config.levels, config.mode)
    linear, path = nn.Linear(wide, wide), TokenTransform(grid, transform)
    layer: Any
    if isinstance(config, TinyWaraConfig):
        layer = TinyWaraLinear(linear)
        layer.set_adapter("default")
        layer.update_layer("default", config, path, 0, None)
    else:
        layer = WaraLinear(linear)
        layer.set_adapter("default")
        layer.update_layer("default", config, path)
    with torch.no_grad():
        for parameter in layer.wara_gain.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return layer  # type: ignore[no-any-return]


CONFIGS = [
    WaraConfig(r=2, levels=2, init_weights=False),
    WaraConfig(r=2, levels=6, wavelet="sym4", activation="soft-threshold", gains="subband-rank", init_weights=False),
    WaraConfig(r=2, levels=3, wavelet="bior4.4", mode="zero", activation="gelu", init_weights=False),
    TinyWaraConfig(r=2, u=3, levels=3, wavelet="db2", mode="periodization", init_weights=False),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.peft_type}-{c.wavelet}-{c.mode}")
def test_4096_tokens_make_no_tensor_of_tokens_by_tokens(config: Any) -> None:
    grid, wide = TokenGrid(64, 64, 5), 8
    with Largest() as largest:
        layer = _layer(config, grid, wide)
        x = torch.randn(1, grid.num_tokens, wide, requires_grad=True)
        layer(x).square().sum().backward()
        layer.double().float()

    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in layer.parameters() if p.requires_grad)
    # Tokens and channels, each coefficient's subband: the largest there is grows with N, not with N x N.
    coefficients = layer.wara_transform["default"].membership.numel()  # type: ignore[union-attr]
    assert largest.elements <= max(2 * grid.num_tokens * wide, coefficients)
    assert largest.elements < 64**4 / 50
    assert max(buffer.numel() for buffer in layer.buffers()) <= coefficients


def test_the_dense_matrices_of_a_large_grid_can_be_had_but_are_not_kept() -> None:
    transform = SubbandTransform((34, 36), "haar", 1)

    assert transform.separable
    assert transform.analysis.shape == (34 * 36, 34 * 36)
    torch.testing.assert_close(transform.synthesis @ transform.analysis, torch.eye(34 * 36), atol=1e-5, rtol=0)
    assert max(buffer.numel() for buffer in transform.buffers()) < 34 * 36 * 2


@pytest.mark.parametrize(("grid", "thin"), [((32, 32), False), ((32, 33), True)])
def test_grids_of_more_than_1024_tokens_take_thin_matrices(grid: tuple[int, int], thin: bool) -> None:
    assert DENSE_TOKENS == 1024
    assert SubbandTransform(grid, "haar", 1).separable is thin


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.peft_type}-{c.wavelet}-{c.mode}")
@pytest.mark.parametrize("grid", [TokenGrid(14, 14, 1), TokenGrid(11, 18, 5), TokenGrid(16, 16, 0)], ids=str)
def test_thin_matrices_give_the_outputs_and_gradients_of_the_dense_pair(
    config: Any, grid: TokenGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    if config.levels == 6:
        config = WaraConfig(**{**config.to_dict(), "levels": 3, "peft_type": None})
    elif grid.height % 2 and config.mode == "periodization":
        config = TinyWaraConfig(**{**config.to_dict(), "mode": "symmetric", "peft_type": None})
    results = []
    for dense_up_to in (DENSE_TOKENS, 0):
        monkeypatch.setattr(subbands, "DENSE_TOKENS", dense_up_to)
        layer = _layer(config, grid).double()
        assert layer.wara_transform["default"].subbands.separable is (dense_up_to == 0)  # type: ignore[union-attr]
        x = torch.randn(2, grid.num_tokens, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
        x.requires_grad_()
        output = layer(x)
        output.square().sum().backward()
        learned = {name: p.grad for name, p in layer.named_parameters() if p.requires_grad}
        results.append({"output": output.detach(), "x": x.grad, **learned})

    assert len(results[0]) > 3
    for name, expected in results[0].items():
        assert expected is not None and bool(expected.abs().sum() > 0), name
        torch.testing.assert_close(results[1][name], expected, atol=1e-9, rtol=1e-9)
