"""A model for other programs: ONNX with its notes, merged weights, or the PEFT adapter, made when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from backend.api.dependencies import Parts, PartsDep, gone_is_not_found
from backend.api.models import find_model
from backend.api.schemas import PROBLEMS
from backend.db import Model
from backend.exports import make_export

router = APIRouter(tags=["models"], responses=PROBLEMS)

Kind = Literal["onnx", "merged", "peft"]
_FORMATS = "onnx: a zip of model.onnx, how to use it, and the card; merged: safetensors; peft: a zip of the adapter"
_MEGABYTE = 1024 * 1024


@router.get(
    "/models/{model_id}/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}, "application/octet-stream": {}}}},
)
async def export_model(
    model_id: str,
    parts: PartsDep,
    format: Annotated[Kind, Query(description=_FORMATS)] = "onnx",  # noqa: A002
) -> StreamingResponse:
    """Return the model as a file for other programs; a merge that would not be exact is refused with the reason."""
    model = await run_in_threadpool(_asked_for, parts, model_id)
    if format == "peft":  # files packed at once, for which nobody waits behind a model that is traced
        file, suffix = await run_in_threadpool(_made, parts, model, format)
    else:
        lane = parts.lanes.exports
        async with lane.enter():
            file, suffix = await lane.run(_made, parts, model, format)
    name = re.sub(r"[^\w.-]+", "_", model.name).strip("_.") or "model"
    size = file.seek(0, 2)
    file.seek(0)
    return StreamingResponse(
        _chunks(file),
        media_type="application/zip" if suffix.endswith(".zip") else "application/octet-stream",
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}{suffix}",
            "Content-Length": str(size),
        },
    )


def _asked_for(parts: Parts, model_id: str) -> Model:
    model = find_model(parts, model_id)
    parts.storage.require_space()
    return model


def _made(parts: Parts, model: Model, kind: Kind) -> tuple[IO[bytes], str]:
    """Write the export and return it open, with the end of its name.

    Its name is taken off the disk before it is sent: nothing stays behind, however the sending ends.
    """
    run = parts.storage.folder("models", model.id)
    scratch = parts.storage.folder("scratch", "")
    with gone_is_not_found(parts, Model, "model", model.id), TemporaryDirectory(dir=scratch) as folder:
        path = make_export(run, kind, Path(folder), backbone=model.backbone_spec, offline=parts.settings.offline)
        return path.open("rb"), f"-{path.name}"


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_MEGABYTE):
            yield chunk
