"""The routes of ``/api/v1``, one module a resource."""

from fastapi import APIRouter, Depends

from backend.accounts.access import authorise
from backend.api import (
    accounts,
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

router = APIRouter(prefix="/api/v1", dependencies=[Depends(authorise)])
router.include_router(models.predicting)
for module in (
    health, accounts, backbones, datasets, uploads, mapping, masks, demo, estimates, jobs, evaluation, costs, models,
    exports, analysis, explanations, batches,
):  # fmt: skip
    router.include_router(module.router)

__all__ = ["router"]
