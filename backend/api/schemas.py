"""What the API answers, as typed documents."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": {"application/problem+json": {}}}
    for code, text in {
        400: "The request cannot be read",
        401: "Nobody is signed in",
        403: "Not from here, or not for this account",
        404: "There is none",
        409: "Not in this state",
        413: "Too large",
        415: "Not an upload",
        422: "A value cannot be used",
        429: "Too often; Retry-After says when again",
        503: "Too busy, or not ready; Retry-After says when again",
        507: "No disk space left",
    }.items()
}


class Problem(BaseModel):
    """An error: what was wrong, the value seen, what to do."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    seen: str | None = None
    remedy: str


class DeviceInfo(BaseModel):
    """The device that jobs run on."""

    type: str
    name: str


class QueueInfo(BaseModel):
    """How many jobs run and wait."""

    running: int
    queued: int


class Alive(BaseModel):
    """That the server answers, and nothing else of it."""

    status: Literal["ok"]


class Health(BaseModel):
    """Whether the server is well, and what it has."""

    status: Literal["ok"]
    version: str
    device: DeviceInfo | None
    disk_free_mb: int
    jobs: QueueInfo
    backbones_available: int
    notice: str | None


class BackboneOut(BaseModel):
    """A backbone that can be chosen."""

    id: str
    name: str
    label: str
    pretrained: bool
    available: bool
    source: Literal["file", "hub", "untrained", "embedded"]
    input_size: int | None
    note: str


class BackboneList(BaseModel):
    """Backbones, the best first."""

    items: list[BackboneOut]


class ClassCount(BaseModel):
    """A class and its images."""

    name: str
    count: int


class CheckProgress(BaseModel):
    """How many images are checked."""

    done: int
    total: int


class DatasetOut(BaseModel):
    """A data set."""

    id: str
    name: str
    status: Literal["receiving", "mapping", "checking", "ready", "failed"]
    created: datetime
    images: int
    classes: list[ClassCount]
    layout: str | None
    formats: list[str] = Field(default=[], description="of its images, e.g. PNG, DICOM; known once it is ready")
    passed_over: int
    progress: CheckProgress | None
    error: Problem | None
    access: Literal["own", "edit", "view"] | None = Field(
        default=None, description="how far one's rights to it reach; null on a server without accounts"
    )
    owner: str | None = Field(default=None, description="whose it is, where it is another's")


class DatasetList(BaseModel):
    """Data sets, newest first."""

    items: list[DatasetOut]


