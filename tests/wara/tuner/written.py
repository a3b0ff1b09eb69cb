"""WaRA as it is written, for any grid: transform all channels, adapt every subband, transform back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wara.tuner import adapted_layers
from wara.tuner.layer import SubbandLayer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_wavelets import DWTForward, DWTInverse

Transforms = tuple[nn.Module, nn.Module]


def transforms(wavelet: str, levels: int, mode: str) -> Transforms:
    """Return pytorch_wavelets' own pair in float64: it makes its filters in the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return DWTForward(J=levels, wave=wavelet, mode=mode), DWTInverse(wave=wavelet, mode=mode)
    finally:
        torch.set_default_dtype(before)


def written_update(layer: SubbandLayer, x: Tensor, grid: tuple[int, int], prefix_tokens: int) -> Tensor:
    """Return what the adapter "default" of a layer adds, (B, P + N, in) -> (B, P + N, out), by the definition.

    Nothing of the library but the numbers of the adapter is used: the channels are all transformed, and A, activation,
    gain and B act in each subband.
    """
    down, up = (factor.double() for factor in layer.factors("default"))
    subbands: Any = layer.wara_transform["default"].subbands
    forward, inverse = transforms(subbands.wavelet, subbands.levels, subbands.mode)
    prefix, patches = x[:, :prefix_tokens].double(), x[:, prefix_tokens:].double()

    def adapter(band: Tensor, s: int) -> Tensor:  # (..., d) -> (..., e), of subband s
        z = F.linear(band, down)
        if layer.activation["default"] == "gelu":
            z = F.gelu(z)
        if layer.activation["default"] == "soft-threshold":
            limit = F.softplus(layer.wara_threshold["default"].double())[s]
            z = z.sign() * F.relu(z.abs() - limit)
        if "default" in layer.wara_gain:
            z = z * layer.wara_gain["default"].double()[s]
        return F.linear(z, up)

    low, high = forward(patches.transpose(1, 2).reshape(len(x), -1, *grid))
    low = adapter(low.movedim(1, -1), 0).movedim(-1, 1)
    levels = len(high)
    high = [
        torch.stack(
            [adapter(bands[:, :, i].movedim(1, -1), 1 + 3 * (levels - 1 - level) + i).movedim(-1, 1) for i in range(3)],
            dim=2,
        )
        for level, bands in enumerate(high)
    ]
    update = inverse((low, high))[..., : grid[0], : grid[1]].flatten(2).transpose(1, 2)
    return torch.cat([adapter(prefix, 0), update], dim=1)


@contextmanager
def passing(model: nn.Module) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Record what goes into each adapted layer and what its adapter adds, call by call, by the layer's name."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def recorder(name: str) -> Callable[..., None]:
        def record(module: SubbandLayer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.setdefault(name, []).append((inputs[0].detach(), (output - module.base_layer(inputs[0])).detach()))

        return record

    handles = [layer.module.register_forward_hook(recorder(name)) for name, layer in adapted_layers(model).items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def stirred(model: nn.Module, seed: int = 3) -> nn.Module:
    """Move gains and thresholds away from where they start, and put the model into float64 and evaluation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "wara_" in name:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.double().eval()
