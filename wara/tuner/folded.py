"""An adapter whose training is over: the path of its tokens through the subbands becomes one product."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from wara.tuner.layer import SubbandLayer
from wara.tuner.tokens import TokenTransform


class FoldedLayer:
    """`SubbandLayer.forward` with the gains folded into one operator on the tokens, and the factors rounded once.

    Analysis, gains and synthesis are linear, so together they are one matrix on an image's tokens: (T, T) for gains a
    subband, (r, T, T) for gains a subband and rank.

    Args:
        layer: see `is_foldable`; what is done to its adapter afterwards is not seen.
        dtype: to compute in.
    """

    def __init__(self, layer: SubbandLayer, dtype: torch.dtype) -> None:
        self._layer = layer
        [adapter] = layer.active_adapters
        self._rank, self._grid = layer.r[adapter], layer.token_grid[adapter]
        down, up = layer.factors(adapter)
        self._down, self._up = down.detach().to(dtype), up.detach().to(dtype).T
        self._mixing: Tensor | None = None
        self._path = path = cast(TokenTransform, layer.wara_transform[adapter])
        if adapter in layer.wara_gain:
            gain = path.spread(layer.wara_gain[adapter].detach().float(), torch.float32)  # (1 or r, K)
            tokens = torch.eye(self._grid.num_tokens, device=gain.device)
            mixed = [path.synthesise(path.analyse(tokens) * of_rank) for of_rank in gain]
            self._mixing = torch.stack(mixed).to(dtype)

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output with its adapter: (B, T, in) -> (B, T, out)."""
        layer = self._layer
        if self._path.at_present() is not self._path:  # images of another size
            return type(layer).forward(layer, x, *args, **kwargs)
        layer._require_grid(x, self._grid)
        output = layer._base(x, *args, **kwargs)
        flat = output.reshape(-1, layer.out_features)
        z = self._down.to(flat.dtype) @ x.to(flat.dtype).reshape(-1, layer.in_features).T  # (r, B * T)
        if self._mixing is not None:
            mixing = self._mixing.to(flat.dtype)
            z = z.view(len(mixing), -1, self._grid.num_tokens) @ mixing
        rows, up = z.reshape(self._rank, -1).T.contiguous(), self._up.to(flat.dtype)
        if layer._output_is_ours() and output.is_contiguous():
            flat.addmm_(rows, up)
            return output
        return torch.addmm(flat, rows, up).reshape(output.shape)


def is_foldable(layer: SubbandLayer) -> bool:
    """Whether a layer has one adapter in use whose update is linear, on a grid that is not large."""
    if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return False
    [adapter] = layer.active_adapters
    if adapter not in layer.r or layer.activation[adapter] != "none":
        return False
    return not cast(TokenTransform, layer.wara_transform[adapter]).subbands.separable
