"""The short version of ``python -m tests.crash``: two rounds on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.rounds import MOMENTS, VICTIMS, Bench, Row, plan


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, seed=1, epochs=10)
    yield made
    made.close()


def test_nothing_acknowledged_is_lost_and_results_are_the_same_whatever_is_killed(bench: Bench) -> None:
    bench.begin()
    for number, (victim, moment) in enumerate([("both", "training"), ("server", "upload")], 1):
        row = bench.round(number, victim, moment)
        assert row.ok, str(row)


def test_every_victim_is_killed_at_every_moment_in_twelve_rounds() -> None:
    assert len(set(plan(12, 5))) == len(VICTIMS) * len(MOMENTS) == 12
    assert plan(30, 5)[:12] == plan(12, 5) != plan(12, 6)


def test_a_round_that_found_something_wrong_says_so() -> None:
    row = Row(1, "job", "training", ["job after pass 2"])
    row.check(True, "not said")
    assert row.ok and "yes" in str(row)
    row.check(False, "a model is gone")
    assert not row.ok and "WRONG: a model is gone" in str(row) and str(row).endswith("NO")
