"""The comparison of classes by scale: its ratios, what it draws, and when there is nothing to compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wara.analysis.figures import class_ratios, draw_classes
from wara.analysis.style import to_png


def measured(**per_class: list[float]) -> dict[str, Any]:
    """Energies of two layers over A1, H1, V1, D1; the first layer's are those given, the second has none."""
    mean = np.mean(list(per_class.values()), axis=0).tolist()
    counts = dict.fromkeys(per_class, 3)
    return {
        "method": "wara", "bands": ["A1", "H1", "V1", "D1"], "levels": 1, "patch_size": 16,
        "layers": ["blocks.0.attn.qkv", "blocks.1.attn.qkv"], "classes": list(per_class),
        "n_images": {"overall": 3 * len(per_class), "per_class": counts},
        "overall": {"update": [mean, None], "tokens": [mean, None]},
        "per_class": {name: {"update": [row, None], "tokens": [row, None]} for name, row in per_class.items()},
    }  # fmt: skip


def test_a_ratio_is_the_share_of_a_scale_over_that_of_all_images() -> None:
    data = measured(coarse=[0.8, 0.1, 0.05, 0.05], fine=[0.4, 0.3, 0.2, 0.1])

    ratios = class_ratios(data)

    assert list(ratios["fine"]) == ["coarse (over 32 px)", "fine detail (16\N{EN DASH}32 px)"]
    assert list(ratios["coarse"].values()) == pytest.approx([0.8 / 0.6, 0.2 / 0.4])
    assert list(ratios["fine"].values()) == pytest.approx([0.4 / 0.6, 0.6 / 0.4])


def test_bars_start_at_one_and_carry_their_number_and_the_name_of_their_class() -> None:
    figure = draw_classes(measured(coarse=[0.8, 0.1, 0.05, 0.05], fine=[0.4, 0.3, 0.2, 0.1]))

    (axes,) = figure.axes
    tops = [bar.get_y() + bar.get_height() for bar in axes.patches]
    assert tops == pytest.approx([4 / 3, 0.5, 2 / 3, 1.5])
    assert {text.get_text() for text in axes.texts} == {"×1.33", "×0.50", "×0.67", "×1.50"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["coarse", "fine"]


def test_an_example_of_each_class_stands_above_on_dark_ground_with_its_name() -> None:
    data = measured(coarse=[0.8, 0.1, 0.05, 0.05], fine=[0.4, 0.3, 0.2, 0.1])
    grey, colour = np.zeros((20, 30), np.uint8), np.zeros((20, 30, 3), np.uint8)

    figure = draw_classes(data, examples={"coarse": grey, "fine": colour}, theme="dark")

    names = [axes.get_xlabel() for axes in figure.axes if axes.images]
    assert names == ["coarse", "fine"]
    assert all(axes.get_facecolor()[:3] == (0, 0, 0) for axes in figure.axes if axes.images)
    assert to_png(figure).startswith(b"\x89PNG")


def test_one_class_or_no_update_is_nothing_to_compare() -> None:
    data = measured(alone=[0.8, 0.1, 0.05, 0.05])
    with pytest.raises(ValueError, match="there are 1 classes"):
        draw_classes(data)
    data["overall"]["update"] = [None, None]
    assert class_ratios(data) == {}


def test_beside_more_than_eight_classes_the_first_eight_are_drawn() -> None:
    data = measured(**{f"c{number}": [0.7, 0.1, 0.1, 0.1] for number in range(11)})
    assert len(draw_classes(data).legends[0].get_texts()) == 8
