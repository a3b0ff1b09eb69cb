"""Shares with intervals."""

import numpy as np
import pytest
from scipy.stats import beta

from wara.evaluation.proportion import proportion


def test_independent_images_get_the_exact_interval():
    found = proportion([True] * 7 + [False] * 13)
    assert found["value"] == 0.35 and found["n"] == 20
    assert found["low"] == pytest.approx(beta.ppf(0.025, 7, 14))
    assert found["high"] == pytest.approx(beta.ppf(0.975, 8, 13))


def test_images_of_few_patients_get_a_wider_interval():
    hits = np.repeat(np.arange(20) % 2 == 0, 10)
    alone, together = proportion(hits), proportion(hits, [str(i // 10) for i in range(200)])
    assert alone["value"] == together["value"] == 0.5
    assert together["high"] - together["low"] > 2 * (alone["high"] - alone["low"])


def test_only_the_images_asked_about_are_counted():
    found = proportion([1, 1, 0, 0], of=[1, 0, 0, 1])
    assert (found["value"], found["n"]) == (0.5, 2)


def test_all_of_one_patient_has_no_interval_and_nothing_no_value():
    assert proportion([1, 0], ["a", "a"])["low"] is None
    assert proportion([1, 0], of=[0, 0])["value"] is None
    assert proportion([1, 1, 1, 1], ["a", "a", "b", "b"])["low"] == pytest.approx(0.025**0.5)
