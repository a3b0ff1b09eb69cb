"""The description of where labels come from: as JSON and back, and every wrong value named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wara.data.mapping import COLUMNS, SOURCES, Mapping, kept_mapping, read_mapping, write_mapping
from wara.errors import InputError

WORDS = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=12)
MAPPINGS = st.builds(
    Mapping,
    source=st.sampled_from(SOURCES),
    table=st.none() | WORDS,
    sheet=st.none() | WORDS,
    columns=st.dictionaries(st.sampled_from(COLUMNS), WORDS),
    depth=st.none() | st.sampled_from([1, 2, -1]),
    pattern=st.none() | WORDS,
    label_tag=st.none() | WORDS,
    patient_tag=st.none() | WORDS,
    rename=st.dictionaries(WORDS, WORDS, max_size=3),
    leave_out=st.lists(WORDS, max_size=3).map(tuple),
)


@settings(deadline=None)
@given(MAPPINGS)
def test_a_mapping_is_the_same_after_json(mapping):
    assert Mapping.from_dict(json.loads(json.dumps(mapping.to_dict()))) == mapping


@pytest.mark.parametrize(
    ("document", "seen"),
    [
        ({"sauce": "table"}, "there is no such field"),
        ({"source": "excel"}, "excel"),
        ({"depth": 0}, "0"),
        ({"depth": True}, "True"),
        ({"columns": {"age": "Age"}}, "age"),
        ({"columns": ["a"]}, "['a']"),
        ({"pattern": "a\nb"}, "a\nb"),
        ({"pattern": 7}, "7"),
        ({"leave_out": "x"}, "x"),
        ({"rename": {"a": 1}}, "1"),
        ({"table": "x" * 2000}, "2,000 characters"),
    ],
)
def test_a_wrong_value_is_named(document, seen):
    with pytest.raises(InputError) as caught:
        Mapping.from_dict(document)
    assert (caught.value.code, caught.value.seen) == ("mapping-field", seen)


def test_a_mapping_is_kept_in_a_folder(tmp_path):
    assert kept_mapping(tmp_path) is None
    mapping = Mapping("pattern", pattern=r"(?P<label>\w)", rename={"0": "größer"})
    write_mapping(tmp_path / "mapping.json", mapping)
    assert kept_mapping(tmp_path) == mapping
    (tmp_path / "mapping.json").write_text("[1]")
    with pytest.raises(InputError) as caught:
        read_mapping(tmp_path / "mapping.json")
    assert caught.value.code == "mapping-unreadable"
