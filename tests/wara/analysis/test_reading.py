"""The sentences beside the figures say what the data says."""

import pytest

from wara.analysis.reading import read_singular_spectrum, read_subband_energy

BANDS = ["A2", "H2", "V2", "D2", "H1", "V1", "D1"]


def energy(update, tokens):
    group = {"update": update, "tokens": tokens}
    return {
        "bands": BANDS, "levels": 2, "patch_size": 16, "classes": ["ill"],
        "overall": group, "per_class": {"ill": group},
    }  # fmt: skip


def spectrum(ranks, rank=8, method="wara", norms=None):
    norms = norms or [0.1] * len(ranks)
    layers = [
        {"name": f"blocks.{i}.attn.qkv", "effective_rank": value, "relative_norm": norm}
        for i, (value, norm) in enumerate(zip(ranks, norms, strict=True))
    ]
    return {"method": method, "rank": rank, "layers": layers}


def test_energy_is_summed_by_scale_and_averaged_over_layers():
    rows = [[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [0.6, 0, 0, 0, 0.2, 0.1, 0.1]]
    text = read_subband_energy(energy(rows, rows))
    assert "50 % is coarse (over 64 px), 15 % is medium detail (32–64 px) and 35 % is finest detail (16–32 px)" in text
    assert "prefers no scale" in text


def test_energy_says_where_the_update_leans_compared_with_the_tokens():
    update, tokens = [[0.3, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1]], [[0.6, 0.05, 0.05, 0.1, 0.1, 0.05, 0.05]]
    text = read_subband_energy(energy(update, tokens))
    assert "leans towards finest detail (16–32 px) by 20 points and away from coarse (over 64 px) by 30" in text
    assert "leans" not in read_subband_energy(energy(update, tokens), of="tokens")


def test_energy_of_a_class_is_named_and_nothing_is_called_nothing():
    rows = [[1.0, 0, 0, 0, 0, 0, 0]]
    assert "images of the class 'ill'" in read_subband_energy(energy(rows, rows), cls="ill")
    assert "nothing was added yet" in read_subband_energy(energy([None], rows))
    with pytest.raises(ValueError, match="no class"):
        read_subband_energy(energy(rows, rows), cls="healthy")


@pytest.mark.parametrize(
    ("ranks", "verdict"),
    [
        ([7.0, 7.4], "most of what the rank allows"),
        ([2.0, 3.0], "a smaller one may do"),
        ([4.0, 5.0], "a good part"),
    ],
)
def test_spectrum_says_how_much_of_the_rank_is_used(ranks, verdict):
    text = read_singular_spectrum(spectrum(ranks))
    assert verdict in text
    assert f"{sum(ranks) / 2:.1f} on average, from {ranks[0]:.1f} (block 0) to {ranks[1]:.1f} (block 1)" in text


def test_spectrum_names_the_chosen_layer_and_the_run_beside_it():
    data = spectrum([4.0, 5.0], norms=[0.2, 0.004])
    assert "In block 0 the change is 20 % as strong" in read_singular_spectrum(data)
    assert "In block 1 the change is less than 1 %" in read_singular_spectrum(data, layer="blocks.1.attn.qkv")
    assert "LoRA uses 3.0 of 4." in read_singular_spectrum(data, compare=spectrum([3.0, 3.0], rank=4, method="lora"))
    assert "The other run uses 3.0 of 4." in read_singular_spectrum(data, compare=spectrum([3.0], rank=4))


def test_spectrum_of_rank_one_and_of_no_change():
    assert "with rank 1 there is only one" in read_singular_spectrum(spectrum([1.0], rank=1))
    assert "Nothing was changed yet" in read_singular_spectrum(spectrum([None], norms=[0.0]))
