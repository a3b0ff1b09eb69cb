"""Numbers read as a person would write them."""

import pytest

from app.components import format as words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.2, "1 s"), (45, "45 s"), (59.7, "1 min"), (734, "12 min"), (3599, "1 h"), (3900, "1 h 5 min")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0.0 %"), (0.0001, "< 0.1 %"), (0.5, "50.0 %"), (0.9996, "> 99.9 %"), (1.0, "100.0 %")],
)
def test_a_small_chance_is_never_none_and_a_large_one_never_certain(share: float, text: str) -> None:
    assert words.percent(share) == text


def test_an_estimate_carries_its_interval() -> None:
    assert words.interval({"value": 0.9634, "low": 0.948, "high": 0.9761}) == "0.963 [0.948, 0.976]"
    assert words.interval({"value": 0.9, "low": None, "high": None}) == "0.900"
    assert words.interval({"value": None}) == words.interval(None) == "–"


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf")])
def test_what_is_not_defined_is_a_dash(nothing: float | None) -> None:
    for form in (words.count, words.duration, words.size, words.score, words.percent):
        assert form(nothing) == "–"


def test_counts_and_plurals() -> None:
    assert words.count(73812) == "73,812"
    assert (words.plural(1, "class", "classes"), words.plural(1200, "image")) == ("1 class", "1,200 images")


def test_a_time_that_cannot_be_read_stays_as_it_is() -> None:
    assert words.moment("soon") == "soon"
    assert "2026" in words.moment("2026-11-23T14:56:36.5Z")
