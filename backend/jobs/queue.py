"""Who comes next: by priority and place, a slot a device, and no more at once than one person may have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from backend.db import Database, Job
from backend.devices import Device
from backend.problems import RequestRefused, not_found

PRIORITIES = {"low": -1, "normal": 0, "high": 1}
NAMES = {number: name for name, number in PRIORITIES.items()}
ORDER = (Job.priority.desc(), Job.place, Job.created, Job.id)


def choose(
    queued: Sequence[Job], running: Sequence[Job], devices: Sequence[Device], most_each: int
) -> list[tuple[Job, Device]]:
    """Return which jobs start now, and where.

    Args:
        queued: those that wait, in order.
        running: those that have a device.
        devices: all there are; each takes one job.
        most_each: how many of one person may run at once; 0 is no limit. Whoever is over it is passed by, not in the
            way.
    """
    busy = {job.device for job in running}
    free = [device for device in devices if device.spec not in busy]
    held = Counter(job.owner_id for job in running)
    chosen: list[tuple[Job, Device]] = []
    for job in queued:
        if len(chosen) == len(free):
            break
        if most_each and held[job.owner_id] >= most_each:
            continue
        held[job.owner_id] += 1
        chosen.append((job, free[len(chosen)]))
    return chosen


class Queue:
    """The order of the jobs that wait.

    Args:
        database: where jobs are rows.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self) -> Sequence[Job]:
        """Return the jobs that wait, the next one first."""
        with self._database.session() as session:
            return session.scalars(_waiting()).all()

    def places(self) -> dict[str, int]:
        """Return the place of each job that waits, from 1."""
        with self._database.session() as session:
            waiting = session.scalars(select(Job.id).where(Job.state == "queued").order_by(*ORDER))
            return {job_id: place for place, job_id in enumerate(waiting, 1)}

    def move(self, job_id: str, to: str) -> None:
        """Move a waiting job ``up`` or ``down`` by one, or to the ``first`` place; it takes over that priority.

        Raises:
            RequestRefused: 404, or 409 when it does not wait.
        """
        with self._database.session() as session:
            job = _require_waiting(session, job_id)
            waiting = list(session.scalars(_waiting()))
            at = waiting.index(job)
            target = {"up": max(0, at - 1), "down": min(len(waiting) - 1, at + 1), "first": 0}[to]
            waiting.insert(target, waiting.pop(at))
            if target == at:
                return
            other = waiting[target + 1] if target < at else waiting[target - 1]
            job.priority = other.priority
            # The places that those of this priority have now, handed out in the new order.
            group = [each for each in waiting if each.priority == job.priority]
            for each, place in zip(group, _distinct(sorted(each.place for each in group)), strict=True):
                each.place = place

    def set_priority(self, job_id: str, priority: str) -> None:
        """Give a waiting job another priority; among those of the same it stands by its place.

        Raises:
            RequestRefused: 404, or 409 when it has begun or ended; a paused one may be changed.
        """
        with self._database.session() as session:
            job = session.get(Job, job_id)
            if job is None:
                raise not_found("job", job_id)
            values: dict[str, Any] = {"priority": PRIORITIES[priority]}
            changed = update(Job).where(Job.id == job_id, Job.state.in_(("queued", "paused"))).values(**values)
            if not session.execute(changed).rowcount:  # type: ignore[attr-defined]
                raise _not_waiting(job)


def require_room(session: Session, job: Job, most_each: int) -> None:
    """Refuse one more in the queue to somebody who has as many there as one person may have.

    Raises:
        RequestRefused: 429.
    """
    others = select(func.count()).where(Job.state == "queued", Job.owner_id == job.owner_id, Job.id != job.id)
    theirs = session.scalar(others) or 0
    if theirs >= most_each:
        raise RequestRefused(
            429, "You have as many trainings in the queue as one person may have", seen=f"{theirs} waiting",
            remedy="Wait until some have ended, or cancel one.", code="queue-full",
        )  # fmt: skip


def _waiting() -> Select[Job]:
    return select(Job).where(Job.state == "queued").order_by(*ORDER)


def _require_waiting(session: Session, job_id: str) -> Job:
    job = session.get(Job, job_id)
    if job is None:
        raise not_found("job", job_id)
    if job.state != "queued":
        raise _not_waiting(job)
    return job


def _not_waiting(job: Job) -> RequestRefused:
    return RequestRefused(
        409, "This training does not wait in the queue", seen=job.state,
        remedy="Only those that wait can be moved.", code="job-not-waiting",
    )  # fmt: skip


def _distinct(places: list[int]) -> list[int]:
    """Make places rise strictly: two that came in the same microsecond have one place."""
    for at in range(1, len(places)):
        places[at] = max(places[at], places[at - 1] + 1)
    return places
