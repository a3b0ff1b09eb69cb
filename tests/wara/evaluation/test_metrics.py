"""Metrics against scikit-learn, intervals against an explicit resampling loop."""

import json

import numpy as np
import pytest
from sklearn import metrics as oracle

from wara.errors import InputError
from wara.evaluation import auroc, evaluate


def predictions(n, k, seed=0, decimals=None):
    """Probabilities that know something of the targets; rounding makes ties."""
    rng = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    logits = rng.normal(size=(n, k)) + 1.5 * np.eye(k)[targets]
    if decimals is not None:
        logits = logits.round(decimals)
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True), targets


def names(k):
    return [f"class {c}" for c in range(k)]


def reference(probabilities, targets, k, averaged):
    """The same metrics by scikit-learn on a plain set of images; `averaged`: classes that F1 runs over."""
    predicted = probabilities.argmax(axis=1)
    if k == 2:
        area = oracle.roc_auc_score(targets, probabilities[:, 1])
    else:
        area = oracle.roc_auc_score(targets, probabilities, multi_class="ovr", average="macro", labels=range(k))
    return {
        "auroc": area,
        "balanced_accuracy": oracle.balanced_accuracy_score(targets, predicted),
        "accuracy": oracle.accuracy_score(targets, predicted),
        "f1": oracle.f1_score(targets, predicted, labels=averaged, average="macro", zero_division=0),
        "brier": oracle.brier_score_loss(targets, probabilities if k > 2 else probabilities[:, 1], labels=range(k)),
    }


@pytest.mark.parametrize("decimals", [None, 0], ids=["no ties", "ties"])
@pytest.mark.parametrize("k", [2, 3, 7])
def test_point_values_are_scikit_learns(k, decimals):
    probabilities, targets = predictions(211, k, decimals=decimals)
    result = evaluate(probabilities, targets, names(k), replicates=5)
    expected = reference(probabilities, targets, k, list(range(k)))
    assert {name: result[name]["value"] for name in expected} == pytest.approx(expected, abs=1e-12)
    predicted = probabilities.argmax(axis=1)
    assert result["confusion"] == oracle.confusion_matrix(targets, predicted).tolist()
    for c, label in enumerate(names(k)):
        one, said = targets == c, predicted == c
        assert result["sensitivity"][label]["value"] == pytest.approx(oracle.recall_score(one, said))
        assert result["specificity"][label]["value"] == pytest.approx(oracle.recall_score(~one, ~said))
        assert result["auroc_per_class"][label]["value"] == pytest.approx(
            oracle.roc_auc_score(one, probabilities[:, c])
        )
    assert auroc(probabilities, targets) == pytest.approx(expected["auroc"])


