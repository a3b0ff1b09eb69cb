"""Work is spread over processes; one that dies or hangs costs its piece of work and no more."""

from __future__ import annotations

from benchmarks.workers import Died, spread
from tests.benchmarks.work import answer_or_die


def test_a_process_that_dies_or_hangs_costs_one_piece_of_work() -> None:
    series = [[("a", "one"), ("a", "dies"), ("a", "two"), ("a", "hangs"), ("a", "three")]]

    answers = {task[1]: answer for task, answer in spread(answer_or_die, series, workers=2, limit_s=8)}

    assert answers["one"] == 1
    assert isinstance(answers["dies"], Died) and answers["dies"].reason == "its process ended with code 7"
    assert isinstance(answers["hangs"], Died) and answers["hangs"].reason == "it took longer than 8 s"
    assert (answers["two"], answers["three"]) == (1, 1)  # in new processes, which have nothing kept


def test_a_series_is_done_in_one_process_in_order() -> None:
    series = [[("a", "one"), ("a", "two")], [("b", "one"), ("b", "two"), ("b", "three")]]

    answers = dict(spread(answer_or_die, series, workers=2, limit_s=60))

    assert [answers[task] for task in series[0]] == [1, 2]
    assert [answers[task] for task in series[1]] == [1, 2, 3]
