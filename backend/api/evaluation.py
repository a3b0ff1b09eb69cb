"""How good a model is, in full: curves, calibration, operating point, the images of each cell; two models compared."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from backend.addresses import address
from backend.api.dependencies import (
    IntakeDep,
    ModelDep,
    PartsDep,
    SessionDep,
    StorageDep,
    gone_is_not_found,
    require_model,
)
from backend.api.schemas import PROBLEMS, OperatingPointIn
from backend.db import Dataset, Model
from backend.intake import Intake

router = APIRouter(tags=["evaluation"], responses=PROBLEMS)

PNG: dict[str, Any] = {"response_class": Response, "responses": {200: {"content": {"image/png": {}}}}}
Criterion = Annotated[
    str | None,
    Query(
        description="another rule for the operating point than the one in use, chosen on validation images: youden, "
        "sensitivity=0.95, specificity=0.9, or cost=5 (a missed positive weighs five false alarms)",
        max_length=60,
    ),
]
Theme = Annotated[Literal["light", "dark"], Query()]


# Before the routes of one model, where "compare" would be taken for an id.
@router.get("/models/compare")
def compare_models(
    session: SessionDep,
    parts: PartsDep,
    a: Annotated[str, Query(description="id of the first model")],
    b: Annotated[str, Query(description="id of the second model")],
) -> dict[str, Any]:
    """Return the difference of two models' test AUROC on the same images, first minus second, with its interval.

    DeLong's test for two classes and one image a patient, otherwise a paired bootstrap over patients (images,
    where they are not known).
    """
    from wara.evaluation.review import compare_runs

    first, second = require_model(session, a), require_model(session, b)
    here, there = (parts.storage.folder("models", model.id) for model in (first, second))
    with gone_is_not_found(parts, Model, "model", first.id), gone_is_not_found(parts, Model, "model", second.id):
        found = compare_runs(here, there)
    return {"a": first.id, "b": second.id, **found}


@router.get("/models/{model_id}/evaluation")
def get_evaluation(
    model: ModelDep, session: SessionDep, storage: StorageDep, intake: IntakeDep, criterion: Criterion = None
) -> dict[str, Any]:
    """Return all that is known of the test images: curves, calibration, operating point, confusion, surest errors.

    With each cell of the confusion matrix come its files; `images` gives the address of a thumbnail by file, while the
    data set is there. `measured` are the metrics of the test images, and `patients` those of their patients, at the
    operating point that is shown; prediction sets, warning and subgroups are as in the model's metrics.
    """
    review = _review(storage.folder("models", model.id), criterion)
    known = ("calibration", "prediction_sets", "novelty", "subgroups")
    test = review["measured"] or (model.metrics or {}).get("test") or {}
    return {
        **review,
        **{name: (model.metrics or {}).get(name) for name in known},
        "measured": {name: value for name, value in test.items() if name != "patients"},
        "patients": test.get("patients"),
        "warnings": test.get("warnings", []),
        "images": _thumbnails(session, intake, model, review),
    }


@router.get("/models/{model_id}/evaluation/curves.png", **PNG)
def get_curves_figure(model: ModelDep, storage: StorageDep, theme: Theme = "light") -> Response:
    """Draw the ROC and precision-recall curves with their bands."""
    from wara.evaluation.curve_figures import draw_curves

    return _png(draw_curves(_review(storage.folder("models", model.id), None)["curves"], theme))


@router.get("/models/{model_id}/evaluation/reliability.png", **PNG)
def get_reliability_figure(model: ModelDep, storage: StorageDep, theme: Theme = "light") -> Response:
    """Draw the reliability curve, of the probabilities shown and of the network's own."""
    from wara.evaluation.curve_figures import draw_reliability

    found = _review(storage.folder("models", model.id), None)
    positive = found["classes"][1] if len(found["classes"]) == 2 else None
    points, raw = found["reliability"], found["reliability_uncalibrated"]
    return _png(draw_reliability(points, raw, positive=positive, theme=theme))


@router.put("/models/{model_id}/operating-point")
def put_operating_point(
    model: ModelDep, asked: OperatingPointIn, storage: StorageDep, parts: PartsDep
) -> dict[str, Any]:
    """Use another operating point from now on, chosen on validation images; null goes back to the training's own.

    New predictions follow it, the model card and a downloaded model hold it. What training measured stays as it is.
    """
    from wara.evaluation.review import use_point

    run = storage.folder("models", model.id)
    with storage.lock(model.id):
        use_point(run, asked.criterion)
    parts.predictors.forget(model.id)
    parts.explainers.forget(model.id)
    found: dict[str, Any] = _review(run, None)["operating_point"] or {}
    return found


def _review(run: Path, criterion: str | None) -> dict[str, Any]:
    """Measure a run once: but for the point in use it never changes, and its id is never given out again."""
    from wara.evaluation.point_in_use import FILE

    try:
        stamp = (run / FILE).stat().st_mtime_ns
    except FileNotFoundError:
        stamp = 0
    return _measured(run, criterion, stamp)


@lru_cache(maxsize=16)
def _measured(run: Path, criterion: str | None, stamp: int) -> dict[str, Any]:
    from wara.evaluation.review import review

    return review(run, criterion)


def _thumbnails(session: Session, intake: Intake, model: Model, review: dict[str, Any]) -> dict[str, str]:
    """Return the address of the thumbnail of each file that the review names."""
    dataset = session.get(Dataset, model.dataset_id) if model.dataset_id else None
    if dataset is None or dataset.state != "ready":
        return {}
    place = {item.file: index for index, item in enumerate(intake.catalogue(dataset).items)}
    named = [file for cell in review["confusion"]["cells"] for file in cell["files"]]
    named += [error["file"] for error in review["confident_errors"]]
    return {file: address(f"datasets/{dataset.id}/images/{place[file]}/thumbnail") for file in named if file in place}


def _png(figure: Any) -> Response:
    from wara.analysis.style import to_png

    return Response(to_png(figure), media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})
