"""The wavelet transform of a token grid as two matrices, compiled once from pytorch_wavelets.

A discrete wavelet transform of a grid of fixed size is linear, so it *is* a matrix: its columns are the coefficients of
the unit images. Pushing the identity through ``pytorch_wavelets`` once gives the analysis matrix (tokens to
coefficients), pushing unit coefficients through its inverse gives the synthesis matrix. After that a transform costs
one matrix product, and autograd, bf16, ``torch.compile`` and export need nothing special.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pywt
import torch
from torch import Tensor, nn

from wara.tuner.errors import AdapterError

with warnings.catch_warnings():
    # pytorch_wavelets 1.3.0 imports pkg_resources, which warns that it is deprecated; the pin of setuptools keeps it.
    warnings.simplefilter("ignore")
    from pytorch_wavelets import DWTForward, DWTInverse

MODES = ("symmetric", "zero", "reflect", "periodization")
RECONSTRUCTION_TOLERANCE = 1e-5


class _Matrices(NamedTuple):
    analysis: Tensor  # (C, N) float64
    synthesis: Tensor  # (N, C) float64
    names: tuple[str, ...]
    slices: tuple[slice, ...]
    shapes: tuple[tuple[int, int], ...]


class SubbandTransform(nn.Module):
    """Wavelet analysis and synthesis of a grid of tokens as matrices.

    Tokens are the grid's cells in row-major order, N = H * W. Coefficients are the concatenation of 3 * levels + 1
    subbands from coarse to fine: ``A{J}``, then ``H{j}``, ``V{j}``, ``D{j}`` for j = J .. 1 (horizontal, vertical and
    diagonal details; level 1 is the finest), each in row-major order. C counts all of them; it exceeds N where the
    border mode adds coefficients.

    Args:
        grid: rows and columns of the token grid, (H, W).
        wavelet: a discrete wavelet's name in PyWavelets, e.g. ``"haar"``, ``"db2"``, ``"bior2.2"``.
        levels: depth J of the decomposition, 1 or more.
        mode: how the border is continued: ``"symmetric"``, ``"zero"``, ``"reflect"`` or ``"periodization"``.

    Attributes:
        analysis: (C, N) matrix, a buffer in the module's dtype.
        synthesis: (N, C) matrix with ``synthesis @ analysis`` = identity to 1e-5.
        band_names: names of the subbands, coarse to fine.
        band_slices: the rows of ``analysis`` (columns of ``synthesis``) of each subband.
        band_shapes: rows and columns of each subband.
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

    analysis: Tensor
    synthesis: Tensor
    band_index: Tensor

    def __init__(self, grid: tuple[int, int], wavelet: str = "haar", levels: int = 2, mode: str = "symmetric") -> None:
        super().__init__()
        self.grid = (int(grid[0]), int(grid[1]))
        self.wavelet, self.levels, self.mode = wavelet, int(levels), mode
        try:
            matrices = _compiled(self.grid, wavelet, self.levels, mode)
        except RuntimeError as error:  # torch cannot reflect a border wider than the grid
            raise AdapterError(
                f"mode={mode!r} cannot continue a {self.grid[0]} x {self.grid[1]} token grid far enough for "
                f"wavelet={wavelet!r}, levels={self.levels}. Use mode='symmetric' or fewer levels."
            ) from error
        _require_reconstruction(matrices, self)
        self.band_names = matrices.names
        self.band_slices = matrices.slices
        self.band_shapes = matrices.shapes
        self.orthogonal = _is_orthogonal(matrices)
        dtype = torch.get_default_dtype()
        self.register_buffer("analysis", matrices.analysis.to(dtype), persistent=False)
        self.register_buffer("synthesis", matrices.synthesis.to(dtype), persistent=False)
        sizes = torch.tensor([s.stop - s.start for s in matrices.slices])
        index = torch.repeat_interleave(torch.arange(len(matrices.slices)), sizes)
        self.register_buffer("band_index", index, persistent=False)

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the grid, N."""
        return self.grid[0] * self.grid[1]

    @property
    def num_coefficients(self) -> int:
        """Number of coefficients, C."""
        return int(self.analysis.shape[0])

    def analyse(self, tokens: Tensor) -> Tensor:
        """Return the coefficients of tokens: (..., N, c) -> (..., C, c)."""
        return torch.matmul(self.analysis.to(tokens.dtype), tokens)

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Return the tokens of coefficients: (..., C, c) -> (..., N, c)."""
        return torch.matmul(self.synthesis.to(coefficients.dtype), coefficients)

    def extra_repr(self) -> str:
        """Show what the transform was made of."""
        return f"grid={self.grid}, wavelet={self.wavelet!r}, levels={self.levels}, mode={self.mode!r}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SubbandTransform:
        # A module cast to bf16 and back, or to float64, must not carry rounded filters: refill from the float64 master.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if not self.analysis.is_meta:
            matrices = _compiled(self.grid, self.wavelet, self.levels, self.mode)
            self.analysis = matrices.analysis.to(device=self.analysis.device, dtype=self.analysis.dtype)
            self.synthesis = matrices.synthesis.to(device=self.synthesis.device, dtype=self.synthesis.dtype)
        return self


