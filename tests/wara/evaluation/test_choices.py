"""What can be chosen about the answers."""

import subprocess
import sys

import pytest

from wara.errors import InputError
from wara.evaluation.choices import parse_criterion


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("youden", ("youden", None)), (" Sensitivity >= 0.95", ("sensitivity", 0.95)), ("cost=5", ("cost", 5.0)),
        ("specificity=1", ("specificity", 1.0)),
    ],
)  # fmt: skip
def test_a_rule_is_read(text, meaning):
    assert parse_criterion(text) == meaning


@pytest.mark.parametrize("text", ["", "best", "youden=1", "sensitivity", "sensitivity=1.2", "cost=0", "cost=x"])
def test_a_rule_that_cannot_be_used_is_refused(text):
    with pytest.raises(InputError, match=r"operating point cannot be used.*Use youden"):
        parse_criterion(text)


def test_checking_a_recipe_loads_no_heavy_library():
    script = "import sys, wara.training.recipe; print([m for m in ('torch', 'scipy', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
