"""Prediction sets: that they hold what they promise."""

import numpy as np
import pytest
from scipy.special import softmax

from wara.errors import InputError
from wara.evaluation.conformal import fit_conformal, measure_sets


def drawn(n, k=4, seed=0):
    """Exchangeable images, and a model that knows something of them but is far too sure."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, k, n)
    return softmax(3 * (rng.normal(size=(n, k)) + np.eye(k)[targets]), axis=1), targets


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("method", ["lac", "aps"])
def test_on_exchangeable_images_the_coverage_holds_whatever_the_model(method, coverage):
    held = []
    for trial in range(200):
        rows, targets = drawn(300, seed=trial)
        conformal = fit_conformal(rows[:100], targets[:100], coverage, method)
        held.append(measure_sets(conformal, rows[100:], targets[100:])["coverage"]["value"])
    assert np.mean(held) >= coverage - 0.005
    if method == "lac":  # and does not waste: the exact mean lies below coverage + 1 / (n + 1)
        assert np.mean(held) <= coverage + 1 / 101 + 0.01


def test_the_quantile_is_the_finite_sample_one():
    rows = np.array([[p, 1 - p] for p in np.linspace(0.05, 0.95, 19)])
    # Scores of the true class 0: 0.95, 0.90 ... 0.05; ceil(20 * 0.9) = 18th smallest.
    assert fit_conformal(rows, [0] * 19, 0.9).quantile == pytest.approx(0.90)
    assert fit_conformal(rows, [0] * 19, 0.95).quantile == pytest.approx(0.95)
    assert fit_conformal(rows, [0] * 19, 0.96).quantile is None


def test_lac_takes_every_class_above_one_probability():
    conformal = fit_conformal(np.tile([0.7, 0.2, 0.1], (30, 1)), [0] * 27 + [1] * 3, 0.95)
    assert conformal.quantile == pytest.approx(0.8)
    assert conformal.sets([[0.5, 0.3, 0.2], [0.9, 0.06, 0.04]]).tolist() == [[True, True, True], [True, False, False]]


def test_aps_takes_classes_from_the_most_probable_down():
    conformal = fit_conformal(np.tile([0.7, 0.2, 0.1], (30, 1)), [0] * 27 + [1] * 3, 0.95, "aps")
    assert conformal.quantile == pytest.approx(0.9)
    assert conformal.sets([[0.5, 0.4, 0.1], [0.3, 0.65, 0.05], [0.02, 0.03, 0.95]]).tolist() == [
        [True, True, False], [False, True, False], [False, False, True],
    ]  # fmt: skip


def test_no_set_is_empty_and_too_few_images_give_all_classes_and_say_so():
    conformal = fit_conformal(np.tile([0.99, 0.01], (40, 1)), [0] * 40, 0.9)
    assert conformal.sets([[0.5, 0.5]]).sum() == 1
    few = fit_conformal([[0.9, 0.1]] * 5, [0] * 5, 0.9)
    assert few.sets([[0.9, 0.1]]).all()
    note = measure_sets(few, [[0.9, 0.1]], [0])["note"]
    assert "only 5 validation images" in note and "at least 9" in note


def test_what_sets_are_worth_is_measured_with_an_interval():
    rows, targets = drawn(500)
    found = measure_sets(fit_conformal(rows[:200], targets[:200], 0.9), rows[200:], targets[200:])
    assert found["coverage"]["low"] < found["coverage"]["value"] < found["coverage"]["high"]
    assert 1 <= found["mean_size"] <= 4 and 0 <= found["single"] <= 1 and found["asked"] == 0.9


@pytest.mark.parametrize("coverage", [0, 1, 1.5, float("nan")])
def test_a_coverage_that_cannot_be_is_refused(coverage):
    with pytest.raises(InputError, match=r"coverage .* cannot be used"):
        fit_conformal([[0.5, 0.5]], [0], coverage)


def test_an_unknown_kind_of_set_is_refused():
    with pytest.raises(InputError, match="Use lac or aps"):
        fit_conformal([[0.5, 0.5]], [0], 0.9, "best")
