"""Subband energies against PyWavelets on every channel of every image, in float64."""

import json

import numpy as np
import peft
import pytest
import pywt
import timm
import torch

from wara.analysis.subband_energy import SubbandEnergy
from wara.tuner import WaraConfig, adapted_layers

CLASSES = ["healthy", "ill"]


def images_and_labels(n, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, size, size, generator=generator), torch.arange(n) % 2


def pywavelets_energies(tokens, grid, wavelet, levels, mode):
    """Energy of each subband of tokens (N, d), channel by channel."""
    energies = {}
    for channel in np.asarray(tokens, dtype=np.float64).T:
        coarse, *details = pywt.wavedec2(channel.reshape(grid), wavelet, mode=mode, level=levels)
        energies[f"A{levels}"] = energies.get(f"A{levels}", 0) + (coarse**2).sum()
        for level, bands in zip(range(levels, 0, -1), details, strict=True):
            for letter, band in zip("HVD", bands, strict=True):
                energies[f"{letter}{level}"] = energies.get(f"{letter}{level}", 0) + (band**2).sum()
    return energies


def recorded_tokens(model, images):
    """What enters each adapted layer: {name: (B, P + N, d)}."""
    seen, handles = {}, []
    for name, layer in adapted_layers(model).items():
        handles.append(
            layer.module.register_forward_pre_hook(lambda _, inputs, name=name: seen.__setitem__(name, inputs[0]))
        )
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.filterwarnings("ignore:Level value of:UserWarning")  # pywt warns of border effects on grids this small
def test_fractions_are_pywavelets_for_every_method_overall_and_per_class(adapted):
    method, model, size = adapted
    images, labels = images_and_labels(5, size)
    with SubbandEnergy(model, CLASSES) as energy:
        energy.add(images[:2], labels[:2])
        energy.add(images[2:], labels[2:].tolist())
    data = energy.result()
    assert data["method"] == method
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["n_images"] == {"overall": 5, "per_class": {"healthy": 3, "ill": 2}}

    layers = adapted_layers(model)
    transform = next(iter(layers.values())).transform
    wavelet, levels, mode = (
        (transform.wavelet, transform.levels, transform.mode) if transform else ("haar", 2, "symmetric")
    )
    assert (data["wavelet"], data["levels"]) == (wavelet, levels)
    tokens = recorded_tokens(model, images)
    for group, members in {None: range(5), "healthy": (0, 2, 4), "ill": (1, 3)}.items():
        got = data["overall"] if group is None else data["per_class"][group]
        for row, (name, layer) in enumerate(layers.items()):
            with torch.no_grad():
                passing = {"tokens": tokens[name], "update": layer.update(tokens[name])}
            for kind, values in passing.items():
                sums = dict.fromkeys(data["bands"], 0.0)
                for i in members:
                    patches = values[i, layer.num_prefix_tokens :]
                    found = pywavelets_energies(patches, layer.grid, wavelet, levels, mode)
                    sums = {band: sums[band] + found[band] for band in sums}
                expected = np.array([sums[band] for band in data["bands"]])
                assert got[kind][row] == pytest.approx(expected / expected.sum(), abs=2e-5), (name, kind, group)
                assert sum(got[kind][row]) == pytest.approx(1.0)


def test_gains_move_the_updates_energy_to_the_subband_that_they_favour(make_model):
    model = make_model(WaraConfig(r=4, levels=1))
    images, labels = images_and_labels(4, 64)
    for layer in adapted_layers(model).values():
        with torch.no_grad():
            layer.module.wara_gain["default"].copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    with SubbandEnergy(model, CLASSES) as energy:
        energy.add(images, labels)
    data = energy.result()
    assert data["bands"] == ["A1", "H1", "V1", "D1"]
    assert data["overall"]["update"][0] == pytest.approx([0, 0, 0, 1], abs=1e-6)
    assert max(data["overall"]["tokens"][0]) < 0.99


