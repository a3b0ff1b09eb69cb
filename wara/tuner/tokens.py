"""A whole sequence of tokens through the subbands, in the layout in which it costs least: tokens last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wara.tuner.errors import AdapterError
from wara.tuner.exact import ExactMatrices
from wara.tuner.grid import TokenGrid
from wara.tuner.matrices import dense_pair
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

    def at_present(self, grid: TokenGrid) -> tuple[int, int]:
        """Return rows and columns at the moment of what stood on a grid when the adapter was made."""
        return grid[:2] if self.size is None else self.size


class ImageWatch:
    """A hook in front of a model that keeps the size of its images: grids that no module states grow with it.

    Args:
        made_for: rows and columns of the images of which the grids are known.
    """

    def __init__(self, made_for: tuple[int, int]) -> None:
        self.made_for = self.size = made_for

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Keep rows and columns of the images."""
        images = next((x for x in (*inputs, *named.values()) if isinstance(x, Tensor) and x.dim() == 4), None)
        if images is not None and tuple(images.shape[2:]) != self.size:
            self.size = (int(images.shape[2]), int(images.shape[3]))

    def at_present(self, grid: TokenGrid) -> tuple[int, int]:
        """Return rows and columns at the moment of what stood on a grid when the adapter was made."""
        if self.size == self.made_for:
            return grid[:2]
        height, width = (-(-of * now // then) for of, now, then in zip(grid, self.size, self.made_for, strict=False))
        return height, width


Watch = GridWatch | ImageWatch


class TokenTransform(ExactMatrices):
    """Analysis and synthesis of prefix tokens and patch tokens together: (n, T) <-> (n, K).

    T = P + N tokens stand last, so that all images and ranks of a batch (n) pass in one matrix product. The K = P + C
    coefficients are the P prefix tokens as they are, which count to the coarsest subband, and those of the grid.

    Args:
        grid: the token grid.
        subbands: the transform of its patch tokens.
        watch: tells the grid of the moment where that may change; None where it is fixed.

    Raises:
        AdapterError: from `at`, for a grid that the transform cannot be made for.
    """

    def __init__(self, grid: TokenGrid, subbands: SubbandTransform, watch: Watch | None = None) -> None:
        super().__init__()
        self.grid, self.subbands, self.watch = grid, subbands, watch
        like = next(subbands.buffers())
        self._keep(like.dtype, like.device)
        self._others: dict[tuple[int, int], TokenTransform] = {}

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the subbands, coarse to fine."""
        return self.subbands.band_names

    def at_present(self) -> TokenTransform:
        """Return the transform for the grid of the images that pass at the moment: this one, or one like it."""
        size = self.watch.at_present(self.grid) if self.watch is not None else self.grid[:2]
        if size == self.grid[:2]:
            return self
        if size not in self._others:
            with torch.inference_mode(False):
                mine = self.subbands
                try:
                    other = SubbandTransform(size, mine.wavelet, mine.levels, mine.mode).to(next(mine.buffers()))
                except AdapterError as error:
                    raise AdapterError(f"The adapter cannot follow the images to another size: {error}") from error
                self._others[size] = TokenTransform(TokenGrid(*size, self.grid.num_prefix_tokens), other)
        return self._others[size]

    def analyse(self, z: Tensor) -> Tensor:
        """Return the coefficients of tokens: (n, T) -> (n, K)."""
        if not self.subbands.separable:
            return F.linear(z, self.matrix("to_bands", z.dtype))
        prefix = self.grid.num_prefix_tokens
        return torch.cat([z[:, :prefix], self.subbands.analyse_planes(z[:, prefix:])], dim=1)

    def synthesise(self, c: Tensor) -> Tensor:
        """Return the tokens of coefficients: (n, K) -> (n, T)."""
        if not self.subbands.separable:
            return F.linear(c, self.matrix("to_tokens", c.dtype))
        prefix = self.grid.num_prefix_tokens
        return torch.cat([c[:, :prefix], self.subbands.synthesise_planes(c[:, prefix:])], dim=1)

    def spread(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Give every coefficient the value of its subband: (S,) -> (1, K), or (S, r) -> (r, K), in a dtype."""
        # A product with zeros and ones, whose gradient is a product too; the gradient of an index is a slow scatter.
        return (values.reshape(len(values), -1).T @ self.matrix("membership", values.dtype)).to(dtype)

    def _exact(self) -> dict[str, Tensor]:
        """Return which subband each coefficient is of, (S, K), and for small grids the dense pair with the prefix."""
        prefix, mine = self.grid.num_prefix_tokens, self.subbands
        membership = torch.zeros(
            len(mine.band_names), prefix + mine.num_coefficients, dtype=torch.float64, device="cpu"
        )
        membership[0, :prefix] = 1
        for band, rows in enumerate(mine.band_slices):
            membership[band, prefix + rows.start : prefix + rows.stop] = 1
        if mine.separable:
            return {"membership": membership}
        kept = torch.eye(prefix, dtype=torch.float64, device="cpu")
        pair = dense_pair(mine.grid, mine.wavelet, mine.levels, mine.mode)
        return {
            "membership": membership,
            "to_bands": torch.block_diag(kept, pair.analysis),  # type: ignore[no-untyped-call]
            "to_tokens": torch.block_diag(kept, pair.synthesis),  # type: ignore[no-untyped-call]
        }

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._others.clear()
        return self
