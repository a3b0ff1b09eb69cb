"""Every architecture of timm, made small enough for a small machine: the same structure, fewer and narrower blocks.

Weights are drawn here and not loaded. What is made smaller never decides how tokens come to a layer: the width where
it is one number, the image down to a few patches or windows, and the number of blocks that are alike.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import accelerate
import timm
import torch
from torch import Tensor, nn

# Patches a side that a plain transformer is given, and the side of the image in pixels that others are cut down to:
# a smaller one for those that stay large.
_PATCHES, _SIDE, _SIDE_OF_LARGE, _LARGE = 8, 256, 128, 60_000_000
# More parameters than this are not made real: some 4 GB.
_LARGEST = 900_000_000
# Modules that differ from block to block in a rate and not in what they do with tokens.
RATES = ("DropPath", "Dropout")
# Blocks that give on more than their tokens: the grid that these stand on.
_VALUES = {("timm.models.mvitv2", "MultiScaleBlock"): 2}


def families() -> dict[str, list[str]]:
    """Return timm's architectures by family, which is the module of timm that makes them."""
    return {family: timm.list_models(module=family) for family in timm.list_modules()}


@dataclass(frozen=True)
class Small:
    """An architecture made small.

    Attributes:
        model: the model; its parameters have no values yet (see `draw_weights`).
        signature: all that decides what an adapter meets: classes, shapes, options. Two with the same are the same.
        side: rows and columns of its images in pixels.
        left_out: number of blocks that were like another one.
    """

    model: nn.Module
    signature: str
    side: int
    left_out: int


