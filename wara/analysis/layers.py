"""What a PEFT model says of itself: its method and the size of its patches."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from wara.tuner import AdaptedLayer
from wara.tuner.tiny import TinyWaraLinear


def method_of(layers: Mapping[str, AdaptedLayer]) -> str:
    """Return ``"wara"``, ``"tiny-wara"`` or ``"lora"``, after the first adapted layer."""
    first = next(iter(layers.values()))
    if first.transform is None:
        return "lora"
    return "tiny-wara" if isinstance(first.module, TinyWaraLinear) else "wara"


def patch_size_of(model: nn.Module) -> int | None:
    """Return the width of one token in pixels, from timm's ``patch_embed.patch_size``; None where nobody says."""
    for module in model.modules():
        size = getattr(getattr(module, "patch_embed", None), "patch_size", None)
        if size is not None:
            return int(size[-1]) if isinstance(size, tuple | list) else int(size)
    return None
