"""Backbones: list them, add a weights file."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from backend.api.dependencies import BackbonesDep, StorageDep
from backend.api.schemas import PROBLEMS, BackboneList, BackboneOut, upload_body
from backend.backbones import Offer
from backend.uploads import receive
from wara.data.words import number
from wara.errors import InputError

router = APIRouter(tags=["backbones"], responses=PROBLEMS)


@router.get("/backbones")
def list_backbones(backbones: BackbonesDep) -> BackboneList:
    """List the backbones, the best first. Send an item's ``id`` back to train with it."""
    return BackboneList(items=[_out(offer) for offer in backbones.offers()])


@router.post(
    "/backbones",
    status_code=201,
    openapi_extra=upload_body("file", many=False, name="timm architecture, e.g. deit_tiny_patch16_224"),
)
async def add_backbone(request: Request, storage: StorageDep, backbones: BackbonesDep) -> BackboneOut:
    """Add a weights file; it is kept when it loads into the named timm architecture."""
    with storage.scratch() as batch:
        fields = await receive(request, storage, batch, file_field="file")
        name = fields.get("name", "").strip()
        if not name or ":" in name or len(batch.files) != 1:
            raise InputError(
                "A backbone is one weights file and the name of its architecture",
                seen=f"{number(len(batch.files), 'file')}, name {name[:80]!r}",
                remedy="Send 'file' once and 'name', e.g. deit_tiny_patch16_224.",
                code="backbone-incomplete",
            )
        return _out(await run_in_threadpool(backbones.add, name, batch.files[0]))


def _out(offer: Offer) -> BackboneOut:
    info = offer.info
    return BackboneOut.model_validate(
        {
            "id": offer.id,
            "name": info.name,
            "label": offer.label,
            "pretrained": info.pretrained,
            "available": info.available,
            "source": info.source,
            "input_size": info.input_size,
            "note": info.note,
        }
    )
