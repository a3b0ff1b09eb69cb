"""Which modules of a model are attention over its patches, by the names of their classes."""

from __future__ import annotations

import re

from torch import nn

# timm's, and what others are usually called.
_ATTENTION = re.compile(
    r"Attn|Attention|ParallelScalingBlock|^(MHSA|MHA|GPSA|XCA|SHSA|SHMA|LiteMLA|LambdaLayer|MultiQuery\w*|MultiHead\w*)$"
)
# Weights of channels, or of positions from their own channels: no position looks at another.
_OF_CHANNELS = re.compile(
    r"^(Split|SelectiveKernel|Coord|SimpleCoord|EfficientLocal|Strip|Channel|LightChannel|Spatial|LightSpatial|"
    r"Ce|Ca)Attn$|^(SE|Eca|Squeeze|Cbam)"
)


def attentions_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of a model in which positions of the image look at each other, by name.

    Weights of channels, as those of squeeze and excitation, are called attention too but are left out: no position
    looks at another there.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if name and _ATTENTION.search(type(module).__name__) and not _OF_CHANNELS.search(type(module).__name__)
    }


def made_of_convolutions(attentions: dict[str, nn.Module]) -> str | None:
    """Return the name of the first attention where none has a linear layer but some a convolution, else None."""
    if any(isinstance(part, nn.Linear) for module in attentions.values() for part in module.modules()):
        return None
    convolutions = (nn.Conv1d, nn.Conv2d)
    return next((n for n, m in attentions.items() if any(isinstance(p, convolutions) for p in m.modules())), None)
