"""Events: written line by line, read as they come, whatever a killed writer left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.jobs.events import EventLog, EventWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def epoch(number: int, loss: float = 1.0) -> dict[str, object]:
    return {"type": "epoch", "epoch": number, "train_loss": loss}


def test_new_lines_are_read_behind_the_last(path: Path) -> None:
    log = EventLog(path)
    assert log.after(0) == []
    write = EventWriter(path)
    write(epoch(1))
    assert [(number, kind) for number, _, kind in log.after(0)] == [(1, "epoch")]
    write({"type": "warning", "message": "klein\nß"})
    assert [number for number, *_ in log.after(1)] == [2]
    assert json.loads(log.after(1)[0][1])["message"] == "klein\nß"
    assert log.after(2) == log.after(99) == []
    write.close()


def test_a_line_in_the_making_is_not_read(path: Path) -> None:
    log = EventLog(path)
    path.write_bytes(b'{"type": "epoch", "epoch": 1}\n{"type": "ep')
    assert [number for number, *_ in log.after(0)] == [1]
    with path.open("ab") as file:
        file.write(b'och", "epoch": 2}\n')
    assert [number for number, *_ in log.after(0)] == [1, 2]


def test_a_line_that_a_killed_worker_left_spoils_no_other_and_keeps_its_number(path: Path) -> None:
    path.write_bytes(b'{"type": "epoch", "epoch": 1}\n{"type": "epo')
    write = EventWriter(path)
    write(epoch(2))
    write.close()
    log = EventLog(path)
    assert [(number, kind) for number, _, kind in log.after(0)] == [(1, "epoch"), (3, "epoch")]
    assert [event["epoch"] for event in log.view().history] == [1, 2]


def test_numbers_that_json_does_not_have_become_null(path: Path) -> None:
    write = EventWriter(path)
    write(epoch(1, float("nan")) | {"deep": [float("inf"), {"x": float("-inf")}]})
    write.close()
    assert json.loads(path.read_text()) == epoch(1) | {"train_loss": None, "deep": [None, {"x": None}]}


def test_the_view_follows_phase_progress_and_warnings(path: Path) -> None:
    write, log = EventWriter(path), EventLog(path)
    write({"type": "phase", "phase": "training", "message": "Training"})
    write({"type": "progress", "phase": "training", "done": 30, "total": 120, "seconds_left": 9.0})
    view = log.view()
    assert (view.phase, view.message, view.progress["fraction"]) == ("training", "Training", 0.25)
    assert view.progress["images_per_second"] is None
    write({"type": "warning", "message": "small"})
    write({"type": "warning", "message": "small"})
    write({"type": "phase", "phase": "testing", "message": "Testing"})
    assert log.view().progress is None and log.view().warnings == ["small"]
    write({"type": "done", "metrics": {}})
    write.close()
    assert log.view().phase == "done"
    # What was taken earlier does not change under its reader.
    assert view.phase == "training"


def test_a_resumed_job_reports_an_epoch_again_and_the_last_report_counts(path: Path) -> None:
    write = EventWriter(path)
    for number, loss in ((1, 0.9), (2, 0.8), (2, 0.7), (3, 0.6)):
        write(epoch(number, loss))
    write.close()
    assert [event["train_loss"] for event in EventLog(path).view().history] == [0.9, 0.7, 0.6]
