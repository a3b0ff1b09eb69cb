"""A view of the adapted layers of a PEFT model, the same for WaRA, Tiny-WaRA and PEFT's LoRA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from wara.tuner.grid import token_grid
from wara.tuner.layer import SubbandLayer
from wara.tuner.subbands import SubbandTransform
from wara.tuner.tokens import TokenTransform


@dataclass(frozen=True)
class AdaptedLayer:
    """One adapted linear layer.

    Attributes:
        name: its name in the model, e.g. ``"blocks.3.attn.qkv"``.
        module: the module to put a hook on; its first input is the tokens (B, P + N, in).
        base_weight: the pretrained weight (out, in).
        A: down-projection (r, in).
        B: up-projection (out, r), scaling folded in; the update of the weight is B @ A where gains are one.
        gains: (S, r) gains of the subbands, or None where there are none.
        grid: rows and columns of the patch tokens.
        num_prefix_tokens: P, tokens in front of the grid.
        transform: the adapter's transform, None for LoRA.
        adapter: the name of the adapter looked at.
    """

    name: str
    module: nn.Module
    base_weight: Tensor
    A: Tensor
    B: Tensor
    gains: Tensor | None
    grid: tuple[int, int]
    num_prefix_tokens: int
    transform: SubbandTransform | None
    adapter: str

    def update(self, x: Tensor) -> Tensor:
        """Return what the adapter adds to the layer's output: (B, P + N, in) -> (B, P + N, out)."""
        if isinstance(self.module, SubbandLayer):
            return self.module.update(x, self.adapter)
        return F.linear(F.linear(x.to(self.A.dtype), self.A), self.B)


def adapted_layers(model: nn.Module, adapter: str | None = None) -> dict[str, AdaptedLayer]:
    """Return the adapted linear layers of a PEFT model by name, in the model's order.

    Args:
        model: a PEFT model with WaRA, Tiny-WaRA or LoRA layers; empty for a model without adapters.
        adapter: the adapter to look at; None takes the active one.
    """
    found: dict[str, AdaptedLayer] = {}
    base = cast(PeftModel, model).get_base_model() if isinstance(model, PeftModel) else model
    for name, module in base.named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        chosen = adapter or (module.active_adapters[0] if module.active_adapters else None)
        if chosen is None:
            continue
        if isinstance(module, SubbandLayer) and chosen in module.r:
            found[name] = _view_of_subband_layer(name, module, chosen)
        elif isinstance(module, LoraLinear) and chosen in module.lora_A:
            grid = token_grid(base)
            found[name] = AdaptedLayer(
                name=name,
                module=module,
                base_weight=module.get_base_layer().weight.detach(),
                A=module.lora_A[chosen].weight.detach(),
                B=module.lora_B[chosen].weight.detach() * module.scaling[chosen],
                gains=None,
                grid=grid[:2],
                num_prefix_tokens=grid.num_prefix_tokens,
                transform=None,
                adapter=chosen,
            )
    return found


def _view_of_subband_layer(name: str, module: SubbandLayer, adapter: str) -> AdaptedLayer:
    down, up = module.factors(adapter)
    gains: Tensor | None = None
    if adapter in module.wara_gain:
        gains = module.wara_gain[adapter].detach()
        if gains.dim() == 1:
            gains = gains[:, None].expand(-1, module.r[adapter])
    path = module.wara_transform[adapter]
    assert isinstance(path, TokenTransform)
    grid = module.token_grid[adapter]
    return AdaptedLayer(
        name=name,
        module=module,
        base_weight=module.get_base_layer().weight.detach(),
        A=down.detach(),
        B=up.detach(),
        gains=gains,
        grid=grid[:2],
        num_prefix_tokens=grid.num_prefix_tokens,
        transform=path.subbands,
        adapter=adapter,
    )
