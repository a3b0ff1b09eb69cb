"""Singular spectra against numpy's dense SVD of the whole update."""

import json

import numpy as np
import peft
import pytest
import torch

from wara.analysis.singular_spectrum import effective_rank, singular_spectrum, stable_rank
from wara.tuner import WaraConfig, adapted_layers


def dense_update(layer):
    up, down = layer.B.double().numpy(), layer.A.double().numpy()
    if layer.gains is None:
        return up @ down
    of_coefficient = np.concatenate(
        [
            np.tile(layer.gains[s].numpy(), (rows.stop - rows.start, 1))
            for s, rows in enumerate(layer.transform.band_slices)
        ]
    )
    return up @ np.diag(of_coefficient.astype(np.float64).mean(axis=0)) @ down


def test_values_and_ranks_are_numpys_for_every_method(adapted):
    method, model, _ = adapted
    data = singular_spectrum(model)
    assert data["method"] == method and data["rank"] == 4
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    for got, layer in zip(data["layers"], adapted_layers(model).values(), strict=True):
        update, base = dense_update(layer), layer.base_weight.double().numpy()
        values = np.linalg.svd(update, compute_uv=False)[:4]
        assert got["name"] == layer.name and got["shape"] == [144, 48]
        assert got["singular_values"] == pytest.approx(values, rel=1e-5, abs=1e-9)
        shares = values / values.sum()
        assert got["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
        assert got["stable_rank"] == pytest.approx((np.linalg.norm(update) / np.linalg.norm(update, 2)) ** 2, rel=1e-6)
        assert got["base_singular_values"] == pytest.approx(np.linalg.svd(base, compute_uv=False), rel=1e-6)
        assert got["relative_norm"] == pytest.approx(np.linalg.norm(update) / np.linalg.norm(base), rel=1e-6)


def test_lora_values_are_those_of_pefts_own_delta_weight(make_model):
    model = make_model(peft.LoraConfig(r=4, lora_alpha=8, target_modules=["qkv"]))
    for got, layer in zip(singular_spectrum(model)["layers"], adapted_layers(model).values(), strict=True):
        delta = layer.module.get_delta_weight("default").detach().numpy()
        assert got["singular_values"] == pytest.approx(np.linalg.svd(delta, compute_uv=False)[:4], rel=1e-4)


def test_mean_gain_is_the_weight_nearest_to_the_whole_update(make_model):
    """The least-squares weight over inputs without structure, found by regression, has the same spectrum."""
    model = make_model(WaraConfig(r=3, levels=2, gains="subband-rank", num_prefix_tokens=None))
    layer = next(iter(adapted_layers(model).values()))
    assert layer.transform.orthogonal
    x = torch.randn(600, layer.num_prefix_tokens + 16, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        u = layer.update(x)[:, layer.num_prefix_tokens :].reshape(-1, 144).numpy()
    inputs = x[:, layer.num_prefix_tokens :].reshape(-1, 48).numpy()
    fitted = np.linalg.lstsq(inputs, u, rcond=None)[0].T
    values = np.linalg.svd(fitted, compute_uv=False)[:3]
    assert singular_spectrum(model)["layers"][0]["singular_values"] == pytest.approx(values, rel=0.03)


@pytest.mark.parametrize(
    ("values", "effective", "stable"),
    [
        ([3.0, 3.0, 3.0, 3.0], 4.0, 4.0),
        ([5.0, 0.0, 0.0], 1.0, 1.0),
        ([2.0, 1.0], 1.8898815748, 1.25),
        ([0.0, 0.0], None, None),
    ],
)
def test_ranks_of_spectra_known_by_hand(values, effective, stable):
    # exp(-(2/3 ln 2/3 + 1/3 ln 1/3)) = 3 / 2^(2/3) = 1.88988...
    assert effective_rank(torch.tensor(values, dtype=torch.float64)) == pytest.approx(effective)
    assert stable_rank(torch.tensor(values, dtype=torch.float64)) == pytest.approx(stable)


def test_an_untrained_update_has_no_rank(make_model):
    model = make_model(WaraConfig(r=2))
    for layer in adapted_layers(model).values():
        torch.nn.init.zeros_(layer.module.wara_B["default"])
    layer = singular_spectrum(model)["layers"][0]
    assert layer["singular_values"] == [0.0, 0.0]
    assert layer["effective_rank"] is None and layer["stable_rank"] is None and layer["relative_norm"] == 0.0


def test_a_model_without_adapters_is_refused(make_model):
    with pytest.raises(ValueError, match="no adapted layer"):
        singular_spectrum(make_model())
