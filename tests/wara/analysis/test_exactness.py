"""Energies and spectra are exact, whatever the batches, and made without keeping tokens or a matrix of the update."""

import itertools

import numpy as np
import peft
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.wara.analysis.test_subband_energy import CLASSES, images_and_labels, recorded_tokens
from wara.analysis.singular_spectrum import singular_spectrum, update_singular_values
from wara.analysis.study import ENERGY, measure
from wara.analysis.subband_energy import SubbandEnergy
from wara.tuner import AdaptedLayer, SubbandTransform, TinyWaraConfig, WaraConfig, adapted_layers


class Seen(TorchDispatchMode):
    """Keeps the shapes that operations give."""

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor):
                self.shapes.add(tuple(value.shape))
        return result


def measured(model, batches):
    with SubbandEnergy(model, CLASSES) as energy:
        for images, labels in batches:
            energy.add(images, labels)
    return energy.result()


def numbers(value):
    """Every number in a nested result, in order."""
    if isinstance(value, dict):
        return list(itertools.chain.from_iterable(numbers(value[key]) for key in sorted(value)))
    if isinstance(value, list):
        return list(itertools.chain.from_iterable(map(numbers, value)))
    return [value] if isinstance(value, int | float) else []


@pytest.mark.parametrize("size", [1, 3, 8])
def test_batches_of_any_size_give_the_same_numbers(adapted, size):
    _, model, pixels = adapted
    images, labels = images_and_labels(8, pixels)

    one, batched = (measured(model, zip(images.split(n), labels.split(n), strict=True)) for n in (8, size))

    assert numbers(batched) == pytest.approx(numbers(one), rel=2e-5, abs=1e-7)


def test_a_stream_is_consumed_once_and_each_batch_as_it_comes(make_model):
    model = make_model(WaraConfig(r=4))
    images, labels = images_and_labels(6, 64)
    given = []

    def stream():
        for index in range(6):
            given.append(index)
            yield images[index : index + 1], labels[index : index + 1]

    batches = stream()
    found = measure(model, batches, tuple(CLASSES))

    assert given == list(range(6)) and next(batches, None) is None
    expected = measured(model, [(images, labels)])
    assert found is not None
    assert numbers(found[ENERGY]) == pytest.approx(numbers(expected), rel=2e-5, abs=1e-7)


def test_the_short_ways_of_bfloat16_give_the_same_fractions_to_a_thousandth(make_model):
    model = make_model(WaraConfig(r=4))
    images, labels = images_and_labels(8, 64)
    exact, short = (
        measure(model, [(images, labels)], tuple(CLASSES), precision=precision)[ENERGY]["overall"]
        for precision in ("float32", "bfloat16")
    )
    for kind in ("tokens", "update"):
        assert np.array(short[kind]) == pytest.approx(np.array(exact[kind]), abs=2e-3)


def test_what_is_kept_does_not_grow_with_the_images(make_model):
    model = make_model(WaraConfig(r=4))
    images, labels = images_and_labels(2, 64)

    def kept(energy):
        """Number of values in every tensor that a measurement holds on to."""
        held = [energy._sums]
        for probe in energy._probes:
            held += [value for value in vars(probe).values() if isinstance(value, Tensor)]
            held += list(probe.transform.buffers()) + probe.measured
        return sum(value.numel() for value in held)

    with SubbandEnergy(model, CLASSES) as energy:
        energy.add(images, labels)
        before = kept(energy)
        for _ in range(5):
            energy.add(images, labels)
        assert kept(energy) == before
    assert energy.result()["n_images"]["overall"] == 12


