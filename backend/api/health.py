"""Whether the server is well, and what it runs on."""

from __future__ import annotations

from fastapi import APIRouter

from backend.api.dependencies import BackbonesDep, DevicesDep, StorageDep, SupervisorDep
from backend.api.schemas import DeviceInfo, Health, QueueInfo
from wara import __version__

router = APIRouter(tags=["health"])

NO_BACKBONE = (
    "No pretrained backbone is on this machine. An untrained one lets you try the steps, but its results mean nothing. "
    "Add a weights file on the Train page, or start with WARA_BACKBONES=name:file."
)


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
