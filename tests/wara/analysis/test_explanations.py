"""Explanations as a person meets them: the sentence, the figure, and the scales that each class used."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.wara.analysis.conftest import CONFIGS
from wara.analysis.class_scales import ClassScales, class_scales
from wara.analysis.class_scales_figure import draw_class_scales, read_class_scales
from wara.analysis.explain import Explanation, shares_of
from wara.analysis.explanation_figure import draw_explanation, write_explanation
from wara.analysis.scales import scales_of
from wara.analysis.study import measure_class_scales, write_class_scales


def explanation(contributions=(0.71, 0.2, 0.09), side=14, levels=2, **changes):
    rng = np.random.default_rng(0)
    bands = (f"A{levels}", *(f"{letter}{level}" for level in range(levels, 0, -1) for letter in "HVD"))
    contributions = np.array(contributions, dtype=float)
    values = {
        "file": "one.png", "classes": ("coarse_mass", "normal"), "label": "coarse_mass", "probabilities": (0.9, 0.1),
        "target": "coarse_mass", "against": "normal", "scales": tuple(scales_of(bands, levels, 16)),
        "contributions": tuple(contributions), "shares": shares_of(contributions), "bands": bands,
        "by_band": (0.1,) * len(bands), "layers": ("blocks.0.attn.qkv",), "by_layer": (tuple(contributions),),
        "prefix": 0.0, "on": 1.0, "off": 0.0, "residual": 0.0,
        "maps": rng.normal(size=(levels + 1, side, side)).astype(np.float32),
        "attention": rng.uniform(size=(side, side)).astype(np.float32), "attention_note": None,
        "pixels": rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), "aspect": 1.0, "patch_size": 16,
        "own_transform": True, "method": "wara",
    }  # fmt: skip
    return Explanation(**(values | changes))


def test_the_sentence_names_the_scale_that_carried_the_change():
    found = explanation().sentence()
    assert "coarse scales, 64 px and more, carried 71 % of the change towards “coarse_mass”" in found
    assert "medium scales (32–64 px) 20 %" in found and "class token" not in found


def test_the_sentence_says_what_pulled_the_other_way_and_what_the_class_token_did():
    found = explanation((0.8, -0.2, 0.0), prefix=0.4).sentence()
    assert "medium scales (32–64 px) pulled the other way by 20 %" in found and "+0.4 of that" in found
    assert "away from “coarse_mass”" in explanation((-0.8, 0.1, 0.1), on=0.0, off=0.6).sentence()


@pytest.mark.parametrize("changes", [{"on": 0.01}, {"contributions": (0.0, 0.0, 0.0), "shares": None}])
def test_an_update_that_did_nothing_is_said_to_have_done_nothing(changes):
    assert "hardly changed" in dataclasses.replace(explanation(), **changes).sentence()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "changes",
    [
        {}, {"aspect": 0.6}, {"aspect": 1.7}, {"attention": None, "attention_note": "Why."}, {"own_transform": False},
        {"levels": 1, "contributions": (0.5, -0.5)}, {"levels": 3, "contributions": (0.5, -0.5, 0.1, 0.1)},
        {"target": "very long name of a class " * 4, "against": "$x_1$ 肺炎"}, {"side": 37},
        {"maps": np.zeros((3, 14, 14), dtype=np.float32)},
    ],
    ids=str,
)  # fmt: skip
def test_the_figure_is_readable(changes, theme, assert_readable):
    assert_readable(draw_explanation(explanation(**changes), theme=theme))


def test_the_figure_shows_every_scale_and_its_share(words):
    found = "\n".join(words(draw_explanation(explanation())))
    for part in ("Coarse, over 64 px", "71 % of the change", "Medium", "Finest, 16–32 px", "Attention", "coarse_mass"):
        assert part in found


def test_files_of_images_of_one_name_stay_apart_and_hold_plain_json(tmp_path):
    files = [path for number in (1, 2) for path in write_explanation(tmp_path, number, explanation(file="../a b.png"))]
    assert [path.name for path in files] == [
        "001_a_b.png.png",
        "001_a_b.png.json",
        "002_a_b.png.png",
        "002_a_b.png.json",
    ]
    data = json.loads(files[1].read_text())
    assert data["scales"][0]["share"] == pytest.approx(0.71) and len(data["scales"][0]["map"]) == 14


def batches(size, number=3, groups=True):
    generator = torch.Generator().manual_seed(3)
    for start in range(number):
        images = torch.randn(4, 3, size, size, generator=generator)
        batch = images, torch.tensor([0, 1, 0, 1])
        yield (*batch, [f"p{start}"] * 4) if groups else batch


def test_shares_of_a_class_sum_to_one_and_lie_in_their_intervals(adapted):
    _, model, size = adapted
    data = class_scales(model, batches(size), ["healthy", "ill"])
    json.dumps(data, allow_nan=False)
    assert data["interval"] == "patients" and data["capped"] is None
    for entry in data["per_class"].values():
        assert entry["images"] == 6
        assert sum(part["share"]["value"] for part in entry["scales"]) == pytest.approx(1)
        total = sum(part["contribution"]["value"] for part in entry["bands"]) + entry["prefix"]
        assert total == pytest.approx(entry["change"], rel=0.2, abs=0.1)
        for part in entry["scales"]:
            assert part["contribution"]["low"] <= part["contribution"]["value"] <= part["contribution"]["high"]


def test_batches_do_not_change_what_is_measured_and_a_cap_stops_the_reading(make_model):
    model = make_model(CONFIGS["wara"]())
    images, labels = torch.randn(6, 3, 64, 64), torch.tensor([0, 0, 0, 1, 1, 1])
    whole, parts = ClassScales(model, ["a", "b"]), ClassScales(model, ["a", "b"])
    whole.add(images, labels)
    for row in range(6):
        parts.add(images[row : row + 1], labels[row : row + 1])
    first, second = whole.result(), parts.result()
    for name in ("a", "b"):
        assert first["per_class"][name]["change"] == pytest.approx(second["per_class"][name]["change"], abs=1e-4)
    read = []
    capped = class_scales(
        model, (read.append(1) or batch for batch in batches(64, groups=False)), ["a", "b"], per_class=2
    )
    assert len(read) == 1 and capped["capped"] == 2 and capped["interval"] == "images"
    assert [entry["images"] for entry in capped["per_class"].values()] == [2, 2]


@pytest.mark.parametrize(
    ("groups", "drawn"),
    [
        (["", "", "", ""], "images"), ([None, None, None, None], "images"), ([None, "", "p1", None], "patients"),
        (["file-a.dcm", "file-a.dcm", "", ""], "files"), (["file-a.dcm", "p1", "", ""], "patients"),
    ],
)  # fmt: skip
def test_intervals_are_said_to_be_over_patients_only_where_some_are_known(make_model, words, groups, drawn):
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(4, 3, 64, 64, generator=generator), torch.tensor([0, 1, 0, 1]), groups
    data = class_scales(make_model(CONFIGS["wara"]()), [batch], ["a", "b"])
    assert data["interval"] == drawn
    assert f"95 % intervals over {drawn}." in "\n".join(words(draw_class_scales(data)))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("config", ["wara", "lora", "wara-gelu"])
def test_the_figure_of_classes_is_readable_and_so_is_its_sentence(make_model, config, theme, assert_readable, tmp_path):
    data = measure_class_scales(
        make_model(CONFIGS[config]()), batches(64), ("healthy", "ill with a long name $"), per_class=3, check=2
    )
    assert_readable(draw_class_scales(data, theme=theme))
    assert "'healthy' used" in read_class_scales(data) and "%" in read_class_scales(data)
    assert data["check"]["recomputed"] == pytest.approx(1, abs=1e-3)
    assert [path.name for path in write_class_scales(tmp_path, data)] == ["class_scales.json", "class_scales.png"]