@pytest.mark.parametrize("wavelet", ["haar", "db3", "sym4"])
@pytest.mark.parametrize("kind", ["tokens", "update"])
def test_energy_adds_up_to_that_of_tokens_and_update_where_the_wavelet_is_orthogonal(make_model, wavelet, kind):
    model = make_model(WaraConfig(r=4, wavelet=wavelet, levels=1, mode="periodization"), img_size=128)  # 8 x 8
    images, labels = images_and_labels(3, 128)
    data = measured(model, [(images, labels)])
    expected = []
    for name, tokens in recorded_tokens(model, images).items():
        layer = adapted_layers(model)[name]
        with torch.no_grad():
            values = tokens if kind == "tokens" else layer.update(tokens)
        expected.append(float(values[:, layer.num_prefix_tokens :].double().square().sum() / 3))

    assert data["orthogonal"] is True
    assert data["energy"][kind] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "options", [{"wavelet": "bior2.2"}, {"wavelet": "db2"}, {"wavelet": "coif1", "mode": "zero", "levels": 1}], ids=str
)
def test_shares_are_normalised_where_the_transform_is_not_orthogonal(make_model, options):
    model = make_model(WaraConfig(r=4, **options), img_size=112)  # 7 x 7
    images, labels = images_and_labels(4, 112)
    data = measured(model, [(images, labels)])

    assert data["orthogonal"] is False
    for group in [data["overall"], *data["per_class"].values()]:
        for rows in group.values():
            assert [sum(row) for row in rows] == pytest.approx([1.0, 1.0], abs=1e-6)
            assert all(share >= 0 for row in rows for share in row)
    assert [sum(row) for row in data["even"]] == pytest.approx([1.0, 1.0], abs=1e-6)


def layer_of(out, into, rank, gains, seed=0):
    """An adapted layer without a model, of any size."""
    generator = torch.Generator().manual_seed(seed)
    transform = SubbandTransform((8, 6), "db2", 2)
    return AdaptedLayer(
        name="layer", module=torch.nn.Identity(), base_weight=torch.zeros(0, 0),
        A=torch.randn(rank, into, generator=generator), B=torch.randn(out, rank, generator=generator),
        gains=torch.randn(10 - 3, rank, generator=generator) if gains else None,
        grid=(8, 6), num_prefix_tokens=1, transform=transform, adapter="default",
    )  # fmt: skip


@pytest.mark.parametrize("gains", [False, True])
@pytest.mark.parametrize(("out", "into", "rank"), [(40, 30, 4), (30, 40, 1), (5, 9, 5), (9, 5, 5), (6, 6, 6)])
def test_values_from_the_factors_are_numpys_of_the_dense_product(out, into, rank, gains):
    for seed in range(3):
        layer = layer_of(out, into, rank, gains, seed)
        product = layer.B.double().numpy()
        if gains:
            sizes = np.array([rows.stop - rows.start for rows in layer.transform.band_slices])
            product = product * (sizes[:, None] * layer.gains.double().numpy()).sum(axis=0) / sizes.sum()
        dense = np.linalg.svd(product @ layer.A.double().numpy(), compute_uv=False)[:rank]

        found = update_singular_values(layer)

        assert found.dtype == torch.float64 and len(found) == rank
        np.testing.assert_allclose(found.numpy(), dense, rtol=1e-10, atol=1e-10 * dense[0])


def test_no_matrix_of_the_updates_size_is_made():
    layer = layer_of(700, 500, 8, gains=True)
    with Seen() as seen:
        update_singular_values(layer)

    assert seen.shapes
    assert max(np.prod(shape) for shape in seen.shapes) <= 700 * 8


def test_no_product_of_channels_by_channels_is_made_while_measuring(make_model):
    model = make_model(WaraConfig(r=4, gains="subband-rank"), img_size=128)
    images, _ = images_and_labels(2, 128)
    model(images)
    with SubbandEnergy(model, CLASSES) as energy:
        probe = energy._probes[0]
        tokens = next(iter(recorded_tokens(model, images).values()))
        probe.measured.clear()
        with Seen() as seen, torch.no_grad():
            probe(probe.layer.module, (tokens,))

    assert not {shape for shape in seen.shapes if shape[-1] == 144 or shape[-2:] == (48, 48)}  # r, not e, coordinates
    assert [tuple(m.shape) for m in probe.measured] == [(2, 2, 7)]


@pytest.mark.parametrize(
    "config",
    [
        WaraConfig(r=4, gains="subband-rank"),
        TinyWaraConfig(r=4, u=16, projection="unit"),
        peft.LoraConfig(r=4, target_modules=["qkv"]),
    ],
    ids=["wara", "tiny-wara", "lora"],
)
def test_ranks_are_those_of_their_formulas(make_model, config):
    for layer in singular_spectrum(make_model(config))["layers"]:
        values = np.array(layer["singular_values"])
        assert (np.diff(values) <= 0).all() and (values >= 0).all()
        shares = values / values.sum()
        assert layer["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
        assert layer["stable_rank"] == pytest.approx((values**2).sum() / values[0] ** 2)
        assert 1 <= layer["stable_rank"] <= layer["effective_rank"] <= 4 + 1e-9
