"""The figures of the analysis: they say what the data says, readably, in both themes, for any model."""

import concurrent.futures
import copy
import json

import numpy as np
import pytest

from wara.analysis.figures import draw_singular_spectrum, draw_subband_energy
from wara.analysis.style import to_png

THEMES = ["light", "dark"]


def energy_data(
    layers=12, levels=2, method="wara", classes=("normal", "ill"), name="blocks.{}.attn.qkv", patch_size=16
):
    rng = np.random.default_rng(1)
    bands = [f"A{levels}", *(f"{letter}{level}" for level in range(levels, 0, -1) for letter in "HVD")]

    def rows():
        return rng.dirichlet([20, *[1.0] * (len(bands) - 1)], layers).tolist()

    def group():
        return {"tokens": rows(), "update": rows()}

    return {
        "format": 1, "bands": bands, "layers": [name.format(i) for i in range(layers)], "wavelet": "haar",
        "levels": levels, "grid": [14, 14], "patch_size": patch_size, "method": method,
        "own_transform": method != "lora",
        "note": "This method has no wavelet transform of its own." if method == "lora" else None,
        "classes": list(classes), "overall": group(), "per_class": {c: group() for c in classes},
        "even": [[1 / len(bands)] * len(bands)] * layers,
        "n_images": {"overall": 1234, "per_class": dict.fromkeys(classes, 617)},
    }  # fmt: skip


def spectrum_data(layers=12, rank=8, method="wara", name="blocks.{}.attn.qkv"):
    rng = np.random.default_rng(2)
    entries = []
    for i in range(layers):
        values = np.sort(rng.uniform(0.01, 0.8, rank))[::-1]
        entries.append({
            "name": name.format(i), "shape": [576, 192], "singular_values": values.tolist(),
            "effective_rank": float(rng.uniform(1, rank)) if rank > 1 else 1.0, "stable_rank": 1.5,
            "base_singular_values": np.linspace(4, 1, 64).tolist(), "base_effective_rank": 150.0,
            "relative_norm": 0.1 + 0.01 * (i == 5),
        })  # fmt: skip
    return {"format": 1, "method": method, "rank": rank, "layers": entries}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"levels": 1},
        {"levels": 3},
        {"layers": 1},
        {"layers": 48, "name": "layers.{}.blocks.1.mlp.fc1"},
        {"method": "lora", "patch_size": None},
        {"patch_size": 8, "name": "encoder.{}"},
    ],
    ids=str,
)
def test_energy_figure_is_readable(options, theme, assert_readable):
    assert_readable(draw_subband_energy(energy_data(**options), theme=theme))


@pytest.mark.parametrize(
    ("options", "compare", "theme"),
    [
        ({}, None, "light"),
        ({}, "lora", "dark"),
        ({}, "wara", "light"),
        ({"rank": 1}, None, "dark"),
        ({"rank": 1}, "lora", "light"),
        ({"rank": 64}, "lora", "dark"),
        ({"layers": 1}, "wara", "dark"),
        ({"layers": 48, "name": "layers.{}.blocks.1.mlp.fc1"}, "lora", "light"),
    ],
    ids=str,
)
def test_spectrum_figure_is_readable(options, compare, theme, assert_readable):
    other = spectrum_data(method=compare, **options) if compare else None
    assert_readable(draw_singular_spectrum(spectrum_data(**options), compare=other, theme=theme))


def test_energy_figure_shows_every_share_in_per_cent_in_its_row(words):
    data = energy_data(layers=2)
    data["overall"]["update"] = [[0.5, 0.25, 0.125, 0.0625, 0.04, 0.0220, 0.0005], [1.0, 0, 0, 0, 0, 0, 0]]
    data["even"] = [[0.07] * 7] * 2
    found = words(draw_subband_energy(data))
    for number in ("50", "25", "12", "6.2", "4.0", "2.2", "<0.1", "100"):
        assert number in found
    assert found.count("0") == 6
    assert found.count("7.0") == 7  # the row of an even spread
    assert "block 0" in found and "block 1" in found


def test_energy_figure_names_scales_sizes_images_and_class(words):
    data = energy_data()
    found = "\n".join(words(draw_subband_energy(data, cls="ill")))
    for part in ("coarse", "whole picture", "over 64 px", "medium detail", "32–64 px", "finest detail", "16–32 px",
                 "A2", "H1", "horizontal", "WaRA", "617 images", "ill", "attn.qkv"):  # fmt: skip
        assert part in found
    assert "1,234 images, all classes" in "\n".join(words(draw_subband_energy(data)))


