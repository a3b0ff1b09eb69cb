"""DeLong's variance against the definition, pair by pair, and against the example of the paper."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from wara.evaluation.delong import delong

# Ovarian cancer with intestinal obstruction, DeLong et al. 1988: albumin, total protein, K-G score, outcome.
# From the SAS/STAT manual, LOGISTIC procedure, "Comparing Receiver Operating Characteristic Curves".
PATIENTS = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1 3.7 6.7 6 1
3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1
3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1
3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


def components(scores, positive):
    """The covariance by the definition of DeLong et al.: the kernel of every pair, in O(n^2)."""
    kernel = [
        [[1.0 if x > y else 0.5 if x == y else 0.0 for y in row[~positive]] for x in row[positive]] for row in scores
    ]
    kernel = np.array(kernel)
    areas = kernel.mean(axis=(1, 2))
    over = kernel.mean(axis=2) - areas[:, None]
    under = kernel.mean(axis=1) - areas[:, None]
    m, n = kernel.shape[1:]
    return areas, over @ over.T / (m - 1) / m + under @ under.T / (n - 1) / n


@pytest.mark.parametrize("decimals", [None, 1, 0], ids=["no ties", "some ties", "many ties"])
@pytest.mark.parametrize(("positives", "negatives"), [(40, 25), (2, 2), (3, 60)])
def test_areas_and_covariance_are_those_of_the_definition(positives, negatives, decimals):
    rng = np.random.default_rng(positives)
    positive = rng.permutation(np.arange(positives + negatives) < positives)
    scores = rng.normal(size=(3, len(positive))) + positive * [[0.3], [1.0], [2.0]] + rng.normal(size=len(positive))
    if decimals is not None:
        scores = scores.round(decimals)
    found = delong(scores, positive)
    areas, covariance = components(scores, positive)
    assert found.values == pytest.approx(areas, abs=1e-12)
    assert found.values == pytest.approx([roc_auc_score(positive, row) for row in scores])
    assert found.covariance == pytest.approx(covariance, abs=1e-12)


def test_the_published_example_is_met():
    table = np.array(PATIENTS.split(), dtype=float).reshape(-1, 4)
    _, protein, score, outcome = table.T
    found = delong(np.stack([-protein, score]), outcome == 0)
    assert len(table) == 43
    assert found.values.round(4).tolist() == [0.6478, 0.7258]
    assert np.sqrt(np.diag(found.covariance)).round(4).tolist() == [0.1000, 0.1028]
    assert [round(x, 4) for x in found.difference()] == [-0.0780, -0.2830, 0.1271, 0.4561]


def test_the_interval_covers_the_true_area_about_as_often_as_it_says():
    true = 0.7602  # Phi(1 / sqrt 2): normal scores one standard deviation apart
    covered = 0
    for trial in range(400):
        rng = np.random.default_rng(trial)
        positive = np.arange(80) < 30
        low, high = delong(rng.normal(size=80) + positive, positive).interval()
        covered += low <= true <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_two_models_that_rank_alike_do_not_differ_and_perfect_ones_have_no_interval():
    positive = np.arange(20) < 8
    scores = np.where(positive, 2.0, 1.0)
    same = delong(np.stack([scores, 3 * scores]), positive)
    assert same.difference()[0] == 0 and same.difference()[3] == 1
    assert np.isnan(same.interval()).all()


@pytest.mark.parametrize(
    ("scores", "positive", "message"),
    [([[1, 2, 3]], [1, 0], r"\(1, 3\) and positive \(2,\)"), ([1, 2, 3], [1, 0, 0], "1 positive and 2 negative")],
)
def test_what_has_no_variance_is_refused(scores, positive, message):
    with pytest.raises(ValueError, match=message):
        delong(scores, positive)
