"""Text in the picture: an image shown large, where text may stand in it, and rectangles covered for good."""

from __future__ import annotations

import io
import threading
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from PIL import Image
from pydantic import BaseModel, Field

from backend.addresses import address
from backend.api.dependencies import DatasetDep, IntakeDep
from backend.api.schemas import PROBLEMS, Order
from backend.db import Dataset
from backend.intake import Intake
from backend.masks import MOST_RECTANGLES, Flagged, apply_masks, flagged_images, suggestions
from backend.problems import not_found
from backend.studies import study
from wara.data.findings import TEXT_REASONS
from wara.data.items import Item
from wara.data.sources import open_source
from wara.errors import InputError
from wara.imaging import read_image
from wara.imaging.text_detector import Box

router = APIRouter(tags=["datasets"], responses=PROBLEMS)

VIEW_PIXELS = 1000
# Decoding takes memory: a few at a time, however many the page asks for.
_decoding = threading.Semaphore(2)
_Pixel = Annotated[int, Field(ge=0, le=100_000)]


class Rectangle(Order):
    """In pixels of the image as it is shown; right and bottom are the first column and row outside."""

    left: _Pixel
    top: _Pixel
    right: _Pixel
    bottom: _Pixel


class MaskIn(Order):
    """Rectangles to cover, in one image or in all flagged images of its size."""

    image: int = Field(ge=0, description="place of the image in the data set, as in its thumbnail's address")
    rectangles: list[Rectangle] = Field(min_length=1, max_length=MOST_RECTANGLES)
    scope: Literal["image", "same-size"] = "image"


class MaskOut(BaseModel):
    """How many images were covered, and those that could not be, each with the reason."""

    images: int
    refused: list[dict[str, str]]


class FlaggedOut(BaseModel):
    """An image in which text may stand; ``url`` shows it large, ``same_size`` counts flagged images of its size."""

    number: int
    file: str
    label: str
    reason: str
    width: int
    height: int
    same_size: int
    url: str


class FlaggedList(BaseModel):
    """The images in which text may stand."""

    items: list[FlaggedOut]


class TextOut(BaseModel):
    """Where text may stand in an image of this size."""

    width: int
    height: int
    rectangles: list[Rectangle]


@router.get("/datasets/{dataset_id}/text")
def list_flagged(dataset: DatasetDep, intake: IntakeDep) -> FlaggedList:
    """List the images in which text may stand, those that were looked at, masked or left out not among them."""
    return FlaggedList(items=[_flagged(dataset.id, entry) for entry in flagged_images(study(intake, dataset, 0))])


@router.get(
    "/datasets/{dataset_id}/images/{index}/view",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def get_view(dataset: DatasetDep, index: int, intake: IntakeDep) -> Response:
    """Return an image as PNG, at most 1,000 pixels on its longer side; nothing keeps a copy of it."""
    content, item = _read(intake, dataset, index)
    with _decoding:
        image = Image.fromarray(read_image(content, item.file, frame=item.frame).pixels)
        image.thumbnail((VIEW_PIXELS, VIEW_PIXELS), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=3)
    # Not even the browser's own store: what is shown may be a name, which is to be gone once it is covered.
    return Response(buffer.getvalue(), media_type="image/png", headers={"Cache-Control": "private, no-store"})


@router.get("/datasets/{dataset_id}/images/{index}/text")
def get_text(dataset: DatasetDep, index: int, intake: IntakeDep) -> TextOut:
    """Say where text may stand in an image: around its ultrasound regions, and where rows of text are seen."""
    content, item = _read(intake, dataset, index)
    with _decoding:
        boxes, (width, height) = suggestions(content, item)
    found = [Rectangle(left=b.left, top=b.top, right=b.right, bottom=b.bottom) for b in boxes]
    return TextOut(width=width, height=height, rectangles=found)


@router.post("/datasets/{dataset_id}/masks", status_code=201)
def create_mask(dataset: DatasetDep, order: MaskIn, intake: IntakeDep) -> MaskOut:
    """Cover rectangles in the stored files. That cannot be undone; 409 while a job uses the data set."""
    boxes = [Box(r.left, r.top, r.right, r.bottom) for r in order.rectangles]
    made = apply_masks(intake, dataset.id, order.image, boxes, order.scope)
    return MaskOut(images=made.images, refused=[{"file": file, "reason": reason} for file, reason in made.refused])


def _read(intake: Intake, dataset: Dataset, index: int) -> tuple[bytes, Item]:
    items = intake.catalogue(dataset).items
    if not 0 <= index < len(items):
        raise not_found("image", str(index))
    item = items[index]
    try:
        with open_source(intake.source(dataset)) as source:
            return source.read(item.path), item
    except InputError as error:
        raise not_found("image", str(index)) from error


def _flagged(dataset_id: str, entry: Flagged) -> FlaggedOut:
    item = entry.item
    # The digest changes with the pixels, so that a masked image is never shown as it was.
    url = address(f"datasets/{dataset_id}/images/{entry.number}/view?v={(item.digest or '')[:8]}")
    return FlaggedOut(
        number=entry.number, file=item.file, label=item.label, reason=TEXT_REASONS[item.text or "seen"],
        width=item.width or 0, height=item.height or 0, same_size=entry.same_size, url=url,
    )  # fmt: skip
