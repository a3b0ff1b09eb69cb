"""Subband readout: class scores from the wavelet subbands of the tokens behind several blocks, beside a model's head.

The blocks of a vision transformer that was trained elsewhere see textures of many sizes; its class token at the end
tells little of them. What is read of each depth: the class token, the mean of the patch tokens, and the logarithm of
their energy in each level of a wavelet transform of the token grid, channel by channel. A linear map of these, fitted
once, gives scores that are mixed with those of the head in equal parts.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wara.tuner.errors import AdapterError
from wara.tuner.grid import TokenGrid, token_grid
from wara.tuner.subbands import SubbandTransform

NAME = "subband_readout"
_LEVELS = 3
_TINY = 1e-6


class SubbandReadout(nn.Module):
    """Class scores from tokens at several depths, mixed with a head's. Made by `add_readout`.

    While the model trains, and until `fill` gave it numbers, the head's scores pass as they are.

    Args:
        depths: numbers of the blocks, from 1, behind which tokens are read.
        grid: of the tokens.
        channels: d, of a token.
        classes: k, scores of the head.
        wavelet: discrete wavelet of the transform over the grid.

    Attributes:
        centre, scale: (f,) means and deviations of what is read of the training images.
        weight, bias: (k, f) and (k,), the linear map.
    """

    centre: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self, depths: Sequence[int], grid: TokenGrid, channels: int, classes: int, wavelet: str = "haar"
    ) -> None:
        super().__init__()
        self.depths, self.grid = tuple(depths), grid
        # A side is halved at every level: of 7 rows the third level would see one.
        levels = max(1, min(_LEVELS, int(math.log2(max(2, min(grid.height, grid.width))))))
        self.subbands = SubbandTransform((grid.height, grid.width), wavelet, levels)
        # The approximation, then three details a level, from the coarsest.
        ends = [self.subbands.band_slices[3 * level].stop for level in range(levels + 1)]
        self._levels = [slice(start, stop) for start, stop in itertools.pairwise(ends)]
        parts = (grid.num_prefix_tokens > 0) + 1 + levels
        self.features = channels * parts * len(self.depths)
        self.register_buffer("centre", torch.zeros(self.features))
        self.register_buffer("scale", torch.ones(self.features))
        self.register_buffer("weight", torch.zeros(classes, self.features))
        self.register_buffer("bias", torch.zeros(classes))
        self.is_fitted = False
        self._seen = _OfThread()
        self._rows: list[Tensor] | None = None

    def read(self, tokens: Tensor) -> Tensor:
        """Return what is read of the tokens behind one block: (b, P + N, d) -> (b, f / depths), float32.

        Class token and mean are normalised over the channels; energies are logarithms of the mean square of the
        coefficients of a level's three details.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            first = self.grid.num_prefix_tokens
            patches = tokens[:, first:]
            read = [tokens[:, 0]] if first else []
            read.append(patches.mean(dim=1))
            read = [F.layer_norm(part, part.shape[-1:]) for part in read]
            coefficients = self.subbands.analyse(patches)
            for rows in self._levels:
                energy = coefficients[:, rows].square().mean(dim=1)
                read.append((energy + _TINY).log() / 2)
            return torch.cat(read, dim=1)

    def scores(self, read: Tensor) -> Tensor:
        """Return the scores of classes (b, k) of what was read at all depths (b, f)."""
        return F.linear((read - self.centre) / self.scale, self.weight, self.bias)

    @property
    def parts(self) -> tuple[str, ...]:
        """What is read at each depth: the class token, where there is one, the mean, levels of detail, coarse first."""
        levels = (str(level) for level in range(len(self._levels), 0, -1))
        return (*(("class token",) if self.grid.num_prefix_tokens else ()), "mean", *levels)

    def scores_by_part(self, read: Tensor) -> Tensor:
        """Return what each part adds to the scores at all depths: (b, f) -> (b, k, parts). The bias is in none."""
        shape = (-1, len(self.depths), len(self.parts), self.features // len(self.depths) // len(self.parts))
        seen = (read - self.centre) / self.scale
        return torch.einsum("bdpc,kdpc->bkp", seen.view(shape), self.weight.view(shape))

    @torch.no_grad()
    def fill(self, centre: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Take over fitted numbers, of the shapes of the attributes of these names.

        Raises:
            AdapterError: other shapes, or a number that is none.
        """
        for name, given in (("centre", centre), ("scale", scale), ("weight", weight), ("bias", bias)):
            own: Tensor = getattr(self, name)
            if given.shape != own.shape:
                raise AdapterError(f"The readout's {name} has the shape {tuple(given.shape)}, not {tuple(own.shape)}.")
            if not bool(torch.isfinite(given).all()):
                raise AdapterError(f"The readout's {name} holds numbers that are not finite.")
            own.copy_(given)
        self.is_fitted = True

    @contextlib.contextmanager
    def keeping(self) -> Iterator[list[Tensor]]:
        """Keep what is read of every image, (b, f) a pass, inside a ``with`` block; the mixing rests meanwhile."""
        self._rows = []
        try:
            yield self._rows
        finally:
            self._rows = None

    def _keep(self, depth: int, block: nn.Module, inputs: Any, tokens: Tensor) -> None:
        if self._is_asked():
            self._seen.at[depth] = self.read(tokens)

    def _mix(self, head: nn.Module, inputs: Any, logits: Tensor) -> Tensor | None:
        if not self._is_asked():
            return None
        read = torch.cat([self._seen.at.pop(depth) for depth in self.depths], dim=1)
        if self._rows is not None:
            self._rows.append(read.detach().cpu())
            return None
        return mixed(logits, self.scores(read))

    def _is_asked(self) -> bool:
        return not self.training and (self.is_fitted or self._rows is not None)


class _OfThread(threading.local):
    """What a thread's pass has read so far, by depth: a batch may be computed in shares by several threads."""

    def __init__(self) -> None:
        self.at: dict[int, Tensor] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _OfThread:
        return _OfThread()


def mixed(first: Tensor, second: Tensor) -> Tensor:
    """Return logits (b, k) of the mean of the probabilities that two logits (b, k) state."""
    both = torch.stack([first.float().log_softmax(dim=-1), second.float().log_softmax(dim=-1)])
    return both.logsumexp(dim=0) - math.log(2)


def depths_of(blocks: int) -> tuple[int, ...]:
    """Return the depths that are read of a model with so many blocks: the thirds of its lower half."""
    return tuple(sorted({max(1, round(blocks // 2 * third / 3)) for third in (1, 2, 3)}))


def can_be_read(model: nn.Module) -> bool:
    """Whether a model's blocks stand one after the other on one grid of tokens of one width, as a ViT's do."""
    blocks = getattr(model, "blocks", None)
    one_width = isinstance(getattr(model, "embed_dim", None), int)
    return isinstance(blocks, nn.ModuleList | nn.Sequential) and len(blocks) > 1 and one_width


def add_readout(model: nn.Module, head: str, classes: int, *, wavelet: str = "haar") -> SubbandReadout:
    """Put a readout into a vision transformer, which gives its own scores until the readout is fitted.

    Args:
        model: of timm, with blocks one after the other on one grid of tokens; the model inside PEFT's where there is an
            adapter.
        head: name of the module that gives the scores.
        classes: number of scores.
        wavelet: discrete wavelet.

    Raises:
        AdapterError: a model whose blocks do not stand one after the other on one grid (Swin, for one), or one that has
            a readout already.
    """
    if not can_be_read(model):
        raise AdapterError(
            f"A readout needs blocks one after the other on one grid of tokens, which {type(model).__name__} has not."
        )
    if hasattr(model, NAME):
        raise AdapterError("The model has a readout already.")
    plain: Any = model
    blocks = plain.blocks
    readout = SubbandReadout(depths_of(len(blocks)), token_grid(model), plain.embed_dim, classes, wavelet)
    model.add_module(NAME, readout)
    for depth in readout.depths:
        blocks[depth - 1].register_forward_hook(partial(readout._keep, depth))
    model.get_submodule(head).register_forward_hook(readout._mix)
    readout.train(model.training)
    return readout


def readout_of(model: nn.Module) -> SubbandReadout | None:
    """Return the readout of a model, or of the model inside PEFT's; None where there is none."""
    return next((module for module in model.modules() if isinstance(module, SubbandReadout)), None)
