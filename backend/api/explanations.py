"""Why a model gave an image its class: the update's part by scale, drawn over the image, beside attention."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from backend.api.dependencies import Parts, PartsDep
from backend.api.models import find_model
from backend.api.schemas import PROBLEMS, upload_body
from backend.db import Model
from backend.incoming import StoredFile
from backend.problems import RequestRefused
from backend.uploads import receive
from wara.errors import InputError

router = APIRouter(tags=["models"], responses=PROBLEMS)

_ADAPTED = ("wara", "tiny-wara", "lora")


class ScalePart(BaseModel):
    """What one scale of the update contributed; ``map`` has a number for each patch, in logits."""

    model_config = ConfigDict(extra="forbid")

    name: str
    size: str
    bands: list[str]
    contribution: float
    share: float | None
    map: list[list[float]]


class SecondOpinionPart(BaseModel):
    """What one part of what the lower layers see adds to the second opinion's score, in logits."""

    name: str
    contribution: float


class SecondOpinionOut(BaseModel):
    """What the second opinion says by itself, before calibration; half of the answer of a model that has one."""

    probabilities: dict[str, float]
    parts: list[SecondOpinionPart]


class ExplanationOut(BaseModel):
    """Why an image got its class; ``figures`` holds a PNG for each theme asked for, as an address of ``data:``."""

    model_id: str
    file: str
    label: str
    probabilities: dict[str, float]
    target: str
    against: str
    sentence: str
    score: dict[str, float]
    scales: list[ScalePart]
    bands: dict[str, float]
    layers: list[dict[str, Any]]
    prefix: float
    attention: list[list[float]] | None
    attention_note: str | None
    method: str
    own_transform: bool
    second_opinion: SecondOpinionOut | None
    figures: dict[str, str] = Field(description="theme: data:image/png;base64,...")


@router.post("/models/{model_id}/explain", openapi_extra=upload_body("file", many=False))
async def explain(
    model_id: str,
    request: Request,
    parts: PartsDep,
    cls: Annotated[str | None, Query(description="the class to explain; else the one that the model answers")] = None,
    theme: Annotated[Literal["light", "dark", "both"], Query(description="of the figure")] = "light",
) -> ExplanationOut:
    """Explain the class of one image. The image is gone from the server when the answer is sent."""
    model = await run_in_threadpool(find_model, parts, model_id)
    lane = parts.lanes.explanations
    async with lane.enter():
        with parts.storage.scratch() as batch:
            await receive(request, parts.storage, batch, file_field="file")
            return await lane.run(_explain, parts, model, batch.files, cls, theme)


def _explain(parts: Parts, model: Model, files: list[StoredFile], cls: str | None, theme: str) -> ExplanationOut:
    if model.method not in _ADAPTED:
        raise RequestRefused(
            409,
            "This model has no adapter whose part in a decision could be shown",
            seen=model.method,
            remedy="Choose a model trained with WaRA, Tiny-WaRA or LoRA.",
            code="no-adapter",
        )
    if len(files) != 1:
        raise InputError(
            "An explanation takes one image", seen=f"{len(files)} files", remedy="Send one image in the field 'file'.",
            code="one-image",
        )  # fmt: skip
    run = parts.storage.folder("models", model.id)
    explainer = parts.explainers.get(model.id, run, model.backbone_spec)
    themes = ("light", "dark") if theme == "both" else (theme,)
    found, pictures = explainer.explain(files[0].read(), files[0].name, cls, themes)
    figures = {
        name: f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
        for name, picture in zip(themes, pictures, strict=True)
    }
    return ExplanationOut(model_id=model.id, figures=figures, **found)
