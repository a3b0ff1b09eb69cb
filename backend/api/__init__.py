"""The routes of ``/api/v1``, one module a resource."""

from fastapi import APIRouter

from backend.api import (
    analysis,
    backbones,
    batches,
    costs,
    datasets,
    demo,
    estimates,
    evaluation,
    explanations,
    exports,
    health,
    jobs,
    mapping,
    masks,
    models,
    uploads,
)

router = APIRouter(prefix="/api/v1")
for module in (
    health, backbones, datasets, uploads, mapping, masks, demo, estimates, jobs, evaluation, costs, models, exports,
    analysis, explanations, batches,
):  # fmt: skip
    router.include_router(module.router)

__all__ = ["router"]
