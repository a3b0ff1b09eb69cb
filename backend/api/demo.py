"""The demo: its data set, drawn on request, and a few images that no model of it has seen."""

from __future__ import annotations

from fastapi import APIRouter, Response

from backend.addresses import address
from backend.api.datasets import fetch
from backend.api.dependencies import IntakeDep, StorageDep
from backend.api.schemas import PROBLEMS, DatasetOut, DemoImage, DemoOut
from backend.demo import NAME, add_demo, unseen
from backend.problems import not_found
from wara.demo_drawing import CLASSES

router = APIRouter(tags=["datasets"], responses=PROBLEMS)


@router.post(
    "/datasets/demo",
    status_code=201,
    responses={200: {"model": DatasetOut, "description": "The demo data set was here already"}},
)
def create_demo(storage: StorageDep, intake: IntakeDep, response: Response) -> DatasetOut:
    """Draw 300 synthetic images in three classes into a data set, which takes seconds; one that is here is returned."""
    dataset_id, new = add_demo(intake, storage)
    if not new:
        response.status_code = 200
    return fetch(intake, dataset_id)


@router.get("/demo")
def get_demo() -> DemoOut:
    """Return the demo's classes, and images beside its data set for trying a model on."""
    images = [DemoImage(file=file, url=address(f"demo/images/{file}")) for file in unseen()]
    return DemoOut(name=NAME, classes=list(CLASSES), images=images)


@router.get("/demo/images/{file}", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def get_demo_image(file: str) -> Response:
    """Return a synthetic image that is not in the demo data set, as PNG."""
    content = unseen().get(file)
    if content is None:
        raise not_found("image", file)
    return Response(content, media_type="image/png")
