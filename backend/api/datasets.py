"""Data sets: upload at once or in batches, look at them, delete them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select

from backend.accounts.access import standing, visible
from backend.addresses import address
from backend.api.dependencies import DatasetDep, IntakeDep, PartsDep, SessionDep, StorageDep, UploadsDep
from backend.api.schemas import (
    PROBLEMS,
    CheckProgress,
    DatasetList,
    DatasetOut,
    DecisionIn,
    DecisionList,
    DecisionOut,
    ImageList,
    ImageOut,
    Problem,
    upload_body,
)
from backend.catalogues import Study, formats_of
from backend.db import Dataset
from backend.intake import Intake
from backend.masks import masks_of
from backend.problems import not_found
from backend.storage import Storage
from backend.studies import study, take_decision, undo_decision
from backend.thumbnails import THUMBNAIL_TYPE, thumbnail
from backend.uploads import receive
from wara.data.decisions import Decision
from wara.errors import InputError

router = APIRouter(tags=["datasets"], responses=PROBLEMS)

_ASK = "true to say first where labels come from (PUT mapping), though they can be told by themselves"
_FILES_HELP = {
    "name": "name of the data set; else the folder's",
    "labels": "path of a CSV inside the upload (columns file, label, optional patient, split)",
    "age_band": "5 or 10: keep sex and age, ages in bands of so many years; else neither is kept",
}


@router.post(
    "/datasets",
    status_code=201,
    openapi_extra=upload_body(
        "files", many=True, needed=False, **_FILES_HELP, finish="false to send files later", ask=_ASK
    ),
)
async def create_dataset(request: Request, storage: StorageDep, intake: IntakeDep) -> DatasetOut:
    """Upload files whose file names are relative paths (``folder/class/image.png``), or one zip.

    With ``finish=false`` the data set keeps receiving until it is finished.
    """
    await run_in_threadpool(storage.require_space)
    dataset_id = await run_in_threadpool(intake.begin, None, None)
    try:
        with storage.scratch() as batch:
            fields = await receive(request, storage, batch)
            await run_in_threadpool(intake.add, dataset_id, batch, *_described(fields))
        if _yes(fields.get("finish", "true")):
            await run_in_threadpool(intake.finish, dataset_id, ask=_yes(fields.get("ask", "false")))
    except BaseException:
        await run_in_threadpool(intake.discard_upload, dataset_id)
        raise
    return await run_in_threadpool(fetch, intake, dataset_id)


@router.post(
    "/datasets/{dataset_id}/files", openapi_extra=upload_body("files", many=True, needed=False, **_FILES_HELP)
)
async def add_files(dataset_id: str, request: Request, storage: StorageDep, intake: IntakeDep) -> DatasetOut:
    """Add files to a data set that is receiving: all of them, or none when one cannot be kept."""
    used = await run_in_threadpool(intake.accepts, dataset_id)
    # Outside the data set until all is here: finishing or deleting it meanwhile pulls nothing from under the upload.
    with storage.scratch(used_bytes=used) as batch:
        fields = await receive(request, storage, batch)
        await run_in_threadpool(intake.add, dataset_id, batch, *_described(fields))
    return await run_in_threadpool(fetch, intake, dataset_id)


@router.post("/datasets/{dataset_id}/finish", status_code=202)
def finish_dataset(
    dataset_id: str, intake: IntakeDep, uploads: UploadsDep, ask: Annotated[bool, Query(description=_ASK)] = False
) -> DatasetOut:
    """End an upload. The images are checked in the background; what cannot be used at all is refused at once."""
    uploads.require_whole(dataset_id)
    intake.finish(dataset_id, ask=ask)
    return fetch(intake, dataset_id)


@router.get("/datasets")
def list_datasets(session: SessionDep, intake: IntakeDep) -> DatasetList:
    """List data sets, newest first."""
    rows = session.scalars(select(Dataset).where(visible("dataset")).order_by(Dataset.created.desc(), Dataset.id))
    return DatasetList(items=[_out(row, intake) for row in rows])


@router.get("/datasets/{dataset_id}")
def get_dataset(dataset: DatasetDep, intake: IntakeDep) -> DatasetOut:
    """Return one data set; poll it while it is being checked."""
    return _out(dataset, intake)


@router.get("/datasets/{dataset_id}/report")
def get_report(dataset: DatasetDep, intake: IntakeDep, seed: Annotated[int, Query(ge=0)] = 0) -> dict[str, Any]:
    """Return counts, the split that training with this seed uses, findings with their fixes, and decisions so far."""
    now = study(intake, dataset, seed)
    report = now.report()
    report["masks"] = masks_of(intake, dataset)
    for finding in report["findings"]:
        for group in finding["groups"]:
            for image in group["images"]:
                image["url"] = _thumbnail_url(dataset.id, now, image["file"])
    return report


@router.post("/datasets/{dataset_id}/decisions", status_code=201)
def create_decision(
    dataset: DatasetDep, decision: DecisionIn, intake: IntakeDep, seed: Annotated[int, Query(ge=0)] = 0
) -> DecisionList:
    """Fix a finding of the report with this seed. Report and training then go by it; 409 while a job uses the data."""
    return _decisions(take_decision(intake, dataset.id, decision.finding, decision.fix, seed))


@router.delete("/datasets/{dataset_id}/decisions/{number}")
def delete_decision(dataset: DatasetDep, number: int, intake: IntakeDep) -> DecisionList:
    """Take a decision back by its place in the report's list, from 0; 409 while a job uses the data set."""
    return _decisions(undo_decision(intake, dataset.id, number))


