"""Patch embedding of pixels as they are stored: normalising them is part of its weights, and they are read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

# Pixels less this are whole numbers of eight bits, all of which bfloat16 holds exactly, and most are small.
CENTRE = 128


def centred(pixels: Tensor) -> Tensor:
    """Return uint8 pixels less `CENTRE` as `PixelPatches` takes them, int8."""
    return (pixels ^ CENTRE).view(torch.int8)


class PixelPatches:
    """`PatchEmbed.forward` for pixels from `centred`, (b, 3, S, S); for all else as it was.

    A convolution over a normalised image of float32 takes a pass each to subtract, to divide, to round and to put
    patches in order. Here the last alone is left. Weights are rounded where autocast rounds them; pixels are not.

    Args:
        embed: see `is_plain`.
        mean: of pixels in 0..1, a channel each.
        std: likewise.
    """

    def __init__(self, embed: PatchEmbed, mean: Sequence[float], std: Sequence[float]) -> None:
        self._embed, self._patch = embed, embed.patch_size
        weight = embed.proj.weight.detach().float() / (torch.tensor(std).view(1, 3, 1, 1) * 255)
        offset = CENTRE - torch.tensor(mean).view(1, 3, 1, 1) * 255
        bias = (weight * offset).sum(dim=(1, 2, 3))
        if embed.proj.bias is not None:
            bias = bias + embed.proj.bias.detach().float()
        self._bias = bias.to(torch.bfloat16)
        # A patch row by row, the channels of a pixel beside each other, as images are decoded.
        self._weight = weight.permute(0, 2, 3, 1).flatten(1).to(torch.bfloat16)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the tokens of images: (b, c, S, S) -> (b, N, d) bfloat16.

        Raises:
            ValueError: pixels of another size than the model's.
        """
        if x.dtype != torch.int8:
            return cast(Tensor, PatchEmbed.forward(self._embed, x))
        images, channels, *sides = x.shape
        if tuple(sides) != tuple(cast(tuple[int, int], self._embed.img_size)):
            raise ValueError(f"images of {sides} pixels for a patch embedding of {self._embed.img_size}")
        height, width = (side // patch for side, patch in zip(sides, self._patch, strict=True))
        parts = x.reshape(images, channels, height, self._patch[0], width, self._patch[1])
        parts = parts.permute(0, 2, 4, 3, 5, 1)
        rows = torch.empty(parts.shape, dtype=torch.bfloat16).copy_(parts).view(images * height * width, -1)
        found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")
        return found.view(images, height * width, -1)


def is_plain(embed: nn.Module) -> bool:
    """Whether `PixelPatches` can stand for a module: timm's own patch embedding, frozen, nothing padded or normed."""
    if type(embed) is not PatchEmbed:
        return False
    some: Any = embed
    convolution = some.proj
    return (
        type(convolution) is nn.Conv2d
        and not any(parameter.requires_grad for parameter in some.parameters())
        and convolution.in_channels == 3
        and convolution.groups == 1
        and convolution.stride == convolution.kernel_size == tuple(some.patch_size)
        and convolution.padding == (0, 0)
        and convolution.dilation == (1, 1)
        and isinstance(some.norm, nn.Identity)
        and some.flatten
        and some.img_size is not None
        and not some.dynamic_img_pad
        and all(side % patch == 0 for side, patch in zip(some.img_size, some.patch_size, strict=True))
    )
