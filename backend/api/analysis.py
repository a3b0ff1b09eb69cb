"""What scale of detail a model uses: subband energy and singular spectrum, as data and as figures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from backend.api.dependencies import ModelDep, SessionDep, StorageDep
from backend.api.schemas import PROBLEMS
from backend.db import Model
from backend.problems import RequestRefused, not_found
from backend.storage import Storage, read_json
from wara.errors import InputError

router = APIRouter(tags=["analysis"], responses=PROBLEMS, prefix="/models/{model_id}/analysis")

Theme = Annotated[Literal["light", "dark"], Query()]
PNG: dict[str, Any] = {"response_class": Response, "responses": {200: {"content": {"image/png": {}}}}}


@router.get("/subband-energy")
def subband_energy(model: ModelDep, storage: StorageDep) -> dict[str, Any]:
    """Return the shares of energy by layer and subband, of the tokens and of the update, overall and by class."""
    return _data(storage, model, "subband_energy")


@router.get("/subband-energy.png", **PNG)
def subband_energy_figure(
    model: ModelDep,
    storage: StorageDep,
    of: Annotated[Literal["update", "tokens"], Query()] = "update",
    cls: Annotated[str | None, Query(description="only images of this class")] = None,
    theme: Theme = "light",
) -> Response:
    """Draw the shares as a heat map, layers by subbands."""
    from wara.analysis.figures import draw_subband_energy

    data = _data(storage, model, "subband_energy")
    if cls is not None:
        _require(cls, list(data["per_class"]), "class", "class-not-found")
    return _png(draw_subband_energy(data, of=of, cls=cls, theme=theme))


@router.get("/singular-spectrum")
def singular_spectrum(
    model: ModelDep, storage: StorageDep, layer: Annotated[str | None, Query(description="only this layer")] = None
) -> dict[str, Any]:
    """Return the singular values of each layer's update, with effective rank and the base weight's values."""
    data = _data(storage, model, "singular_spectrum")
    if layer is not None:
        _require(layer, _layers(data), "layer", "layer-not-found")
        data["layers"] = [entry for entry in data["layers"] if entry["name"] == layer]
    return data


@router.get("/singular-spectrum.png", **PNG)
def singular_spectrum_figure(
    model: ModelDep,
    session: SessionDep,
    storage: StorageDep,
    layer: Annotated[str | None, Query()] = None,
    compare: Annotated[str | None, Query(description="id of another model to draw beside it")] = None,
    theme: Theme = "light",
) -> Response:
    """Draw the singular spectrum of all layers, or of one, if wanted beside another model's."""
    from wara.analysis.figures import draw_singular_spectrum

    data = _data(storage, model, "singular_spectrum")
    if layer is not None:
        _require(layer, _layers(data), "layer", "layer-not-found")
    other = None
    if compare is not None:
        found = session.get(Model, compare)
        if found is None:
            raise not_found("model", compare)
        other = _data(storage, found, "singular_spectrum")
    return _png(draw_singular_spectrum(data, layer=layer, compare=other, theme=theme))


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
