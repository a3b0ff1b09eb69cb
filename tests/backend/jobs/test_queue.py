"""Who comes next: priorities, places, one slot a device, and limits of one person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.db import Database, Job
from backend.jobs.queue import Queue, choose, require_room
from backend.problems import RequestRefused
from tests.backend.jobs.test_supervisor import CPU, GPUS


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "wara.db")
    made.upgrade()
    yield made
    made.close()


@pytest.fixture
def queue(database: Database) -> Queue:
    """Four that wait, a to d, of which d is urgent, and one that runs."""
    with database.session() as session:
        for name, state, priority in (
            ("a", "queued", 0), ("b", "queued", 0), ("c", "queued", 0), ("d", "queued", 1), ("r", "running", 0),
        ):  # fmt: skip
            session.add(job(name, state, priority))
            session.flush()
    return Queue(database)


def job(
    name: str, state: str = "queued", priority: int = 0, device: str | None = None, owner_id: str | None = None
) -> Job:
    common = {"dataset_name": "d", "method": "wara", "backbone": "b", "backbone_spec": "b", "preset": "quick"}
    return Job(id=name, name=name, state=state, priority=priority, device=device, owner_id=owner_id, **common)


def order(queue: Queue) -> str:
    return "".join(each.id for each in queue.waiting())


def test_the_urgent_go_first_and_the_others_as_they_came(queue: Queue) -> None:
    assert order(queue) == "dabc"
    assert queue.places() == {"d": 1, "a": 2, "b": 3, "c": 4}


@pytest.mark.parametrize(
    ("name", "to", "expected"),
    [
        ("c", "up", "dacb"), ("c", "first", "cdab"), ("a", "up", "adbc"), ("d", "down", "adbc"), ("d", "up", "dabc"),
        ("c", "down", "dabc"), ("b", "down", "dacb"), ("d", "first", "dabc"),
    ],
)  # fmt: skip
def test_one_that_waits_can_be_moved_and_stays_there(queue: Queue, name: str, to: str, expected: str) -> None:
    queue.move(name, to)
    assert order(queue) == expected
    queue.move(expected[1], "up")
    queue.move(expected[0], "up")
    assert order(queue) == expected


def test_priorities_order_anew_and_keep_the_places_within(queue: Queue) -> None:
    queue.set_priority("d", "low")
    assert order(queue) == "abcd"
    queue.set_priority("b", "high")
    assert order(queue) == "bacd"


def test_only_what_waits_is_moved(queue: Queue) -> None:
    for name, code in (("r", "job-not-waiting"), ("nobody", "job-not-found")):
        with pytest.raises(RequestRefused) as refused:
            queue.move(name, "up")
        assert refused.value.code == code
        with pytest.raises(RequestRefused) as refused:
            queue.set_priority(name, "high")
        assert refused.value.code == code


def test_each_device_takes_one_and_a_busy_one_none() -> None:
    waiting = [job(name) for name in "abc"]
    assert [(each.id, device.spec) for each, device in choose(waiting, [], GPUS, 0)] == [
        ("a", "cuda:0"), ("b", "cuda:1"),
    ]  # fmt: skip
    assert [(each.id, device.spec) for each, device in choose(waiting, [job("r", device="cuda:0")], GPUS, 0)] == [
        ("a", "cuda:1")
    ]
    assert choose(waiting, [job("r", device="cpu")], CPU, 0) == []


def test_whoever_runs_as_many_as_one_may_is_passed_by() -> None:
    waiting = [job("x2", owner_id="x"), job("x3", owner_id="x"), job("y1", owner_id="y")]
    chosen = choose(waiting, [job("x1", owner_id="x", device="elsewhere")], GPUS, 1)
    assert [each.id for each, _ in chosen] == ["y1"]
    assert [each.id for each, _ in choose(waiting, [], GPUS, 1)] == ["x2", "y1"]


def test_a_person_may_have_only_so_many_in_the_queue(queue: Queue, database: Database) -> None:
    with database.session() as session:
        require_room(session, job("e"), 5)
        with pytest.raises(RequestRefused, match="4 waiting") as refused:
            require_room(session, job("e"), 4)
        assert refused.value.status == 429
        require_room(session, job("e", owner_id="another"), 1)
