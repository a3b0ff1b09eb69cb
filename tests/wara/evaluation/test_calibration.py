"""Temperature scaling and the reliability curve."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss as sk_log_loss
from sklearn.metrics import roc_auc_score

from wara.evaluation import evaluate
from wara.evaluation.calibration import apply_temperature, fit_temperature, log_loss, reliability


def overconfident(n=4000, k=3, factor=2.5, seed=0):
    """Labels drawn from true probabilities, and the probabilities of a network ``factor`` times too sure."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(n, k))
    true = softmax(logits, axis=1)
    targets = (true.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return softmax(factor * logits, axis=1), targets, true


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("k", [2, 5])
def test_the_temperature_of_a_network_that_is_too_sure_is_found(k, factor):
    said, targets, true = overconfident(k=k, factor=factor)
    temperature = fit_temperature(said, targets)
    assert temperature.value == pytest.approx(factor, rel=0.08) and temperature.note is None
    assert apply_temperature(said, factor) == pytest.approx(true)


def test_no_other_temperature_has_a_smaller_loss_and_the_loss_is_scikit_learns():
    said, targets, _ = overconfident(300)
    best = fit_temperature(said, targets).value
    losses = {t: log_loss(apply_temperature(said, t), targets) for t in (best, 0.98 * best, 1.02 * best)}
    assert losses[best] == min(losses.values())
    assert losses[best] == pytest.approx(sk_log_loss(targets, apply_temperature(said, best)))


def test_scaling_changes_no_ranking_and_makes_other_images_better_calibrated():
    said, targets, _ = overconfident(2000, 2)
    other, truth, _ = overconfident(2000, 2, seed=1)
    scaled = apply_temperature(other, fit_temperature(said, targets).value)
    assert (np.argsort(scaled, axis=1) == np.argsort(other, axis=1)).all()
    assert roc_auc_score(truth, scaled[:, 1]) == roc_auc_score(truth, other[:, 1])
    before, after = (evaluate(p, truth, ["a", "b"], replicates=2) for p in (other, scaled))
    assert after["ece"]["value"] < before["ece"]["value"] / 2
    assert after["brier"]["value"] < before["brier"]["value"]
    assert after["confusion"] == before["confusion"]


def test_too_few_or_only_right_answers_leave_the_probabilities_as_they_are():
    assert "only 19 validation images" in fit_temperature(np.full((19, 2), 0.5), [0] * 19).note
    rows = np.tile([[0.6, 0.4], [0.3, 0.7]], (15, 1))
    found = fit_temperature(rows, [0, 1] * 15)
    assert found.value == 1 and "classified correctly" in found.note
    assert apply_temperature(rows, found.value) is not None and (apply_temperature(rows, 1.0) == rows).all()


def test_certainty_that_is_wrong_does_not_break_the_search():
    rows = np.tile([[1.0, 0.0], [0.0, 1.0]], (30, 1))
    targets = [0, 1] * 29 + [1, 0]
    temperature = fit_temperature(rows, targets).value
    assert 1 < temperature <= 20 and np.isfinite(apply_temperature(rows, temperature)).all()


def test_the_reliability_curve_is_scikit_learns_by_quantiles():
    said, targets, _ = overconfident(600, 2)
    points = reliability(said, targets)
    observed, stated = calibration_curve(targets, said[:, 1], n_bins=15, strategy="quantile")
    assert [p["stated"] for p in points] == pytest.approx(stated.tolist())
    assert [p["observed"] for p in points] == pytest.approx(observed.tolist())
    assert all(p["low"] <= p["observed"] <= p["high"] and p["n"] == 40 for p in points)


def test_the_curve_of_many_classes_is_of_the_most_probable_one():
    said, targets, true = overconfident(3000, 4)
    points = reliability(true, targets)
    assert all(p["low"] - 0.05 <= p["stated"] <= p["high"] + 0.05 for p in points)
    assert sum(p["n"] for p in points) == 3000
    assert any(p["stated"] > p["high"] for p in reliability(said, targets))


def test_bands_are_over_patients_where_they_have_several_images():
    said, targets, _ = overconfident(100, 2)
    said, targets = np.repeat(said, 6, axis=0), np.repeat(targets, 6)
    alone = reliability(said, targets)
    together = reliability(said, targets, [str(i // 6) for i in range(600)], replicates=200)
    assert np.mean([p["high"] - p["low"] for p in together]) > 1.5 * np.mean([p["high"] - p["low"] for p in alone])
