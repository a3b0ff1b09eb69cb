"""Every change of a job's state: one transaction each, guarded by the state before, with what happened beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, case, select, update
from sqlalchemy.orm import Session

from backend.db import Database, Happening, Job, Model
from backend.db.models import FINISHED_STATES, now
from backend.jobs.queue import require_room
from backend.problems import RequestRefused, not_found

GONE = {"pid": None, "pid_started": None}
# What was asked of a job is done, or no longer of use, once its process is gone.
ANSWERED: dict[str, Any] = {**GONE, "cancel_requested": False, "pause_requested": False}
WAITING = ("queued", "paused")
# A start that was set aside did not fail, so those before it do not count any more; 1, as there is something to go on.
SET_ASIDE = case((and_(Job.state == "running", Job.attempts > 1), 1), else_=Job.attempts)


def queued() -> Happening:
    """Return the first happening of a new job, to be written with its row."""
    return Happening(state="queued", code="queued", facts={})


class Transitions:
    """Moves jobs from state to state.

    A change takes place only from the states that it may be made in, so of two at the same moment one comes too late
    and says so. Row and happening are written together or not at all.

    Args:
        database: where jobs are rows.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, job: Job, device: str) -> bool:
        """Give a waiting job its device: queued to running. False when it is not waiting any more."""
        with self._database.session() as session:
            return _change(
                session, job.id, ("queued",), "running", "resumed" if job.attempts else "started", {"device": device},
                device=device, started=job.started or now(), attempts=job.attempts + 1, beat=now(), **ANSWERED,
            )  # fmt: skip

    def note_process(self, job_id: str, pid: int, started: float) -> None:
        """Write down which process a running job is."""
        self._set(job_id, pid=pid, pid_started=started)

    def note_found(self, job_id: str, pid: int, started: float) -> None:
        """Write down that a running job's process was found by another server than the one that started it."""
        with self._database.session() as session:
            _change(session, job_id, ("running",), "running", "found", {}, pid=pid, pid_started=started)

    def note_beat(self, job_id: str, moment: datetime) -> None:
        """Write down a sign of life."""
        self._set(job_id, beat=moment)

    def requeue(self, job_id: str, code: str, facts: dict[str, Any], **values: Any) -> bool:
        """Let a job go on from its checkpoint as soon as there is a device: running to queued, at its old place."""
        with self._database.session() as session:
            return _change(session, job_id, ("running",), "queued", code, facts, **{**ANSWERED, **values})

    def hold(self, job_id: str, reason: str, facts: dict[str, Any], error: dict[str, Any] | None) -> bool:
        """Set a job aside for a ``person`` or a ``disk-full``: queued or running to paused."""
        with self._database.session() as session:
            return _change(
                session, job_id, ("queued", "running"), "paused", f"paused-{reason}", facts,
                paused_for=reason, error=error, device=None, attempts=SET_ASIDE, **ANSWERED,
            )  # fmt: skip

    def release(self, job_id: str, code: str) -> bool:
        """Put a job into the queue again: paused to queued."""
        with self._database.session() as session:
            return _change(session, job_id, ("paused",), "queued", code, {}, paused_for=None, error=None)

    def end(
        self, job_id: str, state: str, error: dict[str, Any] | None, facts: dict[str, Any], model: Model | None = None
    ) -> bool:
        """End a job, from any unfinished state: succeeded (with its model), failed or cancelled."""
        with self._database.session() as session:
            if model is not None:
                session.merge(model)
            return _change(
                session, job_id, ("running", *WAITING), state, state, facts, error=error, finished=now(), **GONE
            )

    def ask_to_cancel(self, job_id: str) -> bool:
        """Cancel a job that waits, or ask for the end of one that runs; True when it is over already.

        Raises:
            RequestRefused: 404, or 409 when it has ended already.
        """
        with self._database.session() as session:
            if _change(session, job_id, WAITING, "cancelled", "cancelled", {}, finished=now(), paused_for=None):
                return True
            _ask(session, job_id, "cancel-asked", "There is nothing to cancel.", "cancel_requested")
            return False

    def ask_to_pause(self, job_id: str) -> bool:
        """Pause a job that waits, or ask one that runs to keep what it has and stop; True when it is paused.

        Raises:
            RequestRefused: 404, or 409 when it has ended already.
        """
        with self._database.session() as session:
            job = _existing(session, job_id)
            if job.state == "paused" and job.paused_for == "person":
                return True
            # One that waits for the disk stays so too, until a person says that it may go on.
            if _change(session, job_id, WAITING, "paused", "paused-person", {}, paused_for="person", error=None):
                return True
            _ask(session, job_id, "pause-asked", "There is nothing to pause.", "pause_requested")
            return False

    def ask_to_resume(self, job_id: str, most_each: int) -> None:
        """Put a paused job into the queue again, at its old place; one that is about to pause goes on after that.

        Args:
            job_id: which.
            most_each: how many of one person may be in the queue, this one included.

        Raises:
            RequestRefused: 404, 409 when it is not paused, or 429 when its owner has as many in the queue already.
        """
        with self._database.session() as session:
            job = _existing(session, job_id)
            if _change(session, job_id, ("paused",), "queued", "released", {}, paused_for=None, error=None):
                require_room(session, job, most_each)  # refused, it is paused as before
                return
            taken_back = update(Job).where(Job.id == job_id, Job.state == "running", Job.pause_requested)
            if not session.execute(taken_back.values(pause_requested=False)).rowcount:  # type: ignore[attr-defined]
                raise RequestRefused(
                    409, "This training is not paused", seen=job.state, remedy="There is nothing to go on with.",
                    code="job-not-paused",
                )  # fmt: skip

    def delete(self, job_id: str) -> None:
        """Delete the row of an ended job; its model stays.

        Raises:
            RequestRefused: 404, or 409 while it waits or runs.
        """
        with self._database.session() as session:
            job = _existing(session, job_id)
            if job.state not in FINISHED_STATES:
                raise RequestRefused(
                    409, "This training has not ended", seen=job.state, remedy="Cancel it first, then delete it.",
                    code="job-not-ended",
                )  # fmt: skip
            session.delete(job)

    def in_state(self, state: str) -> Sequence[Job]:
        """Return the jobs in a state."""
        with self._database.session() as session:
            return session.scalars(select(Job).where(Job.state == state)).all()

    def get(self, job_id: str) -> Job | None:
        """Return a job as it stands now."""
        with self._database.session() as session:
            return session.get(Job, job_id)

    def _set(self, job_id: str, **values: Any) -> None:
        with self._database.session() as session:
            session.execute(update(Job).where(Job.id == job_id).values(**values))


def _change(
    session: Session, job_id: str, before: Iterable[str], state: str, code: str, facts: dict[str, Any], **values: Any
) -> bool:
    changed = update(Job).where(Job.id == job_id, Job.state.in_(tuple(before))).values(state=state, **values)
    if not session.execute(changed.execution_options(synchronize_session=False)).rowcount:  # type: ignore[attr-defined]
        return False
    session.add(Happening(job_id=job_id, state=state, code=code, facts=facts))
    return True


def _ask(session: Session, job_id: str, code: str, remedy: str, flag: str) -> None:
    job = _existing(session, job_id)
    if job.state != "running":
        raise RequestRefused(
            409, "This training has already ended", seen=job.state, remedy=remedy, code="job-ended"
        )  # fmt: skip
    if not getattr(job, flag):
        _change(session, job_id, ("running",), "running", code, {}, **{flag: True})


def _existing(session: Session, job_id: str) -> Job:
    job = session.get(Job, job_id)
    if job is None:
        raise not_found("job", job_id)
    return job
