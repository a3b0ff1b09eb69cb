"""The compiled transform against PyWavelets and pytorch_wavelets, and what it refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wara.tuner import AdapterError, SubbandTransform
from wara.tuner.matrices import MODES, max_levels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_wavelets import DWTForward

WAVELETS = ("haar", "db2", "db4", "sym4", "bior1.3", "bior2.2", "bior4.4", "coif1")


@pytest.mark.parametrize("grid", [(14, 14), (7, 7), (5, 9)])
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_coefficients_are_those_of_pywavelets(wavelet: str, levels: int, grid: tuple[int, int]) -> None:
    image = np.random.default_rng(0).standard_normal(grid)
    transform = SubbandTransform(grid, wavelet, levels).double()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyWavelets warns of borders on small grids
        approximation, *details = pywt.wavedec2(image, wavelet, mode="symmetric", level=levels)
    expected = np.concatenate([approximation.ravel(), *(band.ravel() for level in details for band in level)])
    found = transform.analyse(torch.tensor(image).reshape(-1, 1))[:, 0].numpy()

    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_coefficients_are_those_of_pytorch_wavelets() -> None:
    tokens = torch.randn(2, 14 * 14, 5)
    transform = SubbandTransform((14, 14), "db2", 2, "zero")

    low, high = DWTForward(J=2, wave="db2", mode="zero")(tokens.transpose(1, 2).reshape(2, 5, 14, 14))
    bands = [low, *(high[level][:, :, i] for level in (1, 0) for i in range(3))]
    expected = torch.cat([band.flatten(2) for band in bands], dim=2).transpose(1, 2)

    torch.testing.assert_close(transform.analyse(tokens), expected, atol=1e-5, rtol=1e-5)


@given(
    height=st.integers(2, 12), width=st.integers(2, 12), wavelet=st.sampled_from(WAVELETS),
    levels=st.integers(1, 3), mode=st.sampled_from(MODES),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_transform_reconstructs_or_is_refused(height: int, width: int, wavelet: str, levels: int, mode: str) -> None:
    try:
        transform = SubbandTransform((height, width), wavelet, levels, mode).double()
    except AdapterError as error:
        assert "Use " in str(error)
        return
    tokens = torch.randn(height * width, 2, dtype=torch.float64)
    torch.testing.assert_close(transform.synthesise(transform.analyse(tokens)), tokens, atol=1e-5, rtol=0)


def test_energy_is_kept_where_the_transform_says_that_it_is_orthogonal() -> None:
    transform = SubbandTransform((8, 8), "db2", 1, "periodization").double()
    tokens = torch.randn(64, 3, dtype=torch.float64)

    assert transform.orthogonal
    assert float(transform.analyse(tokens).square().sum()) == pytest.approx(float(tokens.square().sum()))
    assert not SubbandTransform((7, 7), "haar", 1).orthogonal  # an odd side repeats its border


def test_bands_run_from_coarse_to_fine_and_cover_every_coefficient() -> None:
    transform = SubbandTransform((14, 14), "haar", 3)

    assert transform.band_names == ("A3", "H3", "V3", "D3", "H2", "V2", "D2", "H1", "V1", "D1")
    assert transform.band_slices[0].start == 0
    assert transform.band_slices[-1].stop == transform.num_coefficients == transform.analysis.shape[0]
    assert all(a.stop == b.start for a, b in zip(transform.band_slices, transform.band_slices[1:], strict=False))


def test_horizontal_stripes_are_found_in_the_horizontal_details() -> None:
    stripes = torch.tensor([1.0, -1.0]).repeat(4)[:, None].expand(8, 8).reshape(64, 1)  # rows alternate
    transform = SubbandTransform((8, 8), "haar", 1)

    energy = [float(transform.analyse(stripes)[s].square().sum()) for s in transform.band_slices]

    assert energy == pytest.approx([0, 64, 0, 0], abs=1e-4)


def test_casting_to_low_precision_and_back_loses_nothing() -> None:
    transform = SubbandTransform((14, 14), "sym4", 2)
    before = transform.analysis.clone()

    transform.to(torch.bfloat16).to(torch.float32)

    assert torch.equal(transform.analysis, before)
    exact = transform.double()
    eye = torch.eye(196, dtype=torch.float64)
    assert float((exact.synthesis @ exact.analysis - eye).abs().max()) < 1e-9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"wavelet": "harr"}, "Unknown wavelet 'harr'"),
        ({"mode": "mirror"}, "Unknown mode 'mirror'"),
        ({"levels": 9}, "levels=9 does not fit a token grid of 14 x 14. Use 1 to 4"),
        ({"levels": 0}, "levels=0"),
        ({"grid": (1, 1), "levels": 1}, "too small for a wavelet transform"),
        ({"grid": (7, 7), "wavelet": "bior4.4", "mode": "periodization"}, "does not reconstruct a 7 x 7 token grid"),
        ({"grid": (5, 5), "wavelet": "db4", "mode": "reflect"}, "cannot continue a 5 x 5 token grid"),
    ],
)
def test_what_cannot_work_is_refused_with_the_value_and_a_remedy(options: dict[str, object], said: str) -> None:
    with pytest.raises(AdapterError, match="Use ") as caught:
        SubbandTransform(**{"grid": (14, 14), "wavelet": "haar", "levels": 1, **options})
    assert said in str(caught.value)


def test_a_refused_pair_names_a_mode_that_works() -> None:
    with pytest.raises(AdapterError, match="Use mode='symmetric'"):
        SubbandTransform((14, 14), "bior4.4", 2, "periodization")
    assert SubbandTransform((14, 14), "bior4.4", 2, "symmetric").levels == 2


def test_the_deepest_level_leaves_one_token_on_the_shorter_side() -> None:
    assert [max_levels((n, 20)) for n in (1, 2, 3, 7, 14, 16)] == [0, 1, 2, 3, 4, 4]
