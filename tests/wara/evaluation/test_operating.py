"""The threshold: chosen on one set of images, measured on another."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from wara.evaluation.operating import OperatingPoint, choose, labels_at, measure


def scores(n=400, seed=0, decimals=3):
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.3).astype(int)
    return np.round(1 / (1 + np.exp(-(rng.normal(size=n) + 2 * truth - 1))), decimals), truth


def rates(p, truth, threshold):
    tn, fp, fn, tp = oracle.confusion_matrix(truth, p >= threshold).ravel()
    return tp / (tp + fn), tn / (tn + fp), fn, fp


@pytest.mark.parametrize("decimals", [1, 6], ids=["ties", "no ties"])
def test_youden_is_the_best_of_all_points_of_the_roc_curve(decimals):
    p, truth = scores(decimals=decimals)
    false_alarms, found, _ = oracle.roc_curve(truth, p)
    sensitivity, specificity, _, _ = rates(p, truth, choose(p, truth).threshold)
    assert sensitivity + specificity - 1 == pytest.approx((found - false_alarms).max())


@pytest.mark.parametrize("target", [0.8, 0.95, 1.0])
def test_a_wish_is_kept_at_the_least_price(target):
    p, truth = scores()
    curve = [rates(p, truth, t)[:2] for t in [*np.unique(p), 2]]
    sensitivity, specificity, _, _ = rates(p, truth, choose(p, truth, f"sensitivity={target}").threshold)
    assert sensitivity >= target and specificity == max(spec for sens, spec in curve if sens >= target)
    sensitivity, specificity, _, _ = rates(p, truth, choose(p, truth, f"specificity>={target}").threshold)
    assert specificity >= target and sensitivity == max(sens for sens, spec in curve if spec >= target)


def test_the_cost_is_the_least_there_is():
    p, truth = scores()
    costs = [7 * fn + fp for _, _, fn, fp in (rates(p, truth, t) for t in [*np.unique(p), 2])]
    point = choose(p, truth, "cost=7")
    _, _, missed, alarms = rates(p, truth, point.threshold)
    assert 7 * missed + alarms == min(costs)
    assert choose(p, truth, "cost=20").threshold <= point.threshold <= choose(p, truth, "cost=0.2").threshold


def test_equally_good_thresholds_are_settled_near_a_half():
    assert choose([0.1, 0.2, 0.7, 0.9], [0, 0, 1, 1]).threshold == pytest.approx(0.45)
    assert choose([0.0, 1.0], [0, 1], "specificity=1").threshold == 0.5


def test_without_one_of_the_classes_there_is_no_operating_point():
    assert choose([0.2, 0.7], [1, 1]) is None


def test_labels_follow_the_threshold_or_the_most_probable_class():
    rows = np.array([[0.7, 0.3], [0.4, 0.6], [0.55, 0.45]])
    assert labels_at(rows, 0.4).tolist() == [0, 1, 1]
    assert labels_at(rows, 0.45).tolist() == [0, 1, 1]  # at the threshold it is called so
    assert labels_at(rows, None).tolist() == [0, 1, 0]
    assert labels_at(np.array([[0.2, 0.3, 0.5]]), 0.1).tolist() == [2]


def test_what_a_threshold_is_worth_is_what_scikit_learn_counts():
    p, truth = scores(seed=4)
    found = measure(p, truth, 0.4, replicates=50)
    called = p >= 0.4
    assert found["sensitivity"]["value"] == pytest.approx(oracle.recall_score(truth, called))
    assert found["specificity"]["value"] == pytest.approx(oracle.recall_score(1 - truth, ~called))
    assert found["positive_predictive_value"]["value"] == pytest.approx(oracle.precision_score(truth, called))
    assert found["negative_predictive_value"]["value"] == pytest.approx(oracle.precision_score(1 - truth, ~called))
    assert all(entry["low"] < entry["value"] < entry["high"] for entry in found.values())
    at = p[truth == 1].max()  # at the threshold an image is called so, as the predictor calls it
    assert measure(p, truth, at)["sensitivity"]["value"] == (p[truth == 1] >= at).mean() > 0
    assert measure(p, truth, 2)["positive_predictive_value"]["value"] is None


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("youden", "Youden"), ("sensitivity=0.9", "at least 90%"), ("sensitivity=0.975", "at least 97.5%"),
        ("specificity=0.9", "lowest"), ("specificity=0.995", "at least 99.5%"), ("cost=3", "3 false"),
    ],
)
def test_the_sentence_says_how_it_was_chosen(rule, words):
    p, truth = scores()
    sentence = choose(p, truth, rule).sentence("pneumonia")
    assert words in sentence and "called pneumonia from a probability of 0." in sentence and "validation" in sentence


@pytest.mark.parametrize(
    ("threshold", "words"),
    [(0.4189577, "of 0.419 on"), (0.00003, "of 0.00003 on"), (0.99996, "of 0.99996 on"), (0.0, "of 0.000 on"),
     (float(np.nextafter(1, 2)), "No image is called pneumonia")],
)  # fmt: skip
def test_a_threshold_near_0_or_1_is_not_written_as_one(threshold, words):
    assert words in OperatingPoint(threshold, "youden").sentence("pneumonia")
