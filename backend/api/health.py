"""Whether the server is well, and what it runs on."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from backend.api.dependencies import BackbonesDep, DevicesDep, PartsDep, StorageDep, SupervisorDep
from backend.api.schemas import PROBLEMS, Alive, DeviceInfo, Health, QueueInfo
from backend.problems import RequestRefused
from wara import __version__

router = APIRouter(tags=["health"], responses=PROBLEMS)

NO_BACKBONE = (
    "No pretrained backbone is on this machine. An untrained one lets you try the steps, but its results mean nothing. "
    "Add a weights file on the Train page, or start with WARA_BACKBONES=name:file."
)


@router.get("/health/live")
def live() -> Alive:
    """Say that the process answers; anybody may ask."""
    return Alive(status="ok")


@router.get("/health/ready")
def ready(parts: PartsDep) -> Alive:
    """Say that work can be taken: the database answers and the disk has room. 503 otherwise; anybody may ask."""
    try:
        with parts.database.session() as session:
            session.execute(text("SELECT 1"))
        parts.storage.require_space()
    except (SQLAlchemyError, RequestRefused) as error:
        seen = "disk full" if isinstance(error, RequestRefused) else "database"
        raise RequestRefused(
            503, "The server cannot take work now", seen=seen,
            remedy="Look at its log; it is asked again in a moment.", code="not-ready", retry_after=10,
        ) from error  # fmt: skip
    return Alive(status="ok")


@router.get("/health")
def health(devices: DevicesDep, storage: StorageDep, supervisor: SupervisorDep, backbones: BackbonesDep) -> Health:
    """Return version, device (null right after the start), disk space, jobs, and a notice when something is missing."""
    known = devices.known()
    pretrained = sum(offer.info.pretrained and offer.info.available for offer in backbones.offers())
    return Health(
        status="ok",
        version=__version__,
        device=None if known is None else DeviceInfo(type=known[0].type, name=known[0].name),
        disk_free_mb=int(storage.free_mb()),
        jobs=QueueInfo(**supervisor.counts()),
        backbones_available=pretrained,
        notice=None if pretrained else NO_BACKBONE,
    )