def test_horizontal_stripes_are_horizontal_detail(make_model):
    model = make_model(WaraConfig(r=4, levels=1))
    layer = next(iter(adapted_layers(model).values()))
    stripes = torch.tensor([1.0, -1.0]).repeat(2)[:, None].expand(4, 4).reshape(1, 16, 1)  # rows alternate
    energy = layer.transform.analyse(stripes).square().sum(dim=(0, 2))
    shares = {
        n: float(energy[s].sum()) for n, s in zip(layer.transform.band_names, layer.transform.band_slices, strict=True)
    }
    assert max(shares, key=shares.get) == "H1"


def test_even_share_is_what_white_noise_shows(make_model):
    model = make_model(WaraConfig(r=4, levels=2), img_size=80)
    with SubbandEnergy(model, CLASSES) as energy:
        even = energy.result()["even"][0]
    layer = next(iter(adapted_layers(model).values()))
    noise = np.random.default_rng(0).normal(size=(25, 4000))
    sums = pywavelets_energies(noise, (5, 5), "haar", 2, "symmetric")
    shares = np.array([sums[band] for band in layer.transform.band_names])
    assert even == pytest.approx(shares / shares.sum(), abs=0.01)
    assert sum(even) == pytest.approx(1)


def test_an_update_that_is_still_zero_has_no_fractions(make_model):
    model = make_model(peft.LoraConfig(r=2, target_modules=["qkv"]))
    for layer in adapted_layers(model).values():
        torch.nn.init.zeros_(layer.module.lora_B["default"].weight)
    images, labels = images_and_labels(2, 64)
    with SubbandEnergy(model, CLASSES) as energy:
        energy.add(images, labels)
    assert energy.result()["overall"]["update"] == [None, None]
    assert sum(energy.result()["overall"]["tokens"][0]) == pytest.approx(1)


def test_a_class_without_images_has_no_fractions(make_model):
    model = make_model(WaraConfig(r=2))
    images, _ = images_and_labels(2, 64)
    with SubbandEnergy(model, CLASSES) as energy:
        energy.add(images, [0, 0])
    data = energy.result()
    assert data["per_class"]["ill"]["tokens"] == [None, None]
    assert data["n_images"]["per_class"] == {"healthy": 2, "ill": 0}
    assert data["per_class"]["healthy"] == data["overall"]


def test_lora_says_that_the_transform_is_not_its_own(make_model):
    with SubbandEnergy(make_model(peft.LoraConfig(r=2, target_modules=["qkv"])), CLASSES) as energy:
        data = energy.result()
    assert data["own_transform"] is False and "Haar transform" in data["note"]
    assert data["bands"] == ["A2", "H2", "V2", "D2", "H1", "V1", "D1"]
    with SubbandEnergy(make_model(WaraConfig(r=2)), CLASSES) as energy:
        assert energy.result()["note"] is None


def test_measuring_changes_neither_outputs_nor_mode_and_leaves_no_hook(make_model):
    model = make_model(WaraConfig(r=4, wara_dropout=0.5)).train()
    images, labels = images_and_labels(3, 64)
    with SubbandEnergy(model, CLASSES) as energy:
        assert not model.training
        output = energy.add(images, labels)
    assert model.training
    with torch.no_grad():
        assert torch.equal(model.eval()(images), output)
    assert not any(layer.module._forward_pre_hooks for layer in adapted_layers(model).values())


def test_bf16_autocast_gives_the_same_fractions_to_a_thousandth(make_model):
    model = make_model(WaraConfig(r=4))
    images, labels = images_and_labels(6, 64)
    results = []
    for in_bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16), SubbandEnergy(model, CLASSES) as energy:
            energy.add(images, labels)
        results.append(energy.result()["overall"])
    for kind in ("tokens", "update"):
        assert np.array(results[1][kind]) == pytest.approx(np.array(results[0][kind]), abs=2e-3)


def test_a_batch_in_shares_has_the_energies_of_the_whole_and_the_same_bits_each_time(make_model):
    model = make_model(WaraConfig(r=4))
    images, labels = images_and_labels(9, 64)
    found, outputs = [], []
    for shares in (1, 2, 2):
        with SubbandEnergy(model, CLASSES) as energy:
            outputs.append(energy.add(images, labels, shares=shares))
        found.append(energy.result())
    assert found[1] == found[2] and torch.equal(outputs[1], outputs[2])
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
    for kind in ("tokens", "update"):
        for name in CLASSES:
            whole, shared = (torch.tensor(data["per_class"][name][kind]) for data in found[:2])
            assert torch.allclose(whole, shared, atol=1e-6)


