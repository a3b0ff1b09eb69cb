"""The short versions of ``python -m tests.hostile`` and ``tests.hostile.schema``: every door and every operation."""

from __future__ import annotations

from pathlib import Path

from tests.hostile import schema
from tests.hostile.__main__ import run, table


def test_bad_files_through_every_door_harm_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, uploads=100, seed=20)
    assert found.good, table(found) + "\n" + "\n".join(found.faults)
    assert found.counted.total() == 100
    assert {kind for kind, _ in found.counted} >= {"png", "jpeg", "tiff", "dicom", "zip", "table", "weights"}


def test_every_operation_answers_a_member_as_the_openapi_says_and_shows_nothing_of_others(tmp_path: Path) -> None:
    assert schema.check(tmp_path, "member", examples=1, seed=20) == 0
