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


# Method, trained share in percent, memory (its unit is not stated), average AUROC in percent: as printed in the README
# of the authors' repository (github.com/YijinHuang/FPT, commit 09e959f), ViT-B. The last two columns are the formula
# of the authors' own code (utils/peme.py, commit d5f20b1), worked out apart from this project. The PPE and PME that
# the papers themselves print were not at hand.
AUTHORS = [
    ("full fine-tuning", 100.00, 23128, 88.82, 65.73, 65.73),
    ("prompt tuning", 0.17, 20582, 83.68, 83.62, 63.47),
    ("adapter", 2.03, 19360, 84.14, 83.41, 64.61),
    ("LoRA", 0.68, 20970, 85.94, 85.69, 64.93),
    ("FPT", 1.81, 1824, 86.40, 85.73, 83.60),
    ("FPT+", 1.03, 736, 87.12, 86.73, 85.94),
]


@pytest.mark.parametrize(("percent", "memory", "score", "by_parameters", "by_memory"), [row[1:] for row in AUTHORS])
def test_the_authors_table_gets_what_the_authors_formula_gives(percent, memory, score, by_parameters, by_memory):
    assert round(ppe(score, percent, 100), 2) == by_parameters
    assert round(pme(score, memory, AUTHORS[0][2]), 2) == by_memory


def test_fpt_plus_takes_the_share_of_memory_that_its_abstract_states():
    assert round(100 * AUTHORS[-1][2] / AUTHORS[0][2], 2) == 3.18  # arXiv:2408.02426: "3.18% of the memory"