def test_patch_size_is_read_from_the_model_and_can_be_given(make_model):
    model = make_model(WaraConfig(r=2), patch_size=8)
    with SubbandEnergy(model, CLASSES) as energy:
        assert energy.result()["patch_size"] == 8
        assert energy.result()["grid"] == [8, 8]
    with SubbandEnergy(model, CLASSES, patch_size=14) as energy:
        assert energy.result()["patch_size"] == 14


def test_wrong_use_is_refused(make_model):
    with pytest.raises(ValueError, match="no adapted layer"):
        SubbandEnergy(make_model(), CLASSES)
    energy = SubbandEnergy(make_model(WaraConfig(r=2)), CLASSES)
    images, labels = images_and_labels(2, 64)
    with pytest.raises(RuntimeError, match="with block"):
        energy.add(images, labels)
    with energy:
        with pytest.raises(ValueError, match=r"labels of shape \(1,\) for 2 images"):
            energy.add(images, [0])
        with pytest.raises(ValueError, match="labels 0 to 2 for 2 classes"):
            energy.add(images, [0, 2])


@pytest.mark.parametrize(("wavelet", "exact"), [("db2", True), ("bior2.2", False)])
def test_energies_add_up_to_the_tokens_own_where_the_wavelet_is_orthogonal(make_model, wavelet, exact):
    mode = "periodization" if exact else "symmetric"
    model = make_model(WaraConfig(r=4, wavelet=wavelet, levels=1, mode=mode))
    images, labels = images_and_labels(3, 64)
    own = [tokens[:, 1:].square().sum() / 3 for tokens in recorded_tokens(model, images).values()]

    with SubbandEnergy(model, CLASSES) as energy:
        energy.add(images, labels)
    data = energy.result()

    assert data["orthogonal"] is exact
    if exact:
        assert data["energy"]["tokens"] == pytest.approx([float(e) for e in own], rel=1e-4)
    else:
        assert data["energy"]["tokens"] != pytest.approx([float(e) for e in own], rel=1e-2)
    assert [sum(row) for row in data["overall"]["tokens"]] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("method", ["wara", "lora"])
def test_windows_of_tokens_are_summed_over_their_image(method):
    torch.manual_seed(0)
    base = timm.models.SwinTransformer(
        img_size=32, patch_size=4, embed_dim=12, depths=(2, 1), num_heads=(2, 2), window_size=4, num_classes=2
    )
    config = WaraConfig(r=4) if method == "wara" else peft.LoraConfig(r=4, target_modules=["qkv"])
    model = peft.get_peft_model(base, config).eval()
    images, labels = images_and_labels(2, 32)
    windows = next(iter(recorded_tokens(model, images).values()))  # (2 images x 4 windows, 16, 12)

    with SubbandEnergy(model, CLASSES) as energy:
        energy.add(images, labels)
    data = energy.result()

    expected = pywavelets_energies(windows[:4].transpose(1, 2).reshape(-1, 16).T, (4, 4), "haar", 2, "symmetric")
    found = dict(zip(data["bands"], data["per_class"]["healthy"]["tokens"][0], strict=True))
    assert found == pytest.approx({band: e / sum(expected.values()) for band, e in expected.items()}, abs=1e-5)
    assert data["patch_size"] is None


def test_a_large_grid_is_measured_by_thin_matrices_to_the_same_energies(make_model):
    model = make_model(WaraConfig(r=4, levels=3), img_size=160, patch_size=4)  # 40 x 40
    images, labels = images_and_labels(1, 160)
    tokens = next(iter(recorded_tokens(model, images).values()))[0, 1:]

    with SubbandEnergy(model, CLASSES) as energy:
        energy.add(images, labels)
    data = energy.result()

    assert all(layer.transform.separable for layer in adapted_layers(model).values())
    expected = pywavelets_energies(tokens, (40, 40), "haar", 3, "symmetric")
    found = dict(zip(data["bands"], data["overall"]["tokens"][0], strict=True))
    assert found == pytest.approx({band: e / sum(expected.values()) for band, e in expected.items()}, abs=1e-5)
