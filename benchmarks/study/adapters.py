"""Low-rank updates of the study alone: a frozen module with B mix(A x) beside it, and what may stand in the middle.

What wins moves into `wara.tuner`; what loses stays here, so that the library's options do not grow with it. `ConvMix`
is the strongest argument against wavelets: a bottleneck that sees neighbours on the token grid by a learned filter
(after Conv-LoRA, arXiv:2401.17868, without its experts).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wara.errors import InputError
from wara.tuner import TokenGrid
from wara.tuner.tokens import TokenTransform

ACTIVATIONS = ("none", "gelu", "residual-gelu", "gated-gelu", "soft-threshold")
PREFIXES = ("coarsest", "plain", "none")
GAINS = ("none", "subband", "subband-rank")
_RAW_THRESHOLD = -4.0  # softplus of it is 0.018: close to keeping everything, yet with a gradient
APPROXIMATION = "A"


class Beside(nn.Module):
    """A frozen module and a low-rank update beside it: x (B, T, d) -> base(x) + scale * B mix(A x), (B, T, e).

    Args:
        base: the frozen module.
        in_features, out_features: d and e.
        rank: rank r of the update.
        mix: what the r channels pass through, (r, B, T) -> (r, B, T); None for LoRA.
        scale: factor of the update.
        halves: A and B are of half width and serve both Haar halves of the feature axis, sums and differences of
            neighbouring channels, each with a learned gain: half as many numbers a rank, and with token gains that are
            equal still a weight.
    """

    def __init__(
        self, base: nn.Module, in_features: int, out_features: int, rank: int, mix: nn.Module | None, *,
        scale: float = 2.0, halves: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.base, self.mix, self.scale, self.halves = base, mix, scale, halves
        width = 2 if halves else 1
        if in_features % width or out_features % width:
            raise _wrong("Halves of the feature axis need an even number of features", f"{in_features}, {out_features}")
        # As in LoRA: A by Kaiming's law, B zero, so that the model starts as it was.
        self.down = nn.Parameter(torch.empty(rank, in_features // width))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.up = nn.Parameter(torch.zeros(out_features // width, rank))
        self.half_gain = nn.Parameter(torch.ones(2)) if halves else None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the sum of base and update."""
        output: Tensor = self.base(x, *args, **kwargs)
        images = _split_pairs(x) if self.halves else x
        rank = len(self.down)
        z = self.down.to(x.dtype) @ images.reshape(-1, images.shape[-1]).T
        z = z.reshape(rank, -1, x.shape[1])
        if self.mix is not None:
            z = self.mix(z)
        if self.half_gain is not None:
            gain = self.half_gain.to(z.dtype).repeat_interleave(len(x))
            z = z * gain[None, :, None]
        update = F.linear(z.reshape(rank, -1).T, self.up.to(z.dtype) * self.scale)
        update = update.reshape(*images.shape[:2], -1)
        return output + (_join_pairs(update) if self.halves else update)


class ConvMix(nn.Module):
    """A depthwise 3 x 3 convolution on the token grid behind a gate that starts shut: z + gate * conv(z).

    Prefix tokens are left alone.

    Args:
        grid: the token grid.
        rank: channels r.
    """

    def __init__(self, grid: TokenGrid, rank: int) -> None:
        super().__init__()
        self.grid = grid
        self.conv = nn.Conv2d(rank, rank, 3, padding=1, groups=rank, bias=False)
        self.gate = nn.Parameter(torch.zeros(rank))

    def forward(self, z: Tensor) -> Tensor:
        """(r, B, T) -> (r, B, T)."""
        height, width, prefix = self.grid
        plane = z[..., prefix:].transpose(0, 1).reshape(z.shape[1], len(z), height, width)
        seen = self.conv(plane) * self.gate.to(z.dtype).view(1, -1, 1, 1)
        return z + F.pad(seen.flatten(2).transpose(0, 1), (prefix, 0)).to(z.dtype)


