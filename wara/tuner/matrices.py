"""A discrete wavelet transform as matrices, compiled in float64 from ``pytorch_wavelets``, the source of truth.

A transform of a grid of fixed size is linear, so it *is* a matrix: its columns are the coefficients of the unit images.
Pushing the identity through ``pytorch_wavelets`` once gives the analysis matrix (tokens to coefficients), pushing unit
coefficients through its inverse gives the synthesis matrix. Rows and columns of an image are transformed alike and
independently, so that two small matrices a level do the same where the dense one would be large.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import pywt
import torch
from torch import Tensor

from wara.tuner.checks import require_choice, require_wavelet
from wara.tuner.errors import AdapterError

with warnings.catch_warnings():
    # pytorch_wavelets 1.3.0 imports pkg_resources, which warns that it is deprecated; the pin of setuptools keeps it.
    warnings.simplefilter("ignore")
    from pytorch_wavelets import DWT1DForward, DWT1DInverse, DWTForward, DWTInverse

MODES = ("symmetric", "zero", "reflect", "periodization")
RECONSTRUCTION_TOLERANCE = 1e-5
# Up to here one dense product is faster than two thin ones a level, and takes at most some megabytes.
DENSE_TOKENS = 1024
# Whatever the default device is: matrices are kept for other models, and not every device has float64.
_ON_CPU = torch.device("cpu")


class DensePair(NamedTuple):
    """The whole transform of a grid as one matrix each way."""

    analysis: Tensor  # (C, N) float64
    synthesis: Tensor  # (N, C) float64


class SidePair(NamedTuple):
    """One level of the transform along one side of n tokens: low-pass rows first, then as many high-pass rows."""

    analysis: Tensor  # (2 m, n) float64
    synthesis: Tensor  # (n, 2 m) float64


class Bands(NamedTuple):
    """The subbands of a transform from coarse to fine: names, rows among the coefficients, rows and columns of each."""

    names: tuple[str, ...]
    slices: tuple[slice, ...]
    shapes: tuple[tuple[int, int], ...]


def max_levels(grid: tuple[int, int]) -> int:
    """Return the deepest decomposition of a grid: each level halves the shorter side until one token is left."""
    side, levels = min(grid), 0
    while side > 1:
        side = (side + 1) // 2
        levels += 1
    return levels


def require_possible(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> None:
    """Refuse unknown names, and more levels than the grid has.

    Raises:
        AdapterError: what was wrong, with the value and what can be used.
    """
    if min(grid) < 1:
        raise AdapterError(
            f"The token grid must have at least one row and column, but it is {grid[0]} x {grid[1]}. Use a larger grid."
        )
    require_wavelet(wavelet)
    require_choice("mode", mode, MODES)
    deepest = max_levels(grid)
    if not 1 <= levels <= deepest:
        raise AdapterError(
            f"levels={levels} does not fit a token grid of {grid[0]} x {grid[1]}. Use 1 to {deepest}."
            if deepest
            else f"A token grid of {grid[0]} x {grid[1]} is too small for a wavelet transform. Use LoRA on this layer."
        )


@functools.lru_cache(maxsize=16)
def dense_pair(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> DensePair:
    """Return the matrices of the whole transform, by pushing unit images and unit coefficients through it."""
    require_possible(grid, wavelet, levels, mode)
    with torch.no_grad(), _ON_CPU:
        return _dense_pair(grid, wavelet, levels, mode)


def _dense_pair(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> DensePair:
    forward = _with_exact_filters(DWTForward(J=levels, wave=wavelet, mode=mode), wavelet)
    inverse = _with_exact_filters(DWTInverse(wave=wavelet, mode=mode), wavelet)
    height, width = grid
    tokens = height * width
    low, high = forward(torch.eye(tokens, dtype=torch.float64).reshape(tokens, 1, height, width))
    columns = [low.reshape(tokens, -1)]
    for level in range(levels, 0, -1):  # high[0] is the finest; each (N, 1, 3, h, w)
        columns += [high[level - 1][:, 0, orientation].reshape(tokens, -1) for orientation in range(3)]
    analysis = torch.cat(columns, dim=1).T.contiguous()
    bands = bands_of(grid, wavelet, levels, mode)
    unit = torch.eye(len(analysis), dtype=torch.float64)
    images = [unit[:, rows].reshape(-1, 1, *shape) for rows, shape in zip(bands.slices, bands.shapes, strict=True)]
    details = [torch.stack(images[first : first + 3], dim=2) for first in range(3 * levels - 2, 0, -3)]
    tokens_of_units = inverse((images[0], details))[..., :height, :width]
    synthesis = tokens_of_units.reshape(len(analysis), tokens).T.contiguous()
    return DensePair(analysis, synthesis)


@functools.lru_cache(maxsize=64)
def side_pairs(side: int, wavelet: str, levels: int, mode: str) -> tuple[SidePair, ...]:
    """Return the matrices of each level along one side, finest level first."""
    with torch.no_grad(), _ON_CPU:
        return tuple(_side_pairs(side, wavelet, levels, mode))


def _side_pairs(side: int, wavelet: str, levels: int, mode: str) -> Iterator[SidePair]:
    forward = _with_exact_filters(DWT1DForward(J=1, wave=wavelet, mode=mode), wavelet)
    inverse = _with_exact_filters(DWT1DInverse(wave=wavelet, mode=mode), wavelet)
    for _ in range(levels):
        low, high = forward(torch.eye(side, dtype=torch.float64)[:, None])
        half = low.shape[-1]
        analysis = torch.cat([low[:, 0], high[0][:, 0]], dim=1).T.contiguous()
        unit = torch.eye(2 * half, dtype=torch.float64)[:, None]
        synthesis = inverse((unit[..., :half], [unit[..., half:]]))[:, 0, :side].T.contiguous()
        yield SidePair(analysis, synthesis)
        side = half


@functools.lru_cache(maxsize=64)
def bands_of(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> Bands:
    """Return the subbands of a transform, coarse to fine, as `SubbandTransform` orders them."""
    require_possible(grid, wavelet, levels, mode)
    halves = [
        tuple(len(pair.analysis) // 2 for pair in side_pairs(side, wavelet, levels, mode)) for side in grid
    ]  # rows, then columns; finest first
    names, shapes = [f"A{levels}"], [(halves[0][-1], halves[1][-1])]
    for level in range(levels, 0, -1):
        names += [f"{orientation}{level}" for orientation in "HVD"]
        shapes += [(halves[0][level - 1], halves[1][level - 1])] * 3
    slices, start = [], 0
    for rows, columns in shapes:
        slices.append(slice(start, start + rows * columns))
        start += rows * columns
    return Bands(tuple(names), tuple(slices), tuple(shapes))


def reconstruction_error(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> float:
    """Return the largest error with which synthesis after analysis gives the unit images back.

    Measured on every unit image of grids up to `DENSE_TOKENS`; of larger ones along both sides, level by level, with
    the errors compounded: 0 to rounding exactly where the whole transform reconstructs.
    """
    if grid[0] * grid[1] <= DENSE_TOKENS:
        pair = dense_pair(grid, wavelet, levels, mode)
        return _distance_from_identity(pair.synthesis @ pair.analysis)
    compounded = 1.0
    for side in grid:
        for step in side_pairs(side, wavelet, levels, mode):
            compounded *= 1.0 + _distance_from_identity(step.synthesis @ step.analysis)
    return compounded - 1.0


def _distance_from_identity(product: Tensor) -> float:
    return float((product - torch.eye(len(product), dtype=product.dtype, device=product.device)).abs().max())


def is_orthogonal(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> bool:
    """Whether the analysis matrix is orthogonal: where every level is along both sides."""
    return all(
        pair.analysis.shape[0] == pair.analysis.shape[1]
        and _distance_from_identity(pair.analysis @ pair.analysis.T) < RECONSTRUCTION_TOLERANCE
        for side in grid
        for pair in side_pairs(side, wavelet, levels, mode)
    )


def coefficient_norms(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> Tensor:
    """Return the norm of every row of the analysis matrix, (C,) float64, from those of rows and columns.

    A coefficient's functional is a product of one along the rows and one along the columns, and so is its norm.
    """
    low: list[list[Tensor]] = []  # of rows, then of columns; finest level first
    high: list[list[Tensor]] = []
    for side in grid:
        low.append([])
        high.append([])
        reduced = torch.eye(side, dtype=torch.float64, device=_ON_CPU)
        for pair in side_pairs(side, wavelet, levels, mode):
            both = pair.analysis @ reduced
            reduced, details = both.chunk(2)
            low[-1].append(torch.linalg.vector_norm(reduced, dim=1))
            high[-1].append(torch.linalg.vector_norm(details, dim=1))
    norms = [torch.outer(low[0][-1], low[1][-1])]
    for level in range(levels - 1, -1, -1):
        norms.append(torch.outer(high[0][level], low[1][level]))
        norms.append(torch.outer(low[0][level], high[1][level]))
        norms.append(torch.outer(high[0][level], high[1][level]))
    return torch.cat([norm.flatten() for norm in norms])


def require_reconstruction(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> None:
    """Refuse a transform whose inverse does not give the tokens back, and name a mode whose inverse does.

    Raises:
        AdapterError: with the error measured, or because the border cannot be continued so far.
    """
    require_possible(grid, wavelet, levels, mode)
    named = f"wavelet={wavelet!r}, levels={levels}, mode={mode!r}"
    try:
        error = reconstruction_error(grid, wavelet, levels, mode)
    except RuntimeError as cause:  # torch cannot reflect a border wider than the grid
        raise AdapterError(
            f"{named} cannot continue a {grid[0]} x {grid[1]} token grid far enough beyond its border. "
            f"{_remedy(grid, wavelet, levels, mode)}"
        ) from cause
    if error > RECONSTRUCTION_TOLERANCE:
        raise AdapterError(
            f"{named} does not reconstruct a {grid[0]} x {grid[1]} token grid: largest error {error:.1e}, allowed "
            f"{RECONSTRUCTION_TOLERANCE:.0e}. {_remedy(grid, wavelet, levels, mode)}"
        )


def _remedy(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> str:
    for other in MODES:
        if other == mode:
            continue
        try:
            if reconstruction_error(grid, wavelet, levels, other) <= RECONSTRUCTION_TOLERANCE:
                return f"Use mode={other!r}."
        except RuntimeError:  # this mode cannot continue so small a grid
            continue
    return "Use fewer levels or wavelet='haar'."


def _with_exact_filters(module: Any, wavelet: str) -> Any:
    """Return pytorch_wavelets' module with filters in full double precision (it rounds them to float32)."""
    filters = pywt.Wavelet(wavelet)
    # prep_filt_afb1d mirrors the analysis filters, prep_filt_sfb1d takes the synthesis filters as they are.
    exact = {"h0": filters.dec_lo[::-1], "h1": filters.dec_hi[::-1], "g0": filters.rec_lo, "g1": filters.rec_hi}
    module = module.double()
    for name, buffer in module.named_buffers():
        buffer.copy_(torch.tensor(exact[name[:2]], dtype=torch.float64).reshape(buffer.shape))
    return module
