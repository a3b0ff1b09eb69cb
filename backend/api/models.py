"""Models: list, card, download, delete, and classify images with them."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import re
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.accounts.access import standing, visible
from backend.acting import acting
from backend.addresses import address
from backend.api.dependencies import ModelDep, Parts, PartsDep, SessionDep, StorageDep, require_model
from backend.api.schemas import (
    PROBLEMS,
    FigureList,
    FigureOut,
    ImportedModel,
    ModelList,
    ModelOut,
    PredictionList,
    PredictionOut,
    upload_body,
)
from backend.db import Model
from backend.importing import import_model
from backend.incoming import StoredFile
from backend.packing import zip_stream
from backend.problems import not_found
from backend.served_model import ServedModel
from backend.uploads import receive
from wara.answer_table import as_text
from wara.data.sources import open_source
from wara.errors import InputError
from wara.evaluation.choices import SEPARATOR
from wara.imaging.deidentify import safely_named
from wara.predictions import Prediction
from wara.training.outputs import read_card_page

SHOWN_PASSED_OVER = 20
HELD_BYTES = 256 * 1024  # a request of one image, that needs no folder of its own

router = APIRouter(tags=["models"], responses=PROBLEMS)
# By itself, so that it can be asked first: matching a request with all routes takes as long as reading its image.
predicting = APIRouter(tags=["models"], responses=PROBLEMS)


@router.get("/models")
def list_models(session: SessionDep) -> ModelList:
    """List models, newest first."""
    rows = session.scalars(select(Model).where(visible("model")).order_by(Model.created.desc(), Model.id))
    return ModelList(items=[_out(row, session) for row in rows])


@router.post(
    "/models",
    status_code=201,
    openapi_extra=upload_body("file", many=False, name="what to call it; by default as its folder in the zip"),
)
async def add_model(request: Request, parts: PartsDep) -> ImportedModel:
    """Bring in a model that was trained elsewhere: the zip that its download gave.

    It is kept once all of it is understood and it answers an image; its backbone must be here. The card and the figures
    are made anew, and `imported` tells it from those that were trained here.
    """
    lane = parts.lanes.imports
    async with lane.enter():
        with parts.storage.scratch() as batch:
            fields = await receive(request, parts.storage, batch, file_field="file")
            if len(batch.files) != 1 or not batch.files[0].name.lower().endswith(".zip"):
                raise InputError(
                    "A model is brought in as one zip",
                    seen=", ".join(file.name for file in batch.files)[:200] or "no file",
                    remedy="Send 'file' once: the zip that Download gave on the page Models.",
                    code="import-no-zip",
                )
            device = parts.settings.device.partition(":")[0]
            made, passed_over = await lane.run(
                import_model, parts.database, parts.storage, parts.backbones, device, batch.files[0],
                fields.get("name", ""),
            )  # fmt: skip
    request.state.made = ("model", made.id)
    return await run_in_threadpool(_imported, parts, made.id, passed_over)


def _imported(parts: Parts, model_id: str, passed_over: list[str]) -> ImportedModel:
    with parts.database.session() as session:
        told = _out(require_model(session, model_id), session).model_dump()
    shown = [name[:200] for name in passed_over[:SHOWN_PASSED_OVER]]
    return ImportedModel(**told, passed_over_count=len(passed_over), passed_over=shown)


@router.get("/models/{model_id}")
def get_model(model: ModelDep, session: SessionDep) -> ModelOut:
    """Return one model with all its metrics."""
    return _out(model, session)


@router.get(
    "/models/{model_id}/card",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/markdown": {}, "text/html": {}}}},
)
def get_card(
    model: ModelDep,
    storage: StorageDep,
    format: Annotated[Literal["markdown", "html"], Query(description="html for a page to print")] = "markdown",  # noqa: A002
) -> Response:
    """Return the model card as Markdown, or as one HTML page to print or keep as PDF."""
    run = storage.folder("models", model.id)
    if format == "html":
        return HTMLResponse(read_card_page(run))
    text = (run / "card.md").read_text(encoding="utf-8")
    return PlainTextResponse(text, media_type="text/markdown; charset=utf-8")


@router.get(
    "/models/{model_id}/download",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}}},
)
def download_model(model: ModelDep, storage: StorageDep) -> StreamingResponse:
    """Return the whole RUN folder as a zip, packed while it is sent."""
    name = re.sub(r"[^\w.-]+", "_", model.name).strip("_.") or "model"
    return StreamingResponse(
        zip_stream(storage.folder("models", model.id), name),
        media_type="application/zip",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}.zip"},
    )


@router.get("/models/{model_id}/figures")
def list_figures(model: ModelDep, storage: StorageDep) -> FigureList:
    """List the figures that the run drew."""
    files = sorted((storage.folder("models", model.id) / "figures").glob("*.png"))
    return FigureList(
        items=[FigureOut(name=file.stem, url=address(f"models/{model.id}/figures/{file.name}")) for file in files]
    )


@router.get(
    "/models/{model_id}/figures/{name}", response_class=FileResponse, responses={200: {"content": {"image/png": {}}}}
)
def get_figure(model: ModelDep, name: str, storage: StorageDep) -> FileResponse:
    """Return a figure of the run."""
    folder = storage.folder("models", model.id) / "figures"
    # Compared with what is there, never joined to the path as it came.
    found = next((file for file in folder.glob("*.png") if file.name == name), None)
    if found is None:
        raise not_found("figure", name)
    return FileResponse(found, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})


@router.delete("/models/{model_id}", status_code=204)
def delete_model(model_id: str, parts: PartsDep) -> Response:
    """Delete a model with its RUN folder."""
    with parts.database.session() as session:
        model = session.get(Model, model_id)
        if model is None:
            raise not_found("model", model_id)
        session.delete(model)
    parts.predictors.forget(model_id)
    parts.explainers.forget(model_id)
    parts.storage.remove("models", model_id)
    return Response(status_code=204)


@predicting.post(
    "/models/{model_id}/predict",
    openapi_extra=upload_body("files", many=True),
    response_model=PredictionList,
    responses={200: {"content": {"text/csv": {}}}},
)
async def predict(
    model_id: str,
    request: Request,
    parts: PartsDep,
    format: Annotated[Literal["json", "csv"], Query(description="csv for a table")] = "json",  # noqa: A002
) -> Response:
    """Classify images (or a zip of them). A file that cannot be read says why and stops none of the others."""
    # Whoever sees all sees a model that is ready; its deletion would have made it go.
    found: ServedModel | Model | None = parts.predictors.ready(model_id) if acting().is_admin else None
    if found is None:
        found = await run_in_threadpool(find_model, parts, model_id)
    async with parts.lanes.predictions.enter():
        with parts.storage.scratch(room=HELD_BYTES) as batch:
            await receive(request, parts.storage, batch)
            if not batch.files:
                raise InputError(
                    "No image came with the request", remedy="Choose one or more images.", code="empty-upload"
                )
            predictor = found if isinstance(found, ServedModel) else await _predictor(parts, found)
            answer = await _predict(parts, predictor, batch.files)
    if format == "json":
        return Response(answer.model_dump_json(), media_type="application/json")
    return Response(
        _table(answer),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="predictions.csv"'},
    )


def find_model(parts: Parts, model_id: str) -> Model:
    """Return a model for a route that reads its request as a stream, or answer 404."""
    with parts.database.session() as session:
        return require_model(session, model_id)


async def _predictor(parts: Parts, model: Model) -> ServedModel:
    ready = parts.predictors.ready(model.id)
    if ready is not None:
        return ready
    run = parts.storage.folder("models", model.id)
    return await parts.lanes.predictions.run(parts.predictors.get, model.id, run, model.backbone_spec)


async def _predict(parts: Parts, predictor: ServedModel, files: list[StoredFile]) -> PredictionList:
    if len(files) == 1 and files[0].name.lower().endswith(".zip"):
        # It holds its thread for long: not one of those by which single images find their model.
        predictions = await parts.lanes.batches.run(_predict_zip, parts, predictor, files[0])
    else:
        predictions = await parts.answering.answer(predictor, [functools.partial(_content, file) for file in files])
    items = [
        PredictionOut(
            file=entry.file,
            label=entry.label,
            probabilities=entry.probabilities,
            error=entry.error,
            uncalibrated=entry.uncalibrated,
            classes=None if entry.classes is None else list(entry.classes),
            warning=entry.warning,
            patient=entry.patient,
        )
        for entry in predictions
    ]
    return PredictionList(
        model_id=predictor.id,
        classes=list(predictor.classes),
        items=items,
        passed_over=sum(item.error is not None for item in items),
    )


def _predict_zip(parts: Parts, predictor: ServedModel, file: StoredFile) -> list[Prediction]:
    path = file.on_disk()
    path = path.rename(path.with_name(PurePosixPath(file.name).name))
    with open_source(path) as source:
        return list(parts.answering.answer_each(predictor, itertools.starmap(safely_named, source.contents())))


def _content(file: StoredFile) -> tuple[str, bytes | InputError]:
    # A name may repeat the header; in the answer, and in whatever keeps it, a code stands for it.
    return safely_named(file.name, file.read())


def _table(answer: PredictionList) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    columns = [f"{kind}_{name}" for kind in ("probability", "uncalibrated") for name in answer.classes]
    writer.writerow(["file", "label", *columns, "set", "warning", "patient", "error"])
    for item in answer.items:
        shares = [(kind or {}).get(name) for kind in (item.probabilities, item.uncalibrated) for name in answer.classes]
        numbers = ["" if share is None else f"{share:.6f}" for share in shares]
        held = SEPARATOR.join(item.classes or ())
        texts = (item.file, item.label, held, item.warning, item.patient, item.error)
        file, label, *more = (as_text(text or "") for text in texts)
        writer.writerow([file, label, *numbers, *more])
    return buffer.getvalue()


def _out(model: Model, session: Session) -> ModelOut:
    metrics = model.metrics
    return ModelOut(
        **standing(session, "model", model),  # type: ignore[arg-type]  # checked by the model
        id=model.id,
        name=model.name,
        job_id=model.job_id,
        dataset_id=model.dataset_id,
        dataset_name=model.dataset_name,
        method=model.method,
        backbone=model.backbone,
        pretrained=model.pretrained,
        preset=model.preset,
        classes=model.classes,
        created=model.created,
        seed=model.seed,
        rank=model.rank,
        trainable_parameters=metrics.get("trainable_parameters"),
        adapter_parameters=metrics.get("adapter_parameters"),
        seconds=metrics.get("seconds"),
        metrics=metrics,
        imported=model.imported,
    )
