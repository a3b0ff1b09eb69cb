"""A training as the API shows it: what its row, its events and its place in the queue say together."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.acting import acting
from backend.api.schemas import JobHappening, JobOut, JobProgress, Problem
from backend.db import Job
from backend.jobs.queue import NAMES
from backend.jobs.sentences import in_words
from backend.jobs.supervisor import Supervisor


class JobViews:
    """Makes the answers about jobs; what they share, such as the queue's order, is looked up once.

    Args:
        session: the request's.
        supervisor: knows events and queue.
    """

    def __init__(self, session: Session, supervisor: Supervisor) -> None:
        self._session, self._supervisor = session, supervisor

    def out(self, job: Job) -> JobOut:
        """Return a training as it stands."""
        view = self._supervisor.events(job.id).view()
        running = job.state == "running"
        fields: dict[str, Any] = {
            "id": job.id,
            "name": job.name,
            "dataset_id": job.dataset_id,
            "dataset_name": job.dataset_name,
            "method": job.method,
            "backbone": job.backbone,
            "preset": job.preset,
            "state": job.state,
            "priority": NAMES.get(job.priority, "normal"),
            "position": self._places.get(job.id),
            "movable": job.state == "queued" and acting().is_admin,
            "starts_in": self._starts_in(job),
            "pause_reason": job.paused_for,
            "last_sign": job.beat,
            "happenings": [
                JobHappening(at=each.at, state=each.state, code=each.code, text=in_words(each))
                for each in job.happenings
            ],
            "created": job.created,
            "started": job.started,
            "finished": job.finished,
            "phase": view.phase,
            "message": _message(job, view.message),
            "progress": JobProgress(**view.progress) if running and view.progress else None,
            "history": view.history,
            "warnings": view.warnings,
            "error": Problem(**job.error) if job.error else None,
            "model_id": job.model.id if job.model is not None else None,
        }
        return JobOut.model_validate(fields)

    @cached_property
    def _places(self) -> dict[str, int]:
        return self._supervisor.queue.places()

    @cached_property
    def _first_free(self) -> float | None:
        """Seconds until the first device is free; None where a training that runs does not know how long it takes."""
        left: list[float] = []
        for job in self._session.scalars(select(Job).where(Job.state == "running")):
            progress = self._supervisor.events(job.id).view().progress or {}
            if progress.get("seconds_left") is None:
                return None
            left.append(float(progress["seconds_left"]))
        return min(left, default=None)

    def _starts_in(self, job: Job) -> float | None:
        # Of those behind the first nobody knows how long the ones before them take.
        return self._first_free if self._places.get(job.id) == 1 else None


def _message(job: Job, said: str | None) -> str | None:
    if job.state == "queued":
        return "Waiting for a free device"
    if job.state == "paused":
        full = job.paused_for == "disk-full"
        return "Paused: the disk is full. It goes on once there is room" if full else "Paused until you go on"
    if job.state == "running":
        if job.cancel_requested:
            return "Stopping"
        if job.pause_requested:
            return "Pausing: it finishes its step first"
        return said or "Starting"
    return said
