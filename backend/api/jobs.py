"""Trainings: start, list, watch, pause, order, cancel, delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from backend.accounts.access import require_admin, visible
from backend.api.dependencies import (
    BackbonesDep,
    IntakeDep,
    JobDep,
    Parts,
    PartsDep,
    SessionDep,
    SupervisorDep,
    require_dataset,
)
from backend.api.job_view import JobViews
from backend.api.orders import checked_recipe
from backend.api.schemas import PROBLEMS, JobIn, JobList, JobMove, JobOut, JobPriority
from backend.db import Dataset, Job
from backend.db.models import FINISHED_STATES
from backend.jobs.queue import PRIORITIES, require_room
from backend.jobs.transitions import queued
from backend.problems import not_found

router = APIRouter(tags=["jobs"], responses=PROBLEMS)

POLL_SECONDS = 0.25
PING_SECONDS = 15.0
MAX_EVENT_DIGITS = 15


@router.post("/jobs", status_code=202)
def create_job(
    order: JobIn, session: SessionDep, intake: IntakeDep, backbones: BackbonesDep, parts: PartsDep
) -> JobOut:
    """Queue a training. Everything that can be wrong with the order is said at once."""
    dataset = require_dataset(session, order.dataset_id)
    intake.catalogue(dataset)  # refuses while it is not ready
    offer = backbones.resolve(order.backbone)
    checked_recipe(order, offer, parts)
    if PRIORITIES[order.priority] > 0:
        require_admin()  # it goes before what other people wait for
    parts.storage.require_space()
    job = Job(
        name=(order.name or "").strip() or f"{dataset.name}, {order.method}, {order.preset}",
        dataset_id=dataset.id,
        dataset_name=dataset.name,
        method=order.method,
        backbone=offer.id,
        backbone_spec=offer.info.spec,
        preset=order.preset,
        recipe=order.recipe,
        priority=PRIORITIES[order.priority],
        happenings=[queued()],
    )
    # Under the lock that deleting takes, and looked at again: the data set may have gone while the order was checked.
    with parts.storage.lock(dataset.id), parts.database.session() as own:
        if own.get(Dataset, dataset.id) is None:
            raise not_found("data set", dataset.id)
        own.add(job)
        own.flush()  # it now has its owner; refused, it is taken back
        require_room(own, job, parts.settings.waiting_per_person)
    # Committed before the supervisor is told to look.
    parts.supervisor.wake()
    return _shown(job.id, parts)


@router.get("/jobs")
def list_jobs(session: SessionDep, supervisor: SupervisorDep) -> JobList:
    """List trainings, newest first."""
    rows = session.scalars(select(Job).where(visible("job")).order_by(Job.created.desc(), Job.id))
    views = JobViews(session, supervisor)
    return JobList(items=[views.out(row) for row in rows])


@router.get("/jobs/{job_id}")
def get_job(job: JobDep, session: SessionDep, supervisor: SupervisorDep) -> JobOut:
    """Return one training with its epochs so far."""
    return JobViews(session, supervisor).out(job)


@router.get(
    "/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
def watch_job(job: JobDep, parts: PartsDep, last_event_id: Annotated[str | None, Header()] = None) -> StreamingResponse:
    """Stream a training's events; ``Last-Event-ID`` goes on behind an event, ``end`` closes the stream."""
    # A number that no job of ours has given is ignored, as the standard asks.
    known = last_event_id and last_event_id.isdecimal() and len(last_event_id) <= MAX_EVENT_DIGITS
    number = int(last_event_id) if last_event_id and known else 0
    return StreamingResponse(
        _stream(parts, job.id, number),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.post("/jobs/{job_id}/cancel", status_code=202)
def cancel_job(job_id: str, parts: PartsDep) -> JobOut:
    """End a training; the device is free within ten seconds."""
    parts.supervisor.cancel(job_id)
    return _shown(job_id, parts)


@router.post("/jobs/{job_id}/pause", status_code=202)
def pause_job(job_id: str, parts: PartsDep) -> JobOut:
    """Let a training rest: it finishes its step, keeps what it has learned and frees its device."""
    parts.supervisor.pause(job_id)
    return _shown(job_id, parts)


@router.post("/jobs/{job_id}/resume", status_code=202)
def resume_job(job_id: str, parts: PartsDep) -> JobOut:
    """Let a paused training go on from where it was, as soon as there is a device.

    507 while the disk is full; 429 while its owner has as many in the queue as one person may have.
    """
    parts.supervisor.resume(job_id)
    return _shown(job_id, parts)


@router.post("/jobs/{job_id}/move")
def move_job(job_id: str, order: JobMove, parts: PartsDep) -> JobOut:
    """Move a training that waits within the queue; among several people, an admin decides that."""
    require_admin()
    parts.supervisor.queue.move(job_id, order.to)
    return _shown(job_id, parts)


@router.put("/jobs/{job_id}/priority")
def set_job_priority(job_id: str, order: JobPriority, parts: PartsDep) -> JobOut:
    """Make a training that waits or is paused more or less urgent; among several people, an admin decides that."""
    require_admin()
    parts.supervisor.queue.set_priority(job_id, order.priority)
    return _shown(job_id, parts)


@router.delete("/jobs/{job_id}", status_code=204)
def delete_job(job_id: str, supervisor: SupervisorDep) -> Response:
    """Delete an ended training from the list; its model stays."""
    supervisor.delete(job_id)
    return Response(status_code=204)


async def _stream(parts: Parts, job_id: str, number: int) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    silent = 0.0
    while True:
        # The state first, the lines after it: what a job wrote before it ended is then never missed.
        state = await run_in_threadpool(_state, parts, job_id)
        lines = await run_in_threadpool(parts.supervisor.events(job_id).after, number)
        for number, line, kind in lines:
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), line)
        if state is None or state in FINISHED_STATES:
            yield b'event: end\ndata: {"state": "%s"}\n\n' % (state or "deleted").encode()
            return
        silent = 0.0 if lines else silent + POLL_SECONDS
        if silent >= PING_SECONDS:
            silent = 0.0
            yield b": still here\n\n"
        await asyncio.sleep(POLL_SECONDS)


def _shown(job_id: str, parts: Parts) -> JobOut:
    with parts.database.session() as session:
        job = session.get(Job, job_id)
        if job is None:  # it ended and was deleted at once
            raise not_found("job", job_id)
        return JobViews(session, parts.supervisor).out(job)


def _state(parts: Parts, job_id: str) -> str | None:
    with parts.database.session() as session:
        return session.scalars(select(Job.state).where(Job.id == job_id)).one_or_none()