def test_calibration_error_is_the_gap_of_each_bin_weighted_by_its_images():
    probabilities, targets = predictions(400, 3, seed=4)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    order = np.argsort(confidence)
    expected = 0.0
    for b in range(15):
        inside = [image for place, image in enumerate(order) if place * 15 // 400 == b]
        expected += len(inside) / 400 * abs(right[inside].mean() - confidence[inside].mean())
    assert evaluate(probabilities, targets, names(3), replicates=2)["ece"]["value"] == pytest.approx(
        expected, abs=1e-12
    )


def test_calibration_error_of_a_calibrated_and_of_an_overconfident_model():
    targets = np.array([0, 0, 0, 1])
    calibrated = np.tile([0.75, 0.25], (4, 1))
    overconfident = np.tile([1.0, 0.0], (4, 1))
    assert evaluate(calibrated, targets, names(2), replicates=2)["ece"]["value"] == pytest.approx(0.0)
    assert evaluate(overconfident, targets, names(2), replicates=2)["ece"]["value"] == pytest.approx(0.25)


@pytest.mark.parametrize("n", [60, 300, 1000])
def test_the_calibration_error_of_true_probabilities_stands_within_its_interval(n):
    for seed in range(6):  # by percentiles one in four stood below its interval, at 2,000 images two in five
        rng = np.random.default_rng(seed)
        second = 1 / (1 + np.exp(2 * rng.normal(size=n)))
        targets = (rng.random(n) < second).astype(int)
        error = evaluate(np.stack([1 - second, second], axis=1), targets, names(2), replicates=100, seed=seed)["ece"]
        assert 0 <= error["low"] <= error["value"] <= error["high"]


def test_the_interval_of_a_large_calibration_error_does_not_reach_down_to_none():
    targets = np.arange(400) % 2
    error = evaluate(np.tile([0.9, 0.1], (400, 1)), targets, names(2), replicates=200)["ece"]
    assert error["value"] == pytest.approx(0.4) and 0.3 < error["low"] <= error["value"] <= error["high"] < 0.5


@pytest.mark.parametrize("grouped", [False, True], ids=["images", "patients"])
@pytest.mark.parametrize("k", [2, 3])
def test_intervals_are_those_of_an_explicit_resampling_loop(k, grouped):
    n, replicates, seed = 60, 120, 3
    probabilities, targets = predictions(n, k, seed=1, decimals=1)
    groups = [f"patient {i // 3}" for i in range(n)] if grouped else None
    result = evaluate(probabilities, targets, names(k), groups, replicates=replicates, seed=seed)

    members = [np.arange(n)[i * 3 : i * 3 + 3] for i in range(n // 3)] if grouped else [[i] for i in range(n)]
    called = [max(targets[rows]) for rows in members]
    strata = [[g for g, c in enumerate(called) if c == wanted] for wanted in range(k)]
    draws = np.random.default_rng(seed).random((replicates, len(members)))
    collected = {name: [] for name in ("auroc", "balanced_accuracy", "accuracy", "f1", "brier")}
    for draw in draws:
        left = list(draw)
        drawn = [stratum[int(left.pop(0) * len(stratum))] for stratum in strata for _ in stratum]
        rows = np.concatenate([members[g] for g in drawn])
        if len(np.unique(targets[rows])) < k:
            continue
        for name, value in reference(probabilities[rows], targets[rows], k, list(range(k))).items():
            collected[name].append(value)
    for name, values in collected.items():
        low, high = np.quantile(values, [0.025, 0.975])
        assert (result[name]["low"], result[name]["high"]) == pytest.approx((low, high), abs=1e-12), name


def test_resampling_patients_widens_the_interval_when_images_of_a_patient_agree():
    rng = np.random.default_rng(0)
    patients, repeats = 40, 10
    truth = np.arange(patients) % 2
    score = np.clip(0.5 + 0.2 * (truth - 0.5) + 0.3 * rng.normal(size=patients), 0.01, 0.99)
    probabilities = np.repeat(np.stack([1 - score, score], axis=1), repeats, axis=0)
    targets = np.repeat(truth, repeats)
    groups = [str(i // repeats) for i in range(patients * repeats)]
    by_image = evaluate(probabilities, targets, names(2))["auroc"]
    by_patient = evaluate(probabilities, targets, names(2), groups)["auroc"]
    assert by_patient["value"] == by_image["value"]
    assert by_patient["high"] - by_patient["low"] > 2 * (by_image["high"] - by_image["low"])


def test_interval_covers_the_true_accuracy_about_as_often_as_it_says():
    covered = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        right = rng.random(200) < 0.8
        probabilities = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
        interval = evaluate(probabilities, np.arange(200) * 0, names(2), replicates=200, seed=trial)["accuracy"]
        covered += interval["low"] <= 0.8 <= interval["high"]
    assert 0.90 <= covered / 200 <= 0.99


def test_images_without_a_patient_are_groups_of_their_own():
    probabilities, targets = predictions(30, 2)
    groups = ["p1"] * 10 + [None] * 10 + [""] * 10
    assert evaluate(probabilities, targets, names(2), groups, replicates=3)["n_groups"] == 21


def test_every_replicate_holds_each_class_and_small_classes_are_said_in_words():
    probabilities, _ = predictions(40, 2, seed=2)
    targets = np.zeros(40, dtype=int)
    targets[:2] = 1
    result = evaluate(probabilities, targets, names(2), replicates=500)
    assert result["auroc"]["left_out"] == 0 and result["auroc"]["low"] is not None
    assert result["warnings"] == ["There are only 2 images of class 1: intervals that rest on them are unreliable."]


def test_replicates_without_a_class_are_left_out_and_counted():
    probabilities, _ = predictions(40, 2, seed=2)
    targets = np.array([0, 1] + [1] * 38)
    groups = ["both", "both", *(str(i) for i in range(38))]  # negatives stand in one patient who is positive too
    result = evaluate(probabilities, targets, names(2), [*groups[:2], *groups[2:]], replicates=1000)
    assert result["specificity"]["class 1"]["left_out"] > 200  # (38/39)^39 = 0.363
    assert result["accuracy"]["left_out"] == 0


def test_a_class_of_one_patient_gives_no_interval_for_what_rests_on_it():
    probabilities, targets = predictions(40, 2, seed=2)
    groups = ["p" if target else f"q{i}" for i, target in enumerate(targets)]
    result = evaluate(probabilities, targets, names(2), groups, replicates=100)
    for entry in (result["auroc"], result["balanced_accuracy"], result["sensitivity"]["class 1"]):
        assert entry["value"] is not None and entry["low"] is None and "only one patient" in entry["note"]
    assert result["accuracy"]["low"] is not None
    assert any("only 1 patient of class 1" in warning for warning in result["warnings"])


def test_labels_of_an_operating_point_change_what_rests_on_labels_alone():
    probabilities, targets = predictions(200, 2, seed=3)
    labels = (probabilities[:, 1] >= 0.8).astype(int)
    moved = evaluate(probabilities, targets, names(2), replicates=5, labels=labels)
    plain = evaluate(probabilities, targets, names(2), replicates=5)
    assert moved["confusion"] == oracle.confusion_matrix(targets, labels).tolist() != plain["confusion"]
    for name in ("auroc", "brier", "ece"):
        assert moved[name] == plain[name]


def test_a_class_without_images_is_named_and_left_out_of_the_means():
    probabilities, targets = predictions(60, 3, seed=5)
    targets = targets.copy()
    targets[targets == 2] = 0
    result = evaluate(probabilities, targets, names(3), replicates=20)
    areas = [oracle.roc_auc_score(targets == c, probabilities[:, c]) for c in (0, 1)]
    assert result["auroc"]["value"] == pytest.approx(np.mean(areas))
    assert result["auroc_per_class"]["class 2"]["value"] is None
    assert result["sensitivity"]["class 2"]["value"] is None
    assert "No images of class 2" in result["auroc"]["note"]
    assert result["balanced_accuracy"]["value"] is not None
    averaged = [0, 1, 2] if (probabilities.argmax(axis=1) == 2).any() else [0, 1]
    expected = oracle.f1_score(targets, probabilities.argmax(axis=1), labels=averaged, average="macro")
    assert result["f1"]["value"] == pytest.approx(expected)


def test_one_class_alone_has_no_auroc_but_an_accuracy():
    probabilities, _ = predictions(20, 2)
    targets = np.ones(20, dtype=int)
    result = evaluate(probabilities, targets, names(2), replicates=20)
    assert result["auroc"]["value"] is None and "class 0" in result["auroc"]["note"]
    assert result["accuracy"]["value"] is not None
    assert auroc(probabilities, targets) is None


def test_all_right_gets_the_exact_binomial_interval_over_patients():
    targets = np.array([0, 1] * 10)
    probabilities = np.eye(2)[targets] * 0.8 + 0.1
    groups = [str(i // 2) for i in range(20)]
    result = evaluate(probabilities, targets, names(2), groups, replicates=50)
    assert result["accuracy"]["value"] == 1.0
    # Clopper-Pearson for 10 of 10: 0.6915 to 1 (any table of exact binomial limits).
    assert result["accuracy"]["low"] == pytest.approx(0.6915, abs=5e-5)
    assert result["accuracy"]["high"] == 1.0
    assert "Exact binomial" in result["accuracy"]["note"]
    assert "too few images" in result["auroc"]["note"]
    wrong = evaluate(1 - probabilities, targets, names(2), groups, replicates=50)["accuracy"]
    assert (wrong["low"], wrong["high"]) == (0.0, pytest.approx(0.3085, abs=5e-5))


def test_one_patient_gives_values_without_intervals():
    probabilities, targets = predictions(20, 2, seed=8)
    result = evaluate(probabilities, targets, names(2), ["p"] * 20, replicates=50)
    assert result["auroc"]["value"] is not None
    assert result["auroc"]["low"] is None and "one patient" in result["auroc"]["note"]


def test_no_images_at_all_is_a_result_of_nothing():
    result = evaluate(np.zeros((0, 2)), np.zeros(0, dtype=int), names(2))
    assert result["n_images"] == 0 and result["confusion"] == [[0, 0], [0, 0]]
    assert all(result[name]["value"] is None for name in ("auroc", "accuracy", "brier", "ece"))


def test_result_is_json_and_repeats_with_the_seed():
    probabilities, targets = predictions(50, 3)
    first = evaluate(probabilities, targets, names(3), replicates=100, seed=7)
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert evaluate(probabilities, targets, names(3), replicates=100, seed=7) == first
    assert evaluate(probabilities, targets, names(3), replicates=100, seed=8)["auroc"] != first["auroc"]


def test_auroc_while_training_survives_what_a_diverged_run_sends():
    assert auroc([[0.2, 0.8], [np.nan, np.nan]], [0, 1]) is None
    assert auroc(np.zeros((0, 2)), []) is None
    # Three classes, one without images: the mean over the two that have some.
    probabilities, targets = predictions(60, 3, seed=5)
    targets = np.where(targets == 2, 0, targets)
    areas = [oracle.roc_auc_score(targets == c, probabilities[:, c]) for c in (0, 1)]
    assert auroc(probabilities, targets) == pytest.approx(np.mean(areas))


def test_probabilities_that_are_not_numbers_are_refused_in_plain_words():
    probabilities, targets = predictions(20, 2)
    probabilities[3:6] = np.nan
    with pytest.raises(InputError, match=r"3 of 20 images.*lower learning rate") as error:
        evaluate(probabilities, targets, names(2))
    assert error.value.code == "not-finite"


@pytest.mark.parametrize(
    ("probabilities", "targets", "classes", "groups", "message"),
    [
        (np.ones((3, 2)), [0, 1], ["a", "b"], None, r"\(3, 2\) and targets \(2,\)"),
        (np.ones((2, 2)), [0, 1], ["a", "b", "c"], None, "2 columns for 3 classes"),
        (np.ones((2, 2)), [0, 2], ["a", "b"], None, "from 0 to 2, outside 0 to 1"),
        (np.ones((2, 1)), [0, 0], ["a"], None, "at least two classes"),
        (np.ones((2, 2)), [0, 1], ["a", "b"], ["p"], "1 names for 2 images"),
    ],
)
def test_what_does_not_belong_together_is_refused_with_both_numbers(probabilities, targets, classes, groups, message):
    with pytest.raises(ValueError, match=message):
        evaluate(probabilities, targets, classes, groups)
