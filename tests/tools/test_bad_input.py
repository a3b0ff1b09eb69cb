"""The page of what bad input is told is what the program says today, and every answer has the form of an answer."""

from __future__ import annotations

import re

import pytest

from tools import bad_input
from tools.bad_input_cases import DECODERS, IMAGES, ORDERS, UPLOADS, WEIGHTS


@pytest.fixture(scope="module")
def said() -> str:
    return bad_input.document()


def test_the_page_is_what_the_program_says(said: str) -> None:
    assert bad_input.DOCUMENT.read_text(encoding="utf-8") == said, "python -m tools.bad_input --write"


def test_every_kind_of_bad_input_has_its_answer(said: str) -> None:
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", said, flags=re.MULTILINE))
    assert {*IMAGES, *DECODERS, *UPLOADS, *ORDERS, *WEIGHTS} <= rows.keys()
    rows.pop("what comes in")
    for kind, answer in rows.items():
        assert re.fullmatch(r"(?s)\*Is .+|.+\. .+[.)]", answer), f"{kind}: {answer}"  # what was wrong, then what to do
        assert "Traceback" not in answer and "/tmp" not in answer and "site-packages" not in answer
