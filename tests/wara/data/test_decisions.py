from __future__ import annotations

import json

import pytest

from wara.data import Item
from wara.data.decisions import RULES, Decision, apply_decisions, read_decisions, write_decisions
from wara.errors import InputError


@pytest.fixture
def data(catalogue):
    return catalogue([Item(f"{n}.png", "ab"[n % 2], f"p{n}", "train") for n in range(6)])


DROP = Decision("copies-within", "drop", {"0.png": None, "3.png": None}, "2026-11-25T10:00:00+00:00")
MOVE = Decision("leaks", "move", {"1.png": "test", "3.png": "test"}, "2026-11-25T10:00:01+00:00")
GROUP = Decision("near-copies-within", "group", {"4.png": "group x", "5.png": "group x"}, "2026-11-25T10:00:02+00:00")


def test_applying_changes_what_was_decided_and_leaves_the_catalogue_alone(data):
    before = data
    decided = apply_decisions(data, [DROP, MOVE, GROUP])
    assert [item.file for item in decided.items] == ["1.png", "2.png", "4.png", "5.png"]
    assert [item.split for item in decided.items] == ["test", "train", "train", "train"]
    assert [item.patient for item in decided.items] == ["p1", "p2", "group x", "group x"]
    assert [entry.reason for entry in decided.passed_over] == ["left out by a decision (copies-within)"] * 2
    assert decided.fingerprint != data.fingerprint
    assert data is before and len(data.items) == 6 and data.items[1].split == "train"


def test_without_decisions_and_after_undoing_all_is_as_it_was(data):
    assert apply_decisions(data, []) is data
    assert apply_decisions(data, [DROP, MOVE]) == apply_decisions(data, [DROP, MOVE, GROUP][:2])
    assert "3.png" in {item.file for item in apply_decisions(data, [MOVE]).items}


def test_a_list_survives_writing_and_reading(data, tmp_path):
    path = tmp_path / "decisions.json"
    write_decisions(path, [DROP, MOVE, GROUP])
    assert read_decisions(path) == [DROP, MOVE, GROUP]
    assert not list(tmp_path.glob("*.partial"))
    assert json.loads(path.read_text())[1]["rules"] == RULES
    assert MOVE.summary() == {"finding": "leaks", "fix": "move", "when": MOVE.when, "rules": RULES, "images": 2}


def test_decisions_of_other_data_are_refused(data):
    other = Decision("leaks", "drop", {"0.png": None, "else.png": None}, "")
    with pytest.raises(InputError) as refused:
        apply_decisions(data, [other])
    assert (refused.value.code, refused.value.seen) == ("decision-files", "1: else.png")


def test_a_decision_about_a_file_holds_for_its_frames_where_they_are_read_one_by_one(catalogue):
    frames = [
        Item(f"{name}#{n}", name[0], f"p {name}", "train", frame=n) for name in ("a.dcm", "b.dcm") for n in (1, 2)
    ]
    decided = apply_decisions(
        catalogue(frames),
        [Decision("x", "drop", {"a.dcm#2": None}, ""), Decision("x", "move", {"a.dcm": "test", "b.dcm#1": "val"}, "")],
    )
    assert [(item.file, item.split) for item in decided.items] == [
        ("a.dcm#1", "test"), ("b.dcm#1", "val"), ("b.dcm#2", "train"),
    ]  # fmt: skip
    with pytest.raises(InputError, match="not in the data"):
        apply_decisions(catalogue(frames), [Decision("x", "drop", {"a.dcm#3": None}, "")])


ENTRY = {"finding": "leaks", "fix": "move", "files": {"a": "test"}, "when": "", "rules": 1}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "decisions-missing"),
        ("{", "decisions-file"),
        ("{}", "decisions-file"),
        ("[3]", "decisions-file"),
        (json.dumps([{"finding": "leaks"}]), "decisions-file"),
        (json.dumps([ENTRY | {"fix": "burn"}]), "decisions-file"),
        (json.dumps([ENTRY | {"fix": ["move"]}]), "decisions-file"),
        (json.dumps([ENTRY | {"files": ["a"]}]), "decisions-file"),
        (json.dumps([ENTRY | {"files": {"a": "nowhere"}}]), "decisions-file"),
        (json.dumps([ENTRY | {"fix": "drop"}]), "decisions-file"),
        (json.dumps([ENTRY | {"fix": "group", "files": {"a": None}}]), "decisions-file"),
        (json.dumps([ENTRY | {"rules": RULES + 1}]), "decisions-newer"),
    ],
)
def test_a_file_that_is_no_list_of_decisions_is_refused_in_a_sentence(tmp_path, content, code):
    path = tmp_path / "decisions.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError) as refused:
        read_decisions(path)
    assert refused.value.code == code
    assert refused.value.remedy