@functools.lru_cache(maxsize=64)
def _compiled(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> _Matrices:
    _require_possible(grid, wavelet, levels, mode)
    forward, inverse = _float64_pair(wavelet, levels, mode)
    height, width = grid
    tokens = height * width
    unit_images = torch.eye(tokens, dtype=torch.float64).reshape(tokens, 1, height, width)
    with torch.no_grad():
        low, high = forward(unit_images)
        names, shapes, columns = [f"A{levels}"], [tuple(low.shape[-2:])], [low.reshape(tokens, -1)]
        for level in range(levels, 0, -1):
            details = high[level - 1]  # (N, 1, 3, h, w), finest level first in the list
            for orientation, letter in enumerate("HVD"):
                names.append(f"{letter}{level}")
                shapes.append(tuple(details.shape[-2:]))
                columns.append(details[:, 0, orientation].reshape(tokens, -1))
        analysis = torch.cat(columns, dim=1).T.contiguous()
        slices, start = [], 0
        for column in columns:
            slices.append(slice(start, start + column.shape[1]))
            start += column.shape[1]
        unit = torch.eye(start, dtype=torch.float64)
        low = unit[:, slices[0]].reshape(start, 1, *shapes[0])
        high = [
            torch.stack([unit[:, slices[b]].reshape(start, 1, *shapes[b]) for b in range(first, first + 3)], dim=2)
            for first in range(1 + 3 * (levels - 1), 0, -3)
        ]
        images = inverse((low, high))[..., :height, :width]
        synthesis = images.reshape(start, tokens).T.contiguous()
    return _Matrices(analysis, synthesis, tuple(names), tuple(slices), tuple((int(h), int(w)) for h, w in shapes))


def _float64_pair(wavelet: str, levels: int, mode: str) -> tuple[Any, Any]:
    """Return pytorch_wavelets' transforms with filters in full double precision (it rounds them to float32)."""
    filters = pywt.Wavelet(wavelet)
    forward = DWTForward(J=levels, wave=wavelet, mode=mode).double()
    inverse = DWTInverse(wave=wavelet, mode=mode).double()
    # prep_filt_afb1d mirrors the analysis filters, prep_filt_sfb1d takes the synthesis filters as they are.
    exact = {"h0": filters.dec_lo[::-1], "h1": filters.dec_hi[::-1], "g0": filters.rec_lo, "g1": filters.rec_hi}
    for module in (forward, inverse):
        for name, buffer in module.named_buffers():
            buffer.copy_(torch.tensor(exact[name[:2]], dtype=torch.float64).reshape(buffer.shape))
    return forward, inverse


def _require_possible(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> None:
    if min(grid) < 1:
        raise AdapterError(f"The token grid must have at least one row and column, but it is {grid[0]} x {grid[1]}.")
    if wavelet not in pywt.wavelist(kind="discrete"):
        raise AdapterError(
            f"Unknown wavelet {wavelet!r}. Use a discrete wavelet that PyWavelets knows, e.g. 'haar', 'db2', 'sym4' "
            "or 'bior2.2'."
        )
    if mode not in MODES:
        raise AdapterError(f"Unknown border mode {mode!r}. Use one of {', '.join(MODES)}.")
    deepest = max_levels(grid)
    if not 1 <= levels <= deepest:
        raise AdapterError(
            f"levels={levels} does not fit a token grid of {grid[0]} x {grid[1]}. Use 1 to {deepest}"
            if deepest
            else f"A token grid of {grid[0]} x {grid[1]} is too small for a wavelet transform. Use LoRA on this layer."
        )


def max_levels(grid: tuple[int, int]) -> int:
    """Return the deepest decomposition of a grid: each level halves the shorter side until one token is left."""
    side, levels = min(grid), 0
    while side > 1:
        side = (side + 1) // 2
        levels += 1
    return levels


def _reconstruction_error(matrices: _Matrices) -> float:
    tokens = matrices.analysis.shape[1]
    product = matrices.synthesis @ matrices.analysis
    return float((product - torch.eye(tokens, dtype=torch.float64)).abs().max())


def _require_reconstruction(matrices: _Matrices, transform: SubbandTransform) -> None:
    error = _reconstruction_error(matrices)
    if error <= RECONSTRUCTION_TOLERANCE:
        return
    grid, wavelet, levels = transform.grid, transform.wavelet, transform.levels
    working = [mode for mode in MODES if mode != transform.mode and _reconstructs(grid, wavelet, levels, mode)]
    remedy = f"Use mode={working[0]!r}" if working else "Use fewer levels or wavelet='haar'"
    raise AdapterError(
        f"wavelet={wavelet!r}, levels={levels}, mode={transform.mode!r} does not reconstruct a {grid[0]} x {grid[1]} "
        f"token grid: largest error {error:.1e}, allowed {RECONSTRUCTION_TOLERANCE:.0e}. {remedy}."
    )


def _reconstructs(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> bool:
    try:
        return _reconstruction_error(_compiled(grid, wavelet, levels, mode)) <= RECONSTRUCTION_TOLERANCE
    except (RuntimeError, ValueError):  # a border mode that cannot pad so small a grid
        return False


def _is_orthogonal(matrices: _Matrices) -> bool:
    coefficients, tokens = matrices.analysis.shape
    if coefficients != tokens:
        return False
    gram = matrices.analysis.T @ matrices.analysis
    return bool((gram - torch.eye(tokens, dtype=torch.float64)).abs().max() < RECONSTRUCTION_TOLERANCE)
