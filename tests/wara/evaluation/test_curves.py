"""ROC and precision-recall curves, and their bands."""

import json

import numpy as np
import pytest
from sklearn import metrics as oracle

from wara.evaluation.curves import all_curves, curves


def scores(n=200, seed=0, decimals=None):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    values = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * truth - 0.7)))
    return values if decimals is None else values.round(decimals), truth


@pytest.mark.parametrize("decimals", [None, 1], ids=["no ties", "ties"])
def test_the_points_are_scikit_learns(decimals):
    values, truth = scores(decimals=decimals)
    found = curves(values, truth, replicates=2)
    false_alarms, sensitivity, _ = oracle.roc_curve(truth, values, drop_intermediate=False)
    assert found["roc"]["false_alarms"] == pytest.approx(false_alarms.tolist())
    assert found["roc"]["sensitivity"] == pytest.approx(sensitivity.tolist())
    assert found["roc"]["auroc"] == pytest.approx(oracle.roc_auc_score(truth, values))
    precision, recall, _ = oracle.precision_recall_curve(truth, values)
    assert found["precision_recall"]["precision"] == pytest.approx(precision[-2::-1].tolist())
    assert found["precision_recall"]["sensitivity"] == pytest.approx(recall[-2::-1].tolist())
    expected = oracle.average_precision_score(truth, values)
    assert found["precision_recall"]["average_precision"] == pytest.approx(expected)
    assert found["precision_recall"]["prevalence"] == truth.mean()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_bands_hold_the_curve_and_narrow_with_images():
    widths = []
    for n in (60, 1500):
        values, truth = scores(n)
        roc = curves(values, truth, replicates=200)["roc"]
        band = roc["band"]
        on_grid = np.interp(band["false_alarms"], roc["false_alarms"], roc["sensitivity"])
        inside = (np.array(band["low"]) <= on_grid + 1e-9) & (on_grid <= np.array(band["high"]) + 1e-9)
        assert inside.mean() > 0.95
        widths.append(np.mean(np.array(band["high"]) - band["low"]))
    assert widths[1] < widths[0] / 3


def test_a_band_is_that_of_an_explicit_loop():
    values, truth = scores(80, decimals=2)
    band = curves(values, truth, replicates=40, seed=1)["roc"]["band"]
    negatives, positives = np.flatnonzero(~truth), np.flatnonzero(truth)
    drawn = []
    for row in np.random.default_rng(1).random((40, 80)):
        cut = len(negatives)
        rows = np.concatenate([
            negatives[(row[:cut] * cut).astype(int)], positives[(row[cut:] * len(positives)).astype(int)],
        ])  # fmt: skip
        fpr, tpr, _ = oracle.roc_curve(truth[rows], values[rows], drop_intermediate=False)
        drawn.append(np.interp(np.linspace(0, 1, 101), fpr, tpr))
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    assert band["low"] == pytest.approx(low.tolist()) and band["high"] == pytest.approx(high.tolist())


def test_bands_are_over_patients_where_they_have_several_images():
    values, truth = scores(40)
    values, truth = np.repeat(values, 8), np.repeat(truth, 8)

    def width(groups):
        band = curves(values, truth, groups, replicates=100)["precision_recall"]["band"]
        return np.mean(np.array(band["high"]) - band["low"])

    assert width([str(i // 8) for i in range(320)]) > 1.5 * width(None)


def test_two_classes_have_one_curve_and_more_have_one_each():
    values, truth = scores(50)
    two = np.stack([1 - values, values], axis=1)
    assert list(all_curves(two, truth.astype(int), ["no", "yes"], replicates=2)) == ["yes"]
    three = np.column_stack([two, np.zeros(50)])
    assert list(all_curves(three, truth.astype(int), ["no", "yes", "never"], replicates=2)) == ["no", "yes"]
    assert curves(values, np.ones(50)) is None


def test_very_many_thresholds_are_thinned_and_keep_both_ends():
    values, truth = scores(5000)
    roc = curves(values, truth, replicates=1)["roc"]
    assert len(roc["sensitivity"]) == len(roc["thresholds"]) == 1001
    assert (roc["sensitivity"][0], roc["sensitivity"][-1], roc["false_alarms"][-1]) == (0, 1, 1)
    assert roc["auroc"] == pytest.approx(oracle.roc_auc_score(truth, values))
