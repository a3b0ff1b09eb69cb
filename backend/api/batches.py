"""Batches: a folder, a zip or a data set classified with progress, and the tables of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from backend.api.dependencies import BatchesDep, ModelDep, PartsDep
from backend.api.models import find_model
from backend.api.schemas import PROBLEMS, Order, Problem, upload_body
from backend.batch_record import REASONS_TOLD, BatchRecord
from backend.batches import KEPT, MAX_FILES
from backend.problems import RequestRefused
from backend.uploads import receive
from wara.answer_table import Row

router = APIRouter(tags=["batches"], responses=PROBLEMS)

_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}}}


class AnnouncedFile(BaseModel):
    """A file that will be sent: its relative name, and its size in bytes."""

    name: str = Field(max_length=1024)
    size: int = Field(ge=0)


class BatchIn(Order):
    """What to classify: files that will be sent, or a data set that is here."""

    files: list[AnnouncedFile] | None = Field(default=None, max_length=MAX_FILES)
    dataset_id: str | None = None


class FilesIn(Order):
    """Files to ask about."""

    files: list[AnnouncedFile] = Field(max_length=MAX_FILES)


class Reason(BaseModel):
    """Why files could not be read, and how many."""

    reason: str
    count: int


class BatchOut(BaseModel):
    """A batch: how far it is, and what its answers add up to. It is deleted by itself after ``expires``."""

    id: str
    model_id: str
    model_name: str
    version: str
    classes: list[str]
    kind: Literal["files", "zip", "dataset"]
    dataset_id: str | None
    state: Literal["receiving", "running", "done", "cancelled", "failed"]
    created: datetime
    expires: datetime
    total: int
    done: int
    unreadable: int
    labels: dict[str, int]
    warnings: int
    reasons: list[Reason]
    patients: int = Field(description="patients known by a code")
    several: bool = Field(description="whether any of them has more than one image")
    patient_rule: str
    error: Problem | None


class BatchList(BaseModel):
    """Batches, the newest first."""

    items: list[BatchOut]


class RowOut(BaseModel):
    """One file's answer; ``number`` is its place among those that were to be classified."""

    number: int
    file: str
    patient: str | None
    label: str | None
    probabilities: dict[str, float] | None
    classes: list[str] | None
    warning: str | None
    error: str | None


class RowList(BaseModel):
    """Answers in the order in which they came; ``total`` counts all of the batch."""

    total: int
    items: list[RowOut]


class Taken(BaseModel):
    """The batch after some files were classified, and the answers for them."""

    batch: BatchOut
    items: list[RowOut]


class Place(BaseModel):
    """A file's number in a batch, and whether its answer is there already."""

    number: int
    done: bool


class PlaceList(BaseModel):
    """A place for each file that was asked about; null for one that was not announced."""

    items: list[Place | None]


class PatientOut(BaseModel):
    """What the model says of one patient, its images put together."""

    patient: str
    images: int
    label: str
    probabilities: dict[str, float]
    warnings: int


class PatientList(BaseModel):
    """Patients in the order of their first image; ``rule`` says how images were put together."""

    total: int
    rule: str
    items: list[PatientOut]


@router.post("/models/{model_id}/batches", status_code=201)
def create_batch(model: ModelDep, order: BatchIn, batches: BatchesDep) -> BatchOut:
    """Begin a batch: of files, which are then sent a few at a time, or of a data set, which needs no more requests."""
    if (order.files is None) == (order.dataset_id is None):
        raise RequestRefused(
            422,
            "A batch is either of files or of a data set",
            remedy="Send 'files' with names and sizes, or 'dataset_id'.",
            code="batch-of-what",
        )
    if order.dataset_id is not None:
        return _out(batches.begin_dataset(model, order.dataset_id))
    return _out(batches.begin_files(model, _pairs(order.files or [])))


@router.post("/models/{model_id}/batches/zip", status_code=201, openapi_extra=upload_body("files", many=False))
async def create_zip_batch(model_id: str, request: Request, parts: PartsDep) -> BatchOut:
    """Begin a batch of a zip's images. The zip is gone when the batch ends."""
    model = await run_in_threadpool(find_model, parts, model_id)
    with parts.storage.scratch() as received:
        await receive(request, parts.storage, received)
        return _out(await run_in_threadpool(parts.batches.begin_zip, model, received.files))


@router.get("/batches")
def list_batches(batches: BatchesDep) -> BatchList:
    """List batches, the newest first."""
    items = []
    for record in batches.all():
        with suppress(RequestRefused):  # deleted at this moment
            items.append(_out(record))
    return BatchList(items=items)


@router.get("/batches/{batch_id}.csv", response_class=StreamingResponse, responses=_CSV)
def get_table(batch_id: str, batches: BatchesDep) -> StreamingResponse:
    """Return the answers so far as a table, a row an image."""
    return _csv(batches.get(batch_id).csv(), "classification.csv")


