"""The compiled transform against its two oracles, over wavelets, depths, borders, grids and precisions.

The oracles are PyWavelets and pytorch_wavelets' own modules. They agree wherever a transform is made. Where a border by
periodization is refused they differ: pytorch_wavelets wraps a filter longer than a side once, PyWavelets as often as it
takes, and only the latter then reconstructs.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from tests.wara.tuner.written import transforms
from wara.tuner import AdapterError, SubbandTransform
from wara.tuner.matrices import DENSE_TOKENS, MODES, max_levels

WAVELETS = ("haar", "db2", "db3", "db4", "sym2", "sym3", "sym4", "bior1.3", "bior2.2", "bior4.4", "coif1")
GRIDS = ((14, 14), (7, 7), (16, 16), (8, 8), (5, 9), (37, 37))
CHANNELS = 3
# A coefficient is a sum of products whose terms may cancel; each term rounds by half an epsilon.
EPSILONS = 12  # 8.1 measured

each_wavelet = pytest.mark.parametrize("wavelet", WAVELETS)


@functools.cache
def tokens_of(grid: tuple[int, int]) -> Tensor:
    """Tokens without structure, (N, 3) float64."""
    generator = torch.Generator().manual_seed(grid[0] * 100 + grid[1])
    return torch.randn(grid[0] * grid[1], CHANNELS, generator=generator, dtype=torch.float64)


def combinations() -> Iterator[tuple[tuple[int, int], int, str]]:
    for grid in GRIDS:
        for levels in range(1, max_levels(grid) + 1):
            for mode in MODES:
                yield grid, levels, mode


def of_pywavelets(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> Tensor:
    images = tokens_of(grid).T.reshape(CHANNELS, *grid).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyWavelets warns of borders on small grids
        low, *details = pywt.wavedec2(images, wavelet, mode=mode, level=levels)
    bands = [low, *(band for level in details for band in level)]
    return torch.tensor(np.concatenate([band.reshape(CHANNELS, -1) for band in bands], axis=1)).T


def of_pytorch_wavelets(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> Tensor:
    forward, _ = transforms(wavelet, levels, mode)
    low, high = forward(tokens_of(grid).T.reshape(1, CHANNELS, *grid))
    bands = [low[0], *(high[level][0, :, i] for level in reversed(range(levels)) for i in range(3))]
    return torch.cat([band.reshape(CHANNELS, -1) for band in bands], dim=1).T


@dataclass
class Measured:
    """What was measured of one combination: a text that refuses it, or largest errors."""

    grid: tuple[int, int]
    levels: int
    mode: str
    refusal: str = ""
    errors: dict[str, float] = field(default_factory=dict)  # against each oracle, of reconstruction, of thin matrices
    epsilons: dict[torch.dtype, float] = field(default_factory=dict)  # errors in low precision, in its epsilons


@functools.cache
def measured(wavelet: str) -> list[Measured]:
    """Make every combination of a wavelet once, and measure it."""
    return [_measure(wavelet, Measured(*combination)) for combination in combinations()]


def _measure(wavelet: str, m: Measured) -> Measured:
    key = m.grid, wavelet, m.levels, m.mode
    try:
        transform = SubbandTransform(*key).double()
    except AdapterError as error:
        m.refusal = str(error)
        return m
    tokens = tokens_of(m.grid)
    coefficients = transform.analyse(tokens)
    for oracle in (of_pywavelets, of_pytorch_wavelets):
        expected = oracle(*key)
        assert coefficients.shape == expected.shape, f"{key} {oracle.__name__}"
        m.errors[oracle.__name__] = _largest(coefficients, expected)
    m.errors["reconstruction"] = _largest(transform.synthesise(coefficients), tokens)
    if not transform.separable:
        thin = SubbandTransform(*key, separable=True).double()
        m.errors["thin analysis"] = _largest(thin.analyse(tokens), coefficients)
        m.errors["thin synthesis"] = _largest(thin.synthesise(coefficients), transform.synthesise(coefficients))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        if dtype == torch.float32 or len(tokens) <= 64:  # the others are slow without hardware for them
            m.epsilons[dtype] = _error_in(dtype, transform, tokens) / torch.finfo(dtype).eps
            transform.double()
    return m


def _error_in(dtype: torch.dtype, transform: SubbandTransform, tokens: Tensor) -> float:
    """Return the largest error of both ways relative to the largest value, leaving the transform in the dtype."""
    tokens = tokens.to(dtype)
    expected = transform.analyse(tokens.double())
    coefficients = expected.to(dtype)
    back = transform.synthesise(coefficients.double())
    transform.to(dtype)
    found = transform.analyse(tokens), transform.synthesise(coefficients)
    assert found[0].dtype == found[1].dtype == dtype
    pairs = zip(found, (expected, back), strict=True)
    return max(_largest(one.double(), other) / float(other.abs().max()) for one, other in pairs)


def _largest(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


@each_wavelet
def test_what_is_made_equals_both_oracles_and_reconstructs(wavelet: str) -> None:
    made = [m for m in measured(wavelet) if not m.refusal]
    assert len(made) > 50
    for m in made:
        assert m.errors["of_pywavelets"] < 1e-10, m
        assert m.errors["of_pytorch_wavelets"] < 1e-10, m
        assert m.errors["reconstruction"] < 1e-5, m


@each_wavelet
def test_what_is_refused_does_not_reconstruct_and_the_mode_that_is_named_does(wavelet: str) -> None:
    made = {(m.grid, m.levels, m.mode) for m in measured(wavelet) if not m.refusal}
    for m in (m for m in measured(wavelet) if m.refusal):
        remedy = re.search(r"Use mode='(\w+)'\.$", m.refusal)
        assert remedy is not None and (m.grid, m.levels, remedy[1]) in made, m
        assert m.mode in ("reflect", "periodization")  # the others always reconstruct
        error = re.search(r"largest error (\S+), allowed 1e-05", m.refusal)
        if error is None:
            said = f"cannot continue a {m.grid[0]} x {m.grid[1]} token grid far enough beyond its border"
            assert said in m.refusal and m.mode == "reflect"
            continue
        assert float(error[1]) > 1e-5
        if m.grid in ((7, 7), (5, 9), (8, 8)):
            expected = error_of_pytorch_wavelets(m.grid, wavelet, m.levels, m.mode)
            assert float(error[1]) == pytest.approx(expected, rel=0.06), m


def error_of_pytorch_wavelets(grid: tuple[int, int], wavelet: str, levels: int, mode: str) -> float:
    forward, inverse = transforms(wavelet, levels, mode)
    units = torch.eye(grid[0] * grid[1], dtype=torch.float64).reshape(-1, 1, *grid)
    return _largest(inverse(forward(units))[..., : grid[0], : grid[1]], units)


@pytest.mark.parametrize("wavelet", ["db3", "bior4.4"])
def test_where_periodization_is_refused_the_oracles_differ(wavelet: str) -> None:
    refused = [m for m in measured(wavelet) if m.mode == "periodization" and m.refusal and m.grid != (37, 37)]
    assert refused
    for m in refused:
        key = m.grid, wavelet, m.levels, m.mode
        assert _largest(of_pytorch_wavelets(*key), of_pywavelets(*key)) > 1e-3, key


@each_wavelet
def test_low_precision_is_exact_to_a_few_epsilons(wavelet: str) -> None:
    for m in measured(wavelet):
        assert all(error < EPSILONS for error in m.epsilons.values()), m


@each_wavelet
def test_thin_matrices_give_the_numbers_of_the_dense_one(wavelet: str) -> None:
    for m in measured(wavelet):
        if not m.refusal and m.grid[0] * m.grid[1] <= DENSE_TOKENS:
            assert m.errors["thin analysis"] < 1e-10 and m.errors["thin synthesis"] < 1e-10, m
