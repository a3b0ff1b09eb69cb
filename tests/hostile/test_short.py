"""The short version of ``python -m tests.hostile``: every door, some hundred bad files, and the server as it was."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.__main__ import run, table


def test_bad_files_through_every_door_harm_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, uploads=100, seed=20)
    assert found.good, table(found) + "\n" + "\n".join(found.faults)
    assert found.counted.total() == 100
    assert {kind for kind, _ in found.counted} >= {"png", "jpeg", "tiff", "dicom", "zip", "table", "weights"}
