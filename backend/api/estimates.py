"""How long an order would take, and whether it fits, before it is started."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from backend.api.dependencies import Parts, PartsDep, require_dataset
from backend.api.orders import checked_recipe
from backend.api.schemas import PROBLEMS, EstimateOut, JobIn, PresetEstimate
from backend.studies import study

if TYPE_CHECKING:
    from wara.training.recipe import Recipe

router = APIRouter(tags=["jobs"], responses=PROBLEMS)


@router.post("/estimates")
async def estimate_job(order: JobIn, parts: PartsDep) -> EstimateOut:
    """Run a few steps of an order and say how long it would take with each preset, and whether it fits into memory.

    The first answer for a kind of order takes some ten seconds, later ones none. 409 while a training runs.
    """
    recipe, classes, images = await run_in_threadpool(_checked, order, parts)
    lane = parts.lanes.estimates
    async with lane.enter():
        return await lane.run(_estimate, parts, recipe, classes, images)


def _checked(order: JobIn, parts: Parts) -> tuple[Recipe, int, Counter[str]]:
    """Return recipe, number of classes and images a split of an order; refuse what cannot be trained."""
    with parts.database.session() as session:
        dataset = require_dataset(session, order.dataset_id)
    classes = len(parts.intake.catalogue(dataset).classes)  # refuses while it is not ready
    recipe = checked_recipe(order, parts.backbones.resolve(order.backbone), parts)
    return recipe, classes, Counter(study(parts.intake, dataset, recipe.seed).split)


def _estimate(parts: Parts, recipe: Recipe, classes: int, images: Counter[str]) -> EstimateOut:
    from wara.training.forecast import estimate, fits

    warm_up = parts.estimates.warm_up(recipe, classes)
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
