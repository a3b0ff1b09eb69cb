"""What models cost beside what they are worth: parameters, time, memory and efficiency, for a comparison."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import select

from backend.api.dependencies import SessionDep, StorageDep, require_model
from backend.api.schemas import PROBLEMS
from backend.db import Model
from backend.problems import not_found
from backend.storage import Storage
from wara.errors import InputError
from wara.training.outputs import read_recipe

MOST_MODELS = 12

router = APIRouter(tags=["evaluation"], responses=PROBLEMS)


@router.get("/models/compare/costs")
def compare_costs(
    session: SessionDep,
    storage: StorageDep,
    model: Annotated[list[str], Query(description="ids of the models", min_length=1, max_length=MOST_MODELS)],
) -> dict[str, Any]:
    """Return the costs of models in the order asked for, with PPE and PME.

    PME needs the peak memory of a training of the whole network on the same data, backbone, image size, batch size and
    kind of device; the newest one of this server is taken and named, and where there is none, PME is null.
    """
    from wara.evaluation.costs import costs, memory_comparable

    chosen = [require_model(session, identifier) for identifier in model]
    whole = []
    for row in session.scalars(select(Model).where(Model.method == "full").order_by(Model.created.desc())):
        with suppress(InputError):  # deleted at this moment, or damaged: no reference
            whole.append((row, _recipe(storage, row)))
    items = []
    for row in chosen:
        recipe = _recipe(storage, row)
        full = next((other for other, of in whole if memory_comparable(recipe, of)), None)
        memory = None if full is None else (full.metrics or {}).get("peak_memory_mb")
        known = costs(row.metrics or {}, _total(recipe), memory)
        reference = None if full is None else {"id": full.id, "name": full.name}
        items.append({"id": row.id, "name": row.name, "method": row.method, **known, "full": reference})
    return {"items": items}


def _total(recipe: dict[str, Any]) -> int | None:
    from wara.evaluation.costs import all_parameters

    try:
        return all_parameters(recipe)
    except InputError:  # weights of an architecture that is no longer installed
        return None


def _recipe(storage: Storage, model: Model) -> dict[str, Any]:
    try:
        return read_recipe(storage.folder("models", model.id))
    except FileNotFoundError:
        raise not_found("model", model.id) from None
    except InputError as error:
        if error.code != "run-missing":
            raise
        raise not_found("model", model.id) from error  # deleted at this moment