def test_energy_figure_of_a_zero_update_shows_dashes(assert_readable, words):
    data = energy_data(layers=3)
    data["overall"]["update"] = [None, None, None]
    figure = draw_subband_energy(data)
    assert words(figure).count("–") == 3 * 7
    assert_readable(figure)


def test_update_tokens_and_class_are_drawn_from_their_own_rows(words):
    data = energy_data(layers=1)
    data["overall"] = {"update": [[0.71, 0.29, 0, 0, 0, 0, 0]], "tokens": [[0.62, 0.38, 0, 0, 0, 0, 0]]}
    data["per_class"]["ill"]["tokens"] = [[0.53, 0.47, 0, 0, 0, 0, 0]]
    assert {"71", "29"} <= set(words(draw_subband_energy(data)))
    assert {"62", "38"} <= set(words(draw_subband_energy(data, of="tokens")))
    assert {"53", "47"} <= set(words(draw_subband_energy(data, of="tokens", cls="ill")))


@pytest.mark.parametrize("place", ["attn.qkv", "attn.proj"])
def test_spectrum_figure_draws_the_values_of_the_layer_that_was_asked_for(place, words):
    data, other = spectrum_data(), spectrum_data(method="lora", rank=4)
    for entry in other["layers"]:  # in the same block, if not in the same layer
        entry["name"] = entry["name"].replace("attn.qkv", place)
    said = "\n".join(words(draw_singular_spectrum(data, compare=other)))
    assert ("LoRA (rank 4, attn.proj)" in said) == (place == "attn.proj")
    assert ("update of attn.qkv" in said) == (place == "attn.qkv")
    figure = draw_singular_spectrum(data, layer="blocks.2.attn.qkv", compare=other)
    ranks, values = figure.axes[:2]
    drawn = [line.get_ydata() for line in values.lines]
    for run in (data, other):
        expected = run["layers"][2]["singular_values"]
        assert any(len(y) == len(expected) and np.allclose(y, expected) for y in drawn)
    assert any(np.allclose(y, data["layers"][2]["base_singular_values"][: len(y)]) for y in drawn if len(y) == 16)
    shown = sorted(x for line in ranks.lines if len(line.get_xdata()) == 12 for x in line.get_xdata())
    assert shown == pytest.approx(sorted(e["effective_rank"] for run in (data, other) for e in run["layers"]))
    assert values.get_yscale() == "log" and values.get_ylabel() and values.get_xlabel() and ranks.get_xlabel()


def test_spectrum_figure_takes_the_layer_that_changed_most_by_itself(words):
    assert "block 5, which changed most" in words(draw_singular_spectrum(spectrum_data()))


def test_spectrum_figure_of_a_zero_update_says_so(assert_readable, words):
    data = spectrum_data(layers=2)
    for entry in data["layers"]:
        entry.update(singular_values=[0.0] * 8, effective_rank=None, stable_rank=None, relative_norm=0.0)
    figure = draw_singular_spectrum(data)
    assert "this layer's update is zero" in words(figure)
    assert_readable(figure)


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match="no class 'x'"):
        draw_subband_energy(energy_data(), cls="x")
    with pytest.raises(ValueError, match="no energy of 'x'"):
        draw_subband_energy(energy_data(), of="x")
    with pytest.raises(ValueError, match="no theme 'x'"):
        draw_subband_energy(energy_data(), theme="x")
    with pytest.raises(ValueError, match="no layer 'x'"):
        draw_singular_spectrum(spectrum_data(), layer="x")


@pytest.mark.parametrize("name", ["$\\frac", "a_b^c", "肺炎", "very long class name " * 6, "<b>", "%d"], ids=ascii)
def test_any_class_name_can_be_drawn(name, assert_readable):
    assert_readable(draw_subband_energy(energy_data(classes=("normal", name)), cls=name))


def test_drawing_leaves_the_data_alone_and_works_from_json():
    data = energy_data()
    before = copy.deepcopy(data)
    first = to_png(draw_subband_energy(data), 1)
    assert data == before
    assert to_png(draw_subband_energy(json.loads(json.dumps(data))), 1) == first


def test_figures_drawn_at_once_in_threads_are_those_drawn_alone():
    energy, spectrum = energy_data(), spectrum_data()
    jobs = [lambda: draw_subband_energy(energy), lambda: draw_singular_spectrum(spectrum, theme="dark")] * 4
    alone = [to_png(job(), 1) for job in jobs]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: to_png(job(), 1), jobs))
    assert together == alone


def test_png_is_900_pixels_wide_and_twice_that_by_default():
    figure = draw_subband_energy(energy_data(layers=1))
    for scale, png in ((1, to_png(figure, 1)), (2, to_png(figure))):
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(png[16:20], "big") == 900 * scale