class Order(BaseModel):
    """What a person sends to have something done."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _text_that_can_be_kept(cls, value: Any) -> Any:
        if isinstance(value, bytes):  # a body under another type than JSON, which is refused as no object
            return value
        # JSON may spell half of a surrogate pair, which neither the database nor an answer can carry.
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError) as error:
            raise PydanticCustomError(
                "no_text", "it holds characters that are no text, or is nested too deep"
            ) from error
        return value


class DecisionIn(Order):
    """A finding of the report, and which of its fixes to apply."""

    finding: str = Field(max_length=80)
    fix: Literal["drop", "move", "group", "accept"]


class DecisionOut(BaseModel):
    """A decision: the finding, its fix, how many images it changes, when, and by which version of the rules."""

    finding: str
    fix: str
    images: int
    when: str
    rules: int


class DecisionList(BaseModel):
    """Decisions about a data set, in the order in which they were taken."""

    items: list[DecisionOut]


class OperatingPointIn(Order):
    """The rule by which a model's operating point is chosen, such as sensitivity=0.95; null for the training's own."""

    criterion: str | None = Field(max_length=60)


class ImageOut(BaseModel):
    """An image of a data set; ``url`` is its thumbnail."""

    file: str
    label: str
    split: str | None
    url: str


class DemoImage(BaseModel):
    """A synthetic image outside the demo data set; ``url`` is the file itself."""

    file: str
    url: str


class DemoOut(BaseModel):
    """What the demo is called, its classes, and images to classify."""

    name: str
    classes: list[str]
    images: list[DemoImage]


class ImageList(BaseModel):
    """A page of images."""

    total: int
    items: list[ImageOut]


Priority = Literal["low", "normal", "high"]


class JobIn(Order):
    """A training to start."""

    dataset_id: str
    method: str = "wara"
    backbone: str
    preset: str = "quick"
    recipe: dict[str, Any] = Field(default_factory=dict, description="Recipe fields that differ from the preset.")
    name: str | None = Field(default=None, max_length=120)
    priority: Priority = Field(default="normal", description="Among those that wait, higher goes first.")


class JobMove(Order):
    """Where in the queue a training goes; it takes over the priority of what it passes."""

    to: Literal["up", "down", "first"]


class JobPriority(Order):
    """How urgent a training that waits is."""

    priority: Priority


class JobHappening(BaseModel):
    """Something that happened to a training, in plain words."""

    at: datetime
    state: str
    code: str
    text: str


class PresetEstimate(BaseModel):
    """How long a training would take with a preset: low if it stops as early as it may, high with all its passes."""

    preset: str
    seconds_low: float
    seconds_high: float
    epochs: int


class EstimateOut(BaseModel):
    """What a short warm-up on this machine says of an order."""

    presets: list[PresetEstimate]
    memory_mb: float | None
    available_mb: float | None
    fits: bool | None
    device: str
    steps_measured: int


class JobProgress(BaseModel):
    """How far the present phase is; in training, images over all epochs."""

    done: float
    total: float
    fraction: float
    seconds_left: float | None
    images_per_second: float | None


class JobOut(BaseModel):
    """A training."""

    id: str
    name: str
    dataset_id: str | None
    dataset_name: str
    method: str
    backbone: str
    preset: str
    state: Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
    priority: Priority
    position: int | None = Field(description="Place in the queue, 1 is next; null unless it waits.")
    movable: bool = Field(description="Whether whoever asks may change its place in the queue.")
    starts_in: float | None = Field(description="Seconds until it starts, where that can be told.")
    pause_reason: Literal["person", "disk-full"] | None
    last_sign: datetime | None = Field(description="When its process last gave a sign of life.")
    happenings: list[JobHappening]
    created: datetime
    started: datetime | None
    finished: datetime | None
    phase: str | None
    message: str | None
    progress: JobProgress | None
    history: list[dict[str, Any]]
    warnings: list[str]
    error: Problem | None
    model_id: str | None


class JobList(BaseModel):
    """Trainings, newest first."""

    items: list[JobOut]


class ModelOut(BaseModel):
    """A trained model."""

    id: str
    name: str
    job_id: str | None
    dataset_id: str | None
    dataset_name: str
    method: str
    backbone: str
    pretrained: bool
    preset: str
    classes: list[str]
    created: datetime
    seed: int | None
    rank: int | None
    trainable_parameters: int | None
    adapter_parameters: int | None
    seconds: float | None
    metrics: dict[str, Any]
    imported: datetime | None = Field(
        default=None, description="when it was brought in, where it was trained elsewhere; null for one trained here"
    )
    access: Literal["own", "edit", "view"] | None = Field(
        default=None, description="how far one's rights to it reach; null on a server without accounts"
    )
    owner: str | None = Field(default=None, description="whose it is, where it is another's")


class ImportedModel(ModelOut):
    """A model that was brought in, and the files of its zip that were not taken."""

    passed_over_count: int
    passed_over: list[str]


class ModelList(BaseModel):
    """Models, newest first."""

    items: list[ModelOut]


class PredictionOut(BaseModel):
    """One image's classes, or why it could not be read.

    `label` follows the model's operating point, `probabilities` are calibrated, `uncalibrated` the network's own;
    `classes` is the prediction set; `warning` stands where the image is unlike the training images.
    """

    file: str
    label: str | None
    probabilities: dict[str, float] | None
    error: str | None
    uncalibrated: dict[str, float] | None = None
    classes: list[str] | None = None
    warning: str | None = None
    patient: str | None = None


class PredictionList(BaseModel):
    """The answer of a model to several images."""

    model_id: str
    classes: list[str]
    items: list[PredictionOut]
    passed_over: int


class FigureOut(BaseModel):
    """A figure of a run."""

    name: str
    url: str


class FigureList(BaseModel):
    """The figures of a run."""

    items: list[FigureOut]


def upload_body(file_field: str, *, many: bool, needed: bool = True, **texts: str) -> dict[str, Any]:
    """Describe a multipart body for OpenAPI; uploads are read as a stream, so FastAPI cannot see their fields."""
    binary = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": binary} if many else binary
    fields = {name: {"type": "string", "description": text} for name, text in texts.items()}
    schema: dict[str, Any] = {"type": "object", "properties": {file_field: files, **fields}}
    if needed:
        schema["required"] = [file_field]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
