"""PPE and PME by their formula."""

import math

import pytest

from wara.errors import InputError
from wara.evaluation.efficiency import pme, ppe


def test_nothing_trained_costs_nothing_and_all_of_it_a_quarter():
    assert ppe(0.9, 0, 5_000_000) == 0.9
    assert ppe(80.0, 100, 100) == pytest.approx(80.0 * math.exp(-math.log10(2)))
    assert ppe(1.0, 7, 7) == pytest.approx(0.7401, abs=5e-5)


def test_the_share_is_taken_in_percent_as_in_the_paper():
    p = 1.81  # percent, FPT's own share of ViT-B
    assert ppe(85.0, p, 100) == pytest.approx(85.0 * math.exp(-math.log10(p / 100 + 1)))


def test_more_memory_costs_more():
    values = [pme(0.9, memory, 20_000) for memory in (500, 5_000, 20_000, 40_000)]
    assert values == sorted(values, reverse=True)
    assert values[2] == pytest.approx(0.9 * 0.7401, abs=5e-5)


@pytest.mark.parametrize("numbers", [(-1, 10), (1, 0), (math.nan, 10), (1, math.inf)])
@pytest.mark.parametrize("function", [ppe, pme])
def test_numbers_that_cannot_be_are_refused(function, numbers):
    with pytest.raises(InputError, match="cannot be computed"):
        function(0.9, *numbers)
