"""What scale of detail a model uses: subband energy, singular spectrum, scales by class, as data and as figures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from backend.api.dependencies import ModelDep, SessionDep, StorageDep, require_model
from backend.api.schemas import PROBLEMS
from backend.db import Model
from backend.problems import RequestRefused
from backend.storage import Storage, read_json
from wara.errors import InputError

router = APIRouter(tags=["analysis"], responses=PROBLEMS, prefix="/models/{model_id}/analysis")

Theme = Annotated[Literal["light", "dark"], Query()]
PNG: dict[str, Any] = {"response_class": Response, "responses": {200: {"content": {"image/png": {}}}}}


Side = Annotated[Literal["update", "tokens"], Query(description="energy of the update or of the tokens")]
Class = Annotated[str | None, Query(description="only images of this class")]
Compare = Annotated[str | None, Query(description="id of another model to draw beside it")]


@router.get("/subband-energy")
def subband_energy(model: ModelDep, storage: StorageDep, of: Side = "update", cls: Class = None) -> dict[str, Any]:
    """Return the shares of energy by layer and subband, of the tokens and of the update, overall and by class.

    `reading` says in plain words what the figure of the same options shows.
    """
    from wara.analysis.reading import read_subband_energy

    data = _energy(storage, model, cls)
    return {**data, "reading": read_subband_energy(data, of=of, cls=cls)}


@router.get("/subband-energy.png", **PNG)
def subband_energy_figure(
    model: ModelDep,
    storage: StorageDep,
    of: Side = "update",
    cls: Class = None,
    theme: Theme = "light",
) -> Response:
    """Draw the shares as a heat map, layers by subbands."""
    from wara.analysis.figures import draw_subband_energy

    data = _energy(storage, model, cls)
    return _png(draw_subband_energy(data, of=of, cls=cls, theme=theme))


@router.get("/singular-spectrum")
def singular_spectrum(
    model: ModelDep,
    session: SessionDep,
    storage: StorageDep,
    layer: Annotated[str | None, Query(description="only this layer")] = None,
    compare: Compare = None,
) -> dict[str, Any]:
    """Return the singular values of each layer's update, with effective rank and the base weight's values.

    `reading` says in plain words what the figure of the same options shows.
    """
    from wara.analysis.reading import read_singular_spectrum

    data, other = _spectra(session, storage, model, layer, compare)
    reading = read_singular_spectrum(data, layer=layer, compare=other)
    if layer is not None:
        data["layers"] = [entry for entry in data["layers"] if entry["name"] == layer]
    return {**data, "reading": reading}


@router.get("/singular-spectrum.png", **PNG)
def singular_spectrum_figure(
    model: ModelDep,
    session: SessionDep,
    storage: StorageDep,
    layer: Annotated[str | None, Query()] = None,
    compare: Compare = None,
    theme: Theme = "light",
) -> Response:
    """Draw the singular spectrum of all layers, or of one, if wanted beside another model's."""
    from wara.analysis.figures import draw_singular_spectrum

    data, other = _spectra(session, storage, model, layer, compare)
    return _png(draw_singular_spectrum(data, layer=layer, compare=other, theme=theme))


@router.get("/class-scales")
def class_scales(model: ModelDep, storage: StorageDep) -> dict[str, Any]:
    """Return which scales of the update each class used, with intervals, measured on a few test images.

    `reading` says in plain words what the figure shows, and whether the maps were checked by shuffled weights.
    """
    from wara.analysis.class_scales_figure import read_class_scales
    from wara.analysis.reading import read_randomisation

    data = _class_scales(storage, model)
    checked = f" {read_randomisation(data['check'])}" if data.get("check") else ""
    return {**data, "reading": read_class_scales(data) + checked}


@router.get("/class-scales.png", **PNG)
def class_scales_figure(model: ModelDep, storage: StorageDep, theme: Theme = "light") -> Response:
    """Draw the scales that each class used."""
    from wara.analysis.class_scales_figure import draw_class_scales

    return _png(draw_class_scales(_class_scales(storage, model), theme=theme))


def _class_scales(storage: Storage, model: Model) -> dict[str, Any]:
    _data(storage, model, "subband_energy")  # refuses a model without an adapter
    try:
        data: dict[str, Any] = read_json(storage.folder("models", model.id) / "figures" / "class_scales.json")
    except FileNotFoundError as error:
        raise RequestRefused(
            409,
            "The scales that each class used were not measured for this model",
            seen=model.backbone,
            remedy="Train it again on a ViT, DeiT or DINOv2 backbone; the scales are measured at the end.",
            code="not-measured",
        ) from error
    return data


def _energy(storage: Storage, model: Model, cls: str | None) -> dict[str, Any]:
    data = _data(storage, model, "subband_energy")
    if cls is not None:
        _require(cls, list(data["per_class"]), "class", "class-not-found")
    return data


def _spectra(
    session: Session, storage: Storage, model: Model, layer: str | None, compare: str | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the model's spectrum and the one to draw beside it, once layer and model are known to be there."""
    data = _data(storage, model, "singular_spectrum")
    if layer is not None:
        _require(layer, _layers(data), "layer", "layer-not-found")
    if compare is None:
        return data, None
    return data, _data(storage, require_model(session, compare), "singular_spectrum")


def _data(storage: Storage, model: Model, name: str) -> dict[str, Any]:
    path = storage.folder("models", model.id) / "figures" / f"{name}.json"
    try:
        data: dict[str, Any] = read_json(path)
    except FileNotFoundError as error:
        raise RequestRefused(
            409,
            "This model has no adapter whose detail could be shown",
            seen=model.method,
            remedy="Choose a model trained with WaRA, Tiny-WaRA or LoRA.",
            code="no-adapter",
        ) from error
    return data


def _layers(data: dict[str, Any]) -> list[str]:
    return [entry["name"] for entry in data["layers"]]


def _require(value: str, known: list[str], kind: str, code: str) -> None:
    if value not in known:
        raise InputError(
            f"There is no such {kind} in this model",
            seen=value[:80],
            remedy=f"Choose one of {', '.join(known)}.",
            code=code,
        )


def _png(figure: Any) -> Response:
    from wara.analysis.style import to_png

    return Response(to_png(figure), media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})
