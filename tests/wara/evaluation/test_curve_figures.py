"""The figures of the curves can be read and show their numbers."""

import numpy as np
import pytest

from wara.evaluation.calibration import reliability
from wara.evaluation.curve_figures import draw_curves, draw_reliability
from wara.evaluation.curves import all_curves

THEMES = ["light", "dark"]


def predictions(k, n=200, sure=2.0):
    rng = np.random.default_rng(0)
    targets = np.arange(n) % k
    rows = np.exp(sure * (rng.normal(size=(n, k)) + np.eye(k)[targets]))
    return rows / rows.sum(axis=1, keepdims=True), targets


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("k", [2, 3, 7, 12])
def test_curves_are_readable(k, theme, assert_readable):
    found = all_curves(*predictions(k), [f"class {c}" for c in range(k)], replicates=20)
    assert_readable(draw_curves(found, theme))


@pytest.mark.parametrize("name", ["a very long name of a diagnosis indeed, with more", "$x$", "肺炎"])
def test_any_name_can_be_drawn(name, assert_readable):
    rows, targets = predictions(2)
    assert_readable(draw_curves(all_curves(rows, targets, ["no", name], replicates=5)))
    assert_readable(draw_reliability(reliability(rows, targets), positive=name))
    rows, targets = predictions(3)
    assert_readable(draw_curves(all_curves(rows, targets, ["no", name, "b"], replicates=5)))


def test_areas_and_prevalence_are_told(words):
    found = all_curves(*predictions(2), ["healthy", "ill"], replicates=5)
    text = "\n".join(words(draw_curves(found)))
    assert f"area {found['ill']['roc']['auroc']:.3f}" in text and "50 % of the images are" in text
    assert f"mean precision {found['ill']['precision_recall']['average_precision']:.3f}" in text
    drawn = [list(line.get_ydata()) for line in draw_curves(found).axes[0].lines]
    assert found["ill"]["roc"]["sensitivity"] in drawn


def test_no_curve_at_all_says_so(words, assert_readable):
    figure = draw_curves({})
    assert "not defined here" in words(figure)
    assert_readable(figure)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("k", "n"), [(2, 400), (2, 12), (5, 400)])
def test_the_reliability_curve_is_readable(k, n, theme, assert_readable):
    rows, targets = predictions(k, n)
    points, raw = reliability(rows, targets), reliability(predictions(k, n, 5.0)[0], targets)
    assert_readable(draw_reliability(points, raw, positive="ill" if k == 2 else None, theme=theme))


def test_the_networks_own_curve_is_drawn_only_where_it_is_another(words):
    rows, targets = predictions(2)
    points = reliability(rows, targets)
    assert "the network's own" not in words(draw_reliability(points, points))
    figure = draw_reliability(points, reliability(predictions(2, sure=5.0)[0], targets))
    assert "the network's own" in words(figure)
    assert [p["observed"] for p in points] in [list(line.get_ydata()) for line in figure.axes[0].lines]


def test_a_reliability_curve_without_images_says_so(words):
    assert any("no images" in text for text in words(draw_reliability([])))