@router.get("/batches/{batch_id}/patients.csv", response_class=StreamingResponse, responses=_CSV)
def get_patient_table(batch_id: str, batches: BatchesDep) -> StreamingResponse:
    """Return the answers so far as a table, a row a patient."""
    return _csv(batches.get(batch_id).patients_csv(), "classification-by-patient.csv")


@router.get("/batches/{batch_id}")
def get_batch(batch_id: str, batches: BatchesDep) -> BatchOut:
    """Return one batch; poll it while it is under way."""
    return _out(batches.get(batch_id))


@router.get("/batches/{batch_id}/rows")
def get_rows(
    batch_id: str,
    batches: BatchesDep,
    offset: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> RowList:
    """Return a page of the answers."""
    record = batches.get(batch_id)
    items = [_row(row, record.order.classes) for row in record.rows(offset, limit)]
    return RowList(total=len(record.tally.done), items=items)


@router.get("/batches/{batch_id}/patients")
def get_patients(
    batch_id: str, batches: BatchesDep, limit: Annotated[int, Query(ge=1, le=1000)] = 50
) -> PatientList:
    """Return the first answers for patients."""
    record = batches.get(batch_id)
    found = record.patients()
    items = [
        PatientOut(
            patient=row.patient,
            images=row.images,
            label=row.label,
            probabilities=dict(zip(record.order.classes, row.probabilities, strict=True)),
            warnings=row.warnings,
        )
        for row in found[:limit]
    ]
    return PatientList(total=len(found), rule=record.order.rule, items=items)


@router.post("/batches/{batch_id}/places")
def find_places(batch_id: str, asked: FilesIn, batches: BatchesDep) -> PlaceList:
    """Say which of these files belong to the batch and which are done, to go on after a break."""
    found = batches.places(batch_id, _pairs(asked.files))
    return PlaceList(items=[None if place is None else Place(number=place[0], done=place[1]) for place in found])


@router.post("/batches/{batch_id}/files", openapi_extra=upload_body("files", many=True))
async def add_batch_files(batch_id: str, request: Request, parts: PartsDep) -> Taken:
    """Classify some of the announced files and answer with what the model says of them; the images are not kept.

    Files that are done already are passed over, so that a request whose answer was lost can be sent again.
    """
    record = await run_in_threadpool(parts.batches.get, batch_id)
    lane = parts.lanes.batches
    async with lane.enter():
        with parts.storage.scratch() as received:
            await receive(request, parts.storage, received)
            rows = await lane.run(parts.batches.take, batch_id, received.files)
    return Taken(batch=_out(record), items=[_row(row, record.order.classes) for row in rows])


@router.post("/batches/{batch_id}/cancel")
def cancel_batch(batch_id: str, batches: BatchesDep) -> BatchOut:
    """End a batch. The answers so far stay."""
    return _out(batches.cancel(batch_id))


@router.delete("/batches/{batch_id}", status_code=204)
def delete_batch(batch_id: str, batches: BatchesDep) -> Response:
    """Delete a batch with its answers."""
    batches.delete(batch_id)
    return Response(status_code=204)


def _pairs(files: list[AnnouncedFile]) -> list[tuple[str, int]]:
    return [(file.name, file.size) for file in files]


def _csv(lines: Iterator[str], name: str) -> StreamingResponse:
    return StreamingResponse(
        lines,
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


def _row(row: Row, classes: list[str]) -> RowOut:
    shares = None if row.probabilities is None else dict(zip(classes, row.probabilities, strict=True))
    return RowOut(
        number=row.number,
        file=row.file,
        patient=row.patient,
        label=row.label,
        probabilities=shares,
        classes=None if row.classes is None else list(row.classes),
        warning=row.warning,
        error=row.error,
    )


def _out(record: BatchRecord) -> BatchOut:
    order, tally = record.order, record.tally
    return BatchOut(
        id=order.id,
        model_id=order.model_id,
        model_name=order.model_name,
        version=order.version,
        classes=order.classes,
        kind=order.kind,  # type: ignore[arg-type]  # checked by the model
        dataset_id=order.dataset_id,
        state=order.state,  # type: ignore[arg-type]
        created=datetime.fromisoformat(order.created),
        expires=record.changed + KEPT,
        total=order.total,
        done=len(tally.done),
        unreadable=tally.unreadable,
        labels={name: tally.labels[name] for name in order.classes},
        warnings=tally.warnings,
        reasons=[Reason(reason=reason, count=count) for reason, count in tally.reasons.most_common(REASONS_TOLD)],
        patients=len(tally.patients),
        several=any(count > 1 for count in tally.patients.values()),
        patient_rule=order.rule,
        error=Problem(**order.error) if order.error else None,
    )
