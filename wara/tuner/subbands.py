"""The wavelet transform of a token grid as matrix products, so that autograd, bf16, compile and export work unaided."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wara.tuner.exact import ExactMatrices
from wara.tuner.matrices import DENSE_TOKENS, bands_of, dense_pair, is_orthogonal, require_reconstruction, side_pairs


class SubbandTransform(ExactMatrices):
    """Wavelet analysis and synthesis of a grid of tokens as matrices.

    Tokens are the grid's cells in row-major order, N = H * W. Coefficients are the concatenation of 3 * levels + 1
    subbands from coarse to fine: ``A{J}``, then ``H{j}``, ``V{j}``, ``D{j}`` for j = J .. 1 (horizontal, vertical and
    diagonal details; level 1 is the finest), each in row-major order. C counts all of them; it exceeds N where the
    border mode adds coefficients.

    Small grids are transformed by one dense matrix; large ones by two thin matrices a level, one along the rows and one
    along the columns, and nothing of size N x N is made. Both give the same numbers.

    Args:
        grid: rows and columns of the token grid, (H, W).
        wavelet: a discrete wavelet's name in PyWavelets, e.g. ``"haar"``, ``"db2"``, ``"bior2.2"``.
        levels: depth J of the decomposition, 1 or more.
        mode: how the border is continued: ``"symmetric"``, ``"zero"``, ``"reflect"`` or ``"periodization"``.
        separable: True for thin matrices, False for a dense one; None takes thin ones above 1,024 tokens.

    Attributes:
        band_names: names of the subbands, coarse to fine.
        band_slices: the rows of ``analysis`` (columns of ``synthesis``) of each subband.
        band_shapes: rows and columns of each subband.
        num_coefficients: number of coefficients, C.
        orthogonal: whether ``analysis`` is orthogonal, so that energies add up exactly (Parseval).

    Raises:
        AdapterError: an unknown wavelet or mode, too many levels, or a combination that does not reconstruct.

    Example:
        >>> transform = SubbandTransform((4, 4), "haar", levels=1)
        >>> transform.band_names
        ('A1', 'H1', 'V1', 'D1')
        >>> float(transform.analyse(torch.ones(1, 16, 1)).sum())  # a constant grid has approximation only
        8.0
    """

    def __init__(
        self,
        grid: tuple[int, int],
        wavelet: str = "haar",
        levels: int = 2,
        mode: str = "symmetric",
        *,
        separable: bool | None = None,
    ) -> None:
        super().__init__()
        self.grid = (int(grid[0]), int(grid[1]))
        self.wavelet, self.levels, self.mode = wavelet, int(levels), mode
        self.separable = self.num_tokens > DENSE_TOKENS if separable is None else separable
        require_reconstruction(*self._key)
        self.band_names, self.band_slices, self.band_shapes = bands_of(*self._key)
        self.num_coefficients = self.band_slices[-1].stop
        self.orthogonal = is_orthogonal(*self._key)
        self._keep(torch.get_default_dtype())

    @property
    def _key(self) -> tuple[tuple[int, int], str, int, str]:
        return self.grid, self.wavelet, self.levels, self.mode

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the grid, N."""
        return self.grid[0] * self.grid[1]

    @property
    def analysis(self) -> Tensor:
        """The (C, N) matrix of the analysis, in the module's dtype; made on each call where the grid is large."""
        return self._dense("dense_analysis")

    @property
    def synthesis(self) -> Tensor:
        """The (N, C) matrix with ``synthesis @ analysis`` = identity to 1e-5; made on each call for large grids."""
        return self._dense("dense_synthesis")

    def analyse(self, tokens: Tensor) -> Tensor:
        """Return the coefficients of tokens: (..., N, c) -> (..., C, c)."""
        if not self.separable:
            return torch.matmul(self.matrix("dense_analysis", tokens.dtype), tokens)
        return self.analyse_planes(tokens.movedim(-2, -1)).movedim(-1, -2)

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Return the tokens of coefficients: (..., C, c) -> (..., N, c)."""
        if not self.separable:
            return torch.matmul(self.matrix("dense_synthesis", coefficients.dtype), coefficients)
        return self.synthesise_planes(coefficients.movedim(-2, -1)).movedim(-1, -2)

    def analyse_planes(self, tokens: Tensor) -> Tensor:
        """Return the coefficients of tokens that stand last: (..., N) -> (..., C)."""
        if not self.separable:
            return F.linear(tokens, self.matrix("dense_analysis", tokens.dtype))
        low = tokens.reshape(*tokens.shape[:-1], *self.grid)
        details: list[Tensor] = []
        for level in range(self.levels):
            low = F.linear(low, self.matrix(f"columns_down{level}", low.dtype))
            low = torch.matmul(self.matrix(f"rows_down{level}", low.dtype), low)
            rows, columns = low.shape[-2] // 2, low.shape[-1] // 2
            quarters = low[..., rows:, :columns], low[..., :rows, columns:], low[..., rows:, columns:]
            details = [quarter.flatten(-2) for quarter in quarters] + details
            low = low[..., :rows, :columns]
        return torch.cat([low.flatten(-2), *details], dim=-1)

    def synthesise_planes(self, coefficients: Tensor) -> Tensor:
        """Return the tokens of coefficients that stand last: (..., C) -> (..., N)."""
        if not self.separable:
            return F.linear(coefficients, self.matrix("dense_synthesis", coefficients.dtype))
        bands = [
            coefficients[..., rows].reshape(*coefficients.shape[:-1], *shape)
            for rows, shape in zip(self.band_slices, self.band_shapes, strict=True)
        ]
        low = bands[0]
        for level in reversed(range(self.levels)):
            first = 1 + 3 * (self.levels - 1 - level)
            horizontal, vertical, diagonal = bands[first : first + 3]
            low = low[..., : horizontal.shape[-2], : horizontal.shape[-1]]  # one more where a side was odd
            low = torch.cat([torch.cat([low, vertical], dim=-1), torch.cat([horizontal, diagonal], dim=-1)], dim=-2)
            low = torch.matmul(self.matrix(f"rows_up{level}", low.dtype), low)
            low = F.linear(low, self.matrix(f"columns_up{level}", low.dtype))
        return low.flatten(-2)

    def extra_repr(self) -> str:
        """Show what the transform was made of."""
        kind = "separable" if self.separable else "dense"
        return f"grid={self.grid}, wavelet={self.wavelet!r}, levels={self.levels}, mode={self.mode!r}, {kind}"

    def _exact(self) -> dict[str, Tensor]:
        """Return the matrices in float64: one each way, or one a level, side and way."""
        if not self.separable:
            pair = dense_pair(*self._key)
            return {"dense_analysis": pair.analysis, "dense_synthesis": pair.synthesis}
        matrices: dict[str, Tensor] = {}
        for axis, side in zip(("rows", "columns"), self.grid, strict=True):
            for level, step in enumerate(side_pairs(side, self.wavelet, self.levels, self.mode)):
                matrices[f"{axis}_down{level}"], matrices[f"{axis}_up{level}"] = step
        return matrices

    def _dense(self, name: str) -> Tensor:
        if not self.separable:
            return self.get_buffer(name)
        like = self.get_buffer("rows_down0")
        size = self.num_tokens if name == "dense_analysis" else self.num_coefficients
        unit = torch.eye(size, dtype=like.dtype, device=like.device)
        return self.analyse(unit) if name == "dense_analysis" else self.synthesise(unit)