@router.get("/datasets/{dataset_id}/images")
def list_images(
    dataset: DatasetDep,
    intake: IntakeDep,
    cls: Annotated[str | None, Query(description="only this class")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 24,
    offset: Annotated[int, Query(ge=0)] = 0,
    seed: Annotated[int, Query(ge=0)] = 0,
) -> ImageList:
    """List a page of images with the addresses of their thumbnails."""
    now = study(intake, dataset, seed)
    catalogue, sides = now.catalogue, now.split
    if cls is not None and cls not in catalogue.classes:
        raise InputError(
            "There is no such class",
            seen=cls[:80],
            remedy=f"The classes are {', '.join(catalogue.classes)}.",
            code="class-not-found",
        )
    chosen = [index for index, item in enumerate(catalogue.items) if cls is None or item.label == cls]
    return ImageList(
        total=len(chosen),
        items=[
            ImageOut(
                file=catalogue.items[index].file,
                label=catalogue.items[index].label,
                split=sides[index],
                url=_thumbnail_url(dataset.id, now, catalogue.items[index].file),
            )
            for index in chosen[offset : offset + limit]
        ],
    )


@router.get(
    "/datasets/{dataset_id}/images/{index}/thumbnail",
    response_class=Response,
    responses={200: {"content": {THUMBNAIL_TYPE: {}}}},
)
async def get_thumbnail(dataset: DatasetDep, index: int, parts: PartsDep) -> Response:
    """Return an image as a 256-pixel square on black, made of its pixels alone, whatever else the file holds."""
    lane = parts.lanes.thumbnails
    async with lane.enter():
        picture = await lane.run(_thumbnail, parts.intake, parts.storage, dataset, index)
    headers = {"Cache-Control": "private, max-age=86400, immutable"}
    return Response(picture, media_type=THUMBNAIL_TYPE, headers=headers)


@router.delete("/datasets/{dataset_id}", status_code=204)
def delete_dataset(dataset_id: str, intake: IntakeDep) -> Response:
    """Delete a data set with all its images; models trained on it stay."""
    intake.delete(dataset_id)
    return Response(status_code=204)


def _yes(written: str) -> bool:
    return written.strip().lower() not in ("false", "0", "no", "")


def _described(fields: dict[str, str]) -> tuple[str | None, str | None, str | None]:
    return fields.get("name"), fields.get("labels"), fields.get("age_band")


def _thumbnail(intake: Intake, storage: Storage, dataset: Dataset, index: int) -> bytes:
    items = intake.catalogue(dataset).items
    if not 0 <= index < len(items):
        raise not_found("image", str(index))
    return thumbnail(storage.folder("datasets", dataset.id), intake.source(dataset), items[index])


def _thumbnail_url(dataset_id: str, study: Study, file: str) -> str:
    # Other labels may put another image at this place; the version keeps browsers from showing the old.
    return address(f"datasets/{dataset_id}/images/{study.numbers[file]}/thumbnail?v={study.checked.fingerprint[:8]}")


def _decisions(decisions: list[Decision]) -> DecisionList:
    return DecisionList(items=[DecisionOut(**decision.summary()) for decision in decisions])


def fetch(intake: Intake, dataset_id: str) -> DatasetOut:
    """Return a data set as routes answer with it."""
    with intake.database.session() as session:
        dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise not_found("data set", dataset_id)
    return _out(dataset, intake)


def _out(dataset: Dataset, intake: Intake) -> DatasetOut:
    with intake.database.session() as session:
        whose = standing(session, "dataset", dataset)
    progress = intake.progress(dataset.id) if dataset.state == "checking" else None
    if dataset.state == "checking" and progress is None:
        progress = (0, dataset.images)
    return DatasetOut.model_validate(
        {
            "id": dataset.id,
            "name": dataset.name or "New data set",
            "status": dataset.state,
            "created": dataset.created,
            "images": dataset.images,
            "classes": dataset.classes,
            "layout": dataset.layout,
            "formats": formats_of(intake.catalogue_file(dataset)) if dataset.state == "ready" else (),
            "passed_over": dataset.passed_over,
            "progress": CheckProgress(done=progress[0], total=progress[1]) if progress else None,
            "error": Problem(**dataset.error) if dataset.error else None,
            **whose,
        }
    )
