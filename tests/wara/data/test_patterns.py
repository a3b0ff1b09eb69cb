"""Patterns over file names: groups, where they are searched, and an end to every search."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wara.data import patterns
from wara.data.patterns import MAX_NAME, MAX_PATTERN, NamePattern
from wara.errors import InputError


def _refusal(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        NamePattern(text)
    return caught.value


def test_named_groups_are_found_in_the_name_and_not_in_the_folders():
    pattern = NamePattern(r"(?P<patient>\d+)_(?P<eye>L|R)?")
    assert pattern.groups == ("patient", "eye")
    assert pattern.find("2024_L/007_R.png") == {"patient": "007", "eye": "R"}
    assert pattern.find("2024_L/scan.png") is None
    assert pattern.find("7_.png") == {"patient": "7"}  # an empty group is no group


def test_a_pattern_with_a_slash_is_searched_in_the_whole_path():
    assert NamePattern(r"(?P<label>\w+)/[^/]+$").find("ward/ill/1.png") == {"label": "ill"}


@pytest.mark.parametrize(
    ("text", "seen"),
    [("(?P<label>", "missing )"), ("[a-z]+", "no named group"), ("(?P<a>" + "x" * MAX_PATTERN + ")", "characters")],
)
def test_what_is_no_pattern_is_refused_with_the_reason(text, seen):
    error = _refusal(text)
    assert error.code == "pattern"
    assert seen in (error.seen or "")


def test_a_search_that_would_not_end_is_stopped(monkeypatch):
    monkeypatch.setattr(patterns, "_SECONDS_A_NAME", 0.02)
    pattern = NamePattern(r"(?P<label>(a|a)+)+$")
    with pytest.raises(InputError) as caught:
        pattern.find("a" * 60 + "!")
    assert caught.value.code == "pattern-slow"


def test_a_name_beyond_reason_does_not_fit():
    assert NamePattern("(?P<label>a)").find("a" * (MAX_NAME + 1)) is None


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=60))
def test_no_pattern_and_no_name_bring_it_down(text, name):
    try:
        found = NamePattern(f"(?P<label>{text})").find(name)
    except InputError as error:
        assert error.code in ("pattern", "pattern-slow")
    else:
        assert found is None or all(value.strip() == value != "" for value in found.values())


@settings(deadline=None)
@given(st.from_regex(r"\A[0-9]{1,6}\Z"), st.sampled_from("LR"), st.from_regex(r"\A[a-z]{1,9}\Z"))
def test_names_made_by_a_rule_are_read_by_it(patient, eye, label):
    pattern = NamePattern(r"^(?P<patient>\d+)_(?P<eye>L|R)_(?P<label>[a-z]+)\.png$")
    assert pattern.find(f"x/{patient}_{eye}_{label}.png") == {"patient": patient, "eye": eye, "label": label}
