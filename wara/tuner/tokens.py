"""A whole sequence of tokens through the subbands, in the layout in which it costs least: tokens first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from wara.tuner.errors import AdapterError
from wara.tuner.grid import TokenGrid
from wara.tuner.subbands import SubbandTransform


class GridWatch:
    """A forward hook on a patch embedding that keeps the grid of the images that pass at the moment.

    Transformers with ``dynamic_img_size``, and those whose ``set_input_size`` was called, have another grid than they
    were made with, and a number of tokens does not tell 8 x 8 from 4 x 16.
    """

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Keep rows and columns of what the patch embedding gave."""
        size: Any = getattr(module, "grid_size", None)
        if isinstance(output, Tensor) and output.dim() == 4:
            size = output.shape[2:] if "NCHW" in str(getattr(module, "output_fmt", "")) else output.shape[1:3]
        if size is not None and (self.size is None or tuple(self.size) != tuple(size)):
            self.size = (int(size[0]), int(size[1]))


class TokenTransform(nn.Module):
    """Analysis and synthesis of prefix tokens and patch tokens together: (T, n) <-> (K, n).

    T = P + N tokens stand first, so that all images and ranks of a batch (n) pass in one matrix product. The K = P + C
    coefficients are the P prefix tokens as they are, which count to the coarsest subband, and those of the grid.

    Args:
        grid: the token grid.
        subbands: the transform of its patch tokens.
        watch: tells the grid of the moment where that may change; None where it is fixed.

    Raises:
        AdapterError: from `at`, for a grid that the transform cannot be made for.
    """

    membership: Tensor  # (S, K): 1 where a coefficient is of a subband

    def __init__(self, grid: TokenGrid, subbands: SubbandTransform, watch: GridWatch | None = None) -> None:
        super().__init__()
        self.grid, self.subbands, self.watch = grid, subbands, watch
        prefix = grid.num_prefix_tokens
        like = next(subbands.buffers())
        of_band = torch.zeros(len(subbands.band_names), prefix + subbands.num_coefficients)
        of_band[0, :prefix] = 1
        for band, rows in enumerate(subbands.band_slices):
            of_band[band, prefix + rows.start : prefix + rows.stop] = 1
        self.register_buffer("membership", of_band.to(like), persistent=False)
        self._others: dict[tuple[int, int], TokenTransform] = {}

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the subbands, coarse to fine."""
        return self.subbands.band_names

    def at_present(self) -> TokenTransform:
        """Return the transform for the grid of the images that pass at the moment: this one, or one like it."""
        size = self.watch.size if self.watch is not None else None
        if size is None or size == self.grid[:2]:
            return self
        if size not in self._others:
            with torch.inference_mode(False):
                mine = self.subbands
                try:
                    other = SubbandTransform(size, mine.wavelet, mine.levels, mine.mode).to(self.membership)
                except AdapterError as error:
                    raise AdapterError(f"The adapter cannot follow the images to another size: {error}") from error
                self._others[size] = TokenTransform(TokenGrid(*size, self.grid.num_prefix_tokens), other)
        return self._others[size]

    def analyse(self, z: Tensor) -> Tensor:
        """Return the coefficients of tokens: (T, n) -> (K, n)."""
        prefix = self.grid.num_prefix_tokens
        c = self.subbands.analyse(z[prefix:])
        return torch.cat([z[:prefix].to(c.dtype), c]) if prefix else c

    def synthesise(self, c: Tensor) -> Tensor:
        """Return the tokens of coefficients: (K, n) -> (T, n)."""
        prefix = self.grid.num_prefix_tokens
        z = self.subbands.synthesise(c[prefix:])
        return torch.cat([c[:prefix].to(z.dtype), z]) if prefix else z

    def spread(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Give every coefficient the value of its subband: (S,) -> (K, 1), or (S, r) -> (K, r), in a dtype."""
        if values.dim() == 1:
            values = values.unsqueeze(1)
        # A product with zeros and ones, whose gradient is a product too; the gradient of an index is a slow scatter.
        return (self.membership.to(values.dtype).T @ values).to(dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TokenTransform:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._others.clear()
        return self