class WaveletMix(nn.Module):
    """The r channels through the subbands of the token grid: IDWT(mask * gain * act(DWT(z))).

    Args:
        path: the transform.
        rank: channels r.
        gains: ``"none"``, one a ``"subband"``, or one a subband and rank (``"subband-rank"``).
        gain_init: first values of the gains of the approximation and of the details.
        activation: of the coefficients: ``"none"``, ``"gelu"``, c + gelu(c) (``"residual-gelu"``), c + w gelu(c) with w
            a subband and rank that starts at 0 (``"gated-gelu"``), or ``"soft-threshold"`` with a learned threshold a
            subband and rank.
        prefix: class and register tokens count to the ``"coarsest"`` subband, pass without gain and activation
            (``"plain"``), or get no update (``"none"``).
        band_ranks: how many of the channels each scale has, by ``"A"`` and the level's number; others are shut out.
        apart: whether the scales' channels are different ones (then they add up to the rank), or the first so many.
        bands: scales that are let through at all; None lets all.
        class_statistics: whether the first token also gets learned weights times the mean magnitudes of each subband.
    """

    mask: Tensor | None
    sizes: Tensor

    def __init__(
        self, path: TokenTransform, rank: int, *, gains: str = "subband", gain_init: Sequence[float] = (1.0, 1.0),
        activation: str = "none", prefix: str = "coarsest", band_ranks: dict[str, int] | None = None,
        apart: bool = False, bands: Sequence[Any] | None = None, class_statistics: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        for name, value, known in (
            ("gains", gains, GAINS), ("activation", activation, ACTIVATIONS), ("prefix", prefix, PREFIXES),
        ):  # fmt: skip
            if value not in known:
                raise _wrong(f"The {name} are not known", value, f"Use one of {', '.join(known)}.")
        self.path, self.activation, self.prefix = path, activation, prefix
        count = len(path.band_names)
        scales = [scale_of(name) for name in path.band_names]
        first = torch.tensor([float(gain_init[0])] + [float(gain_init[1])] * (count - 1))
        shape = {"none": None, "subband": (count,), "subband-rank": (count, rank)}[gains]
        values = None if shape is None else first.view(-1, *[1] * (len(shape) - 1)).expand(shape).clone()
        self.gain = None if values is None else nn.Parameter(values)
        self.gate = nn.Parameter(torch.zeros(count, rank)) if activation == "gated-gelu" else None
        soft = activation == "soft-threshold"
        self.threshold = nn.Parameter(torch.full((count, rank), _RAW_THRESHOLD)) if soft else None
        self.register_buffer("mask", _mask(scales, rank, band_ranks, apart, bands), persistent=False)
        self.statistics = nn.Parameter(torch.zeros(count, rank)) if class_statistics else None
        sizes = torch.tensor([float(part.stop - part.start) for part in path.subbands.band_slices])
        self.register_buffer("sizes", sizes, persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """(r, B, T) -> (r, B, T)."""
        rank, images, tokens = z.shape
        prefix = self.path.grid.num_prefix_tokens
        c = self.path.analyse(z.reshape(-1, tokens)).reshape(rank, images, -1)
        c = self._active(c)
        for values in (self.gain, self.mask):
            if values is not None:
                c = c * self._spread(values, c)
        out = self.path.synthesise(c.reshape(rank * images, -1)).reshape(z.shape)
        kept = {"coarsest": out, "plain": z, "none": torch.zeros_like(z)}[self.prefix][..., :prefix]
        if self.statistics is not None:
            kept = torch.cat([kept[..., :1] + self._of_class(c, prefix), kept[..., 1:]], dim=-1)
        elif self.prefix == "coarsest":
            return out
        return torch.cat([kept, out[..., prefix:]], dim=-1)

    def _active(self, c: Tensor) -> Tensor:
        if self.activation == "gelu":
            return F.gelu(c)
        if self.activation == "residual-gelu":
            return c + F.gelu(c)
        if self.gate is not None:
            return c + self._spread(self.gate, c) * F.gelu(c)
        if self.threshold is not None:
            limit = self._spread(F.softplus(self.threshold), c)
            return c - torch.maximum(torch.minimum(c, limit), -limit)
        return c

    def _spread(self, values: Tensor, c: Tensor) -> Tensor:
        """(S,) or (S, r) -> (1 or r, 1, K), as the coefficients (r, B, K) lie."""
        return self.path.spread(values, c.dtype).unsqueeze(1)

    def _of_class(self, c: Tensor, prefix: int) -> Tensor:
        """Return what the first token gets of the subbands, (r, B, 1)."""
        assert self.statistics is not None
        member = self.path.matrix("membership", c.dtype)[:, prefix:]
        means = c[..., prefix:].abs() @ member.T / self.sizes.to(c.dtype)  # (r, B, S)
        return (means * self.statistics.to(c.dtype).T.unsqueeze(1)).sum(dim=-1, keepdim=True)


def scale_of(band: str) -> str:
    """Return the scale of a subband by its name: ``"A"`` of the approximation, else the level's number, as text."""
    return APPROXIMATION if band.startswith(APPROXIMATION) else band[1:]


def put_beside(
    block: Any, target: str, rank: int, mix: Callable[[], nn.Module | None], *, scale: float, halves: bool
) -> bool:
    """Put an update beside a part of a block, in place; return whether its tokens may be the class token alone.

    Args:
        block: a block of a vision transformer.
        target: ``"qkv"``, ``"proj"``, ``"fc1"``, ``"fc2"``, or beside the whole ``"attn"`` or ``"mlp"``.
        rank: rank of the update.
        mix: makes what stands in the middle.
        scale: factor of the update.
        halves: see `Beside`.

    Raises:
        InputError: a target that is not known; code ``"study-form"``.
    """
    holder, name = {
        "qkv": (block.attn, "qkv"), "proj": (block.attn, "proj"), "fc1": (block.mlp, "fc1"),
        "fc2": (block.mlp, "fc2"), "attn": (block, "attn"), "mlp": (block, "mlp"),
    }.get(target, (None, ""))  # fmt: skip
    if holder is None:
        raise _wrong("The target is not known", target, "Use qkv, proj, fc1, fc2, attn, mlp or block.")
    base = getattr(holder, name)
    width = block.norm1.normalized_shape[0]
    linear = isinstance(base, nn.Linear)
    given, wanted = (base.in_features, base.out_features) if linear else (width, width)
    setattr(holder, name, Beside(base, given, wanted, rank, mix(), scale=scale, halves=halves))
    return target in ("proj", "fc1", "fc2", "mlp")


def _mask(
    scales: list[str], rank: int, ranks: dict[str, int] | None, apart: bool, bands: Sequence[Any] | None
) -> Tensor | None:
    """Return which channels each subband lets through, (S, r) of zeros and ones; None for all."""
    if ranks is None and bands is None:
        return None
    mask = torch.ones(len(scales), rank)
    if ranks is not None:
        if set(ranks) != set(scales) or (apart and sum(ranks.values()) != rank) or max(ranks.values()) > rank:
            remedy = f"Give each of {', '.join(dict.fromkeys(scales))} a part of the rank {rank}."
            raise _wrong("The ranks of the scales do not fit", ranks, remedy)
        begin = 0
        for scale, count in ranks.items():
            rows = [row for row, name in enumerate(scales) if name == scale]
            mask[rows] = 0.0
            mask[rows, begin : begin + count] = 1.0
            begin += count if apart else 0
    if bands is not None:
        for row, scale in enumerate(scales):
            if scale not in map(str, bands):
                mask[row] = 0.0
    return mask


def _split_pairs(x: Tensor) -> Tensor:
    """Return sums and differences of neighbouring channels, orthonormal: (B, T, d) -> (2 B, T, d / 2)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.cat([even + odd, even - odd]) * math.sqrt(0.5)


def _join_pairs(halves: Tensor) -> Tensor:
    """Undo `_split_pairs`: (2 B, T, e / 2) -> (B, T, e)."""
    total, difference = halves.chunk(2)
    return torch.stack([total + difference, total - difference], dim=-1).flatten(-2) * math.sqrt(0.5)


def _wrong(what: str, seen: Any, remedy: str = "Change the study's options.") -> InputError:
    return InputError(what, seen=str(seen)[:200], remedy=remedy, code="study-form")