def outline(family: str, name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return an architecture whose parameters and buffers have no values, and the options its class was made with."""
    module = sys.modules[f"timm.models.{family}"]
    used: dict[str, Any] = {}
    original = getattr(module, "build_model_with_cfg", None)

    def recorded(model_cls: Any, variant: str, pretrained: bool, *args: Any, **named: Any) -> Any:
        parameters = inspect.signature(model_cls.__init__).parameters
        used.update({key: p.default for key, p in parameters.items() if p.default is not p.empty}, **named)
        return original(model_cls, variant, pretrained, *args, **named)  # type: ignore[misc]

    recording = mock.patch.object(module, "build_model_with_cfg", recorded) if original else nullcontext()
    with recording, _undrawn(), torch.device("meta"):
        return timm.create_model(name, pretrained=False), used


def _made(name: str, options: dict[str, Any]) -> nn.Module:
    """Return a model with its buffers; its parameters have no values if that can be."""
    try:
        with _undrawn(), accelerate.init_empty_weights(include_buffers=False):
            model: nn.Module = timm.create_model(name, pretrained=False, **options)
        if not any(buffer.is_meta for buffer in model.buffers()):
            return model
    except (NotImplementedError, RuntimeError):  # its class looks at weights while it is made
        pass
    with _undrawn():
        with torch.device("meta"):
            _require_room(timm.create_model(name, pretrained=False, **options))
        return timm.create_model(name, pretrained=False, **options)


def _undrawn() -> AbstractContextManager[Any]:
    """Have timm draw no weights: that takes most of the time in which a model is made, and they are drawn again."""
    return mock.patch("timm.layers.weight_init._trunc_normal_", lambda tensor, *_: tensor)


def smaller(name: str, whole: nn.Module, used: dict[str, Any]) -> Iterator[Small]:
    """Yield an architecture made small in several ways, the smallest first, the last as it is but for its weights.

    Args:
        name: timm's.
        whole: its outline.
        used: the options that its class was made with.
    """
    side = int(whole.pretrained_cfg["input_size"][1])
    width = _smaller_width(used)
    wanted = _smaller_side(whole, side, bool(width))

    def of_image(pixels: int) -> dict[str, Any]:
        given: dict[str, Any] = {"pretrained_cfg_overlay": {"input_size": (3, pixels, pixels)}}
        return {**given, "img_size": pixels} if "img_size" in used else given

    ways = [(wanted, {**of_image(wanted), **width}), (wanted, of_image(wanted))]
    if 2 * wanted < side:
        ways.append((2 * wanted, of_image(2 * wanted)))
    tried: list[dict[str, Any]] = []
    for own, options in (*ways, (side, {})):
        if options in tried:
            continue
        tried.append(options)
        try:
            model = _made(name, options)
        except Exception:
            if not options:
                raise
            continue
        left_out = _leave_out_repeated(model)
        yield Small(model, f"{own} {_signature(model)}", own, left_out)
    model = _made(name, {})
    yield Small(model, f"{side} {_signature(model)}", side, 0)


def draw_weights(model: nn.Module) -> None:
    """Give every parameter values, so that signals keep their size and no head and no branch starts at zero.

    Raises:
        MemoryError: it is too large.
    """
    _require_room(model)
    generator = torch.Generator().manual_seed(0)
    drawn: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in drawn:
                    drawn[id(parameter)] = nn.Parameter(_values(name, parameter, generator))
                module._parameters[name] = drawn[id(parameter)]


def _require_room(model: nn.Module) -> None:
    total = sum(p.numel() for p in model.parameters())
    if total > _LARGEST:
        raise MemoryError(f"{total / 1e6:.0f} million parameters are left, more than {_LARGEST / 1e6:.0f} million")


def _values(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    values = torch.empty(parameter.shape, dtype=parameter.dtype)
    if parameter.dim() > 1 and max(parameter.shape[1:]) > 1:
        fan_in = max(1, math.prod(parameter.shape[1:])) if "embed" not in name and "token" not in name else 2500
        return values.normal_(std=fan_in**-0.5, generator=generator)
    return values.zero_() if "bias" in name else values.fill_(1.0)


def _smaller_side(model: nn.Module, side: int, narrower: bool) -> int:
    """Return the side of a smaller image on which the model's patches, stages and windows still are what they were."""
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    windows = any(getattr(module, "window_size", None) not in (None, 0, (0, 0)) for module in model.modules())
    if grid is not None and hasattr(model, "blocks") and not windows and side % grid[0] == 0:
        return min(side, side // grid[0] * _PATCHES)
    if not windows and grid is None and side > _SIDE_OF_LARGE and side % 32 == 0:
        return _SIDE_OF_LARGE
    large = not narrower and sum(p.numel() for p in model.parameters()) > _LARGE
    while side > (_SIDE_OF_LARGE if large else _SIDE) and side % 64 == 0 and side // 2 >= _SIDE_OF_LARGE:
        side //= 2
    return side


def _smaller_width(used: dict[str, Any]) -> dict[str, Any]:
    """Return fewer heads of the width that they had, where a class is made with a width and a number of heads."""
    heads = used.get("num_heads")
    key = next((key for key in ("embed_dim", "embed_dims", "dim") if used.get(key)), None)
    if key is None or not heads:
        return {}
    widths = used[key]
    all_heads = heads if isinstance(heads, tuple | list) else (heads,)
    all_widths = widths if isinstance(widths, tuple | list) else (widths,)
    least = 1 if len(all_heads) > 1 or len(all_widths) > 1 else 2
    divisor = math.gcd(*all_heads, *all_widths)
    while divisor > 1 and (min(all_heads) % divisor or min(all_heads) // divisor < least):
        divisor -= 1
    if divisor == 1 or any(number % divisor for number in (*all_heads, *all_widths)):
        return {}

    def divided(value: Any) -> Any:
        return type(value)(v // divisor for v in value) if isinstance(value, tuple | list) else value // divisor

    return {key: divided(widths), "num_heads": divided(heads)}


class _PassOn(nn.Module):
    """Stands where a block was that is like another one; gives on as many values as that one did."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values = values

    def forward(self, x: Any, *more: Any, **_: Any) -> Any:
        return x if self.values == 1 else (x, *more[: self.values - 1])


def _leave_out_repeated(model: nn.Module) -> int:
    """Take out the blocks of a sequence that are like others of it: the first and the last of a kind stay."""
    left_out = 0
    for _, sequence in list(model.named_modules()):
        if not isinstance(sequence, nn.Sequential | nn.ModuleList) or len(sequence) < 3:
            continue
        kinds = [(type(block).__name__, _signature(block)) for block in sequence]
        for index, kind in enumerate(kinds):
            has_attention = any("tt" in type(m).__name__ for m in sequence[index].modules())
            if kind in kinds[:index] and kind in kinds[index + 1 :] and has_attention:
                sequence[index] = _PassOn(_VALUES.get((type(sequence[index]).__module__, kind[0]), 1))
                left_out += 1
    return left_out


def _signature(module: nn.Module) -> str:
    """Describe all that decides what a module does with tokens, but for values of weights and rates."""
    parts = []
    for name, part in module.named_modules():
        kind = type(part).__name__
        if kind.startswith(RATES) or kind == "Identity":
            continue
        options = {
            key: value
            for key, value in sorted(vars(part).items())
            if not key.startswith("_")
            and key != "training"
            and isinstance(value, int | str | tuple | torch.Size)
            and "'" not in str(value)
        }
        shapes = [tuple(p.shape) for p in (*part._parameters.values(), *part._buffers.values()) if p is not None]
        parts.append(f"{name}:{kind}{options}{shapes}")
    return "\n".join(parts)
