"""How long an order would take, and whether it fits, before it is started."""

from __future__ import annotations

from collections import Counter

from fastapi import APIRouter

from backend.api.dependencies import BackbonesDep, IntakeDep, PartsDep, SessionDep, require_dataset
from backend.api.orders import checked_recipe
from backend.api.schemas import PROBLEMS, EstimateOut, JobIn, PresetEstimate
from backend.studies import study

router = APIRouter(tags=["jobs"], responses=PROBLEMS)


@router.post("/estimates")
def estimate_job(
    order: JobIn, session: SessionDep, intake: IntakeDep, backbones: BackbonesDep, parts: PartsDep
) -> EstimateOut:
    """Run a few steps of an order and say how long it would take with each preset, and whether it fits into memory.

    The first answer for a kind of order takes some ten seconds, later ones none. 409 while a training runs.
    """
    from wara.training.forecast import estimate, fits

    dataset = require_dataset(session, order.dataset_id)
    catalogue = intake.catalogue(dataset)
    recipe = checked_recipe(order, backbones.resolve(order.backbone), parts)
    images = Counter(study(intake, dataset, recipe.seed).split)
    warm_up = parts.estimates.warm_up(recipe, len(catalogue.classes))
    return EstimateOut(
        presets=[
            PresetEstimate(preset=one.preset, seconds_low=one.low_s, seconds_high=one.high_s, epochs=one.epochs)
            for one in estimate(warm_up, recipe, images)
        ],
        memory_mb=warm_up.memory_mb,
        available_mb=warm_up.available_mb,
        fits=fits(warm_up),
        device=warm_up.device,
        steps_measured=len(warm_up.step_s),
    )
