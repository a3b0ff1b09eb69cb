"""Two models on the same images."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from wara.errors import InputError
from wara.evaluation.comparison import compare
from wara.evaluation.delong import delong


def pair(n, k, gap, seed=0, shared=1.0):
    """Two models' probabilities that share some of their noise; the first knows more by ``gap``."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % k
    noise = shared * rng.normal(size=(n, k))
    models = []
    for signal in (1 + gap, 1.0):
        weights = np.exp(signal * np.eye(k)[targets] + noise + 0.3 * rng.normal(size=(n, k)))
        models.append(weights / weights.sum(axis=1, keepdims=True))
    return *models, targets


def test_two_classes_are_compared_by_delong():
    a, b, targets = pair(200, 2, 1.0)
    found = compare(a, b, targets, ["no", "yes"])
    difference, low, high, p = delong(np.stack([a[:, 1], b[:, 1]]), targets == 1).difference()
    assert (found["difference"], found["low"], found["high"], found["p"]) == (difference, low, high, p)
    assert found["method"] == "delong" and found["low"] > 0
    assert "the first model tells the classes apart better" in found["reading"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    swapped = compare(b, a, targets, ["no", "yes"])
    assert swapped["difference"] == -found["difference"] and "the second model" in swapped["reading"]


def test_the_paired_bootstrap_agrees_with_delong_where_both_can_be_used():
    a, b, targets = pair(400, 2, 0.5)
    exact = compare(a, b, targets, ["no", "yes"])
    # The same two-class problem, with a third class that nothing is of: the bootstrap must then do it.
    widened = [np.column_stack([model, np.zeros(400)]) for model in (a, b)]
    drawn = compare(*widened, targets, ["no", "yes", "never"], replicates=2000)
    assert drawn["method"] == "bootstrap"
    assert drawn["difference"] == pytest.approx(exact["difference"])
    assert (drawn["low"], drawn["high"]) == pytest.approx((exact["low"], exact["high"]), abs=0.006)


def test_many_classes_are_compared_by_macro_one_vs_rest():
    a, b, targets = pair(300, 3, 0.0)
    found = compare(a, b, targets, ["a", "b", "c"], replicates=200)
    expected = [roc_auc_score(targets, model, multi_class="ovr") for model in (a, b)]
    assert [found["first"], found["second"]] == pytest.approx(expected)
    assert found["low"] < 0 < found["high"] and "cannot be told apart" in found["reading"]


def test_images_of_the_same_patients_are_not_taken_as_independent():
    a, b, targets = pair(30, 2, 0.5, shared=2.0)
    a, b, targets = (np.repeat(values, 10, axis=0) for values in (a, b, targets))
    together = compare(a, b, targets, ["no", "yes"], [str(i // 10) for i in range(300)])
    alone = compare(a, b, targets, ["no", "yes"])
    assert together["method"] == "bootstrap" and together["n_groups"] == 30
    assert together["high"] - together["low"] > 2 * (alone["high"] - alone["low"])
    assert "only 15 patients" in together["warnings"][0] and "A class has only 15 patients" in together["reading"]


def test_a_model_compared_with_itself_does_not_differ():
    a, _, targets = pair(60, 2, 0)
    found = compare(a, a, targets, ["no", "yes"])
    assert found["difference"] == 0 and found["p"] == 1 and found["reading"].startswith("Both models rank")


def test_images_of_one_class_are_refused():
    with pytest.raises(InputError, match="of one class"):
        compare(np.full((4, 2), 0.5), np.full((4, 2), 0.5), [1, 1, 1, 1], ["no", "yes"])
