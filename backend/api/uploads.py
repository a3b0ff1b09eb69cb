"""Resumable uploads: tus 1.0.0 for whole files and packs of many, and what of a data set has arrived."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from backend.accounts.access import require
from backend.addresses import address
from backend.api.dependencies import DatasetDep, UploadsDep
from backend.api.schemas import PROBLEMS
from backend.problems import RequestRefused
from backend.settings import MEGABYTE
from backend.tus import protocol
from backend.tus.store import Upload
from backend.tus.uploads import SHOWN_REFUSED, Uploads

_MORE_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": {"application/problem+json": {}}}
    for code, text in {
        405: "No such method, or POST without X-HTTP-Method-Override",
        408: "Nothing came for too long",
        410: "Expired",
        412: "Another version of the protocol",
        423: "Another request is sending to it",
        460: "The bytes are not what the checksum says",
    }.items()
}

router = APIRouter(tags=["uploads"], responses=PROBLEMS)
tus = APIRouter(tags=["uploads"], responses=PROBLEMS | _MORE_PROBLEMS, route_class=protocol.TusRoute)


class RefusedFile(BaseModel):
    """A file that was not kept, and why."""

    file: str
    reason: str


class UnfinishedUpload(BaseModel):
    """An upload that can be gone on with at ``url``; ``key`` is its sender's own word for it."""

    url: str
    key: str
    length: int
    offset: int


class ArrivedOut(BaseModel):
    """What of a data set has arrived; ``taken`` are the keys of the uploads that it came by."""

    id: str
    name: str
    status: str
    files: int
    bytes: int
    taken: list[str]
    refused_count: int
    refused: list[RefusedFile]
    unfinished: list[UnfinishedUpload]


@router.get("/datasets/{dataset_id}/arrived")
def get_arrived(dataset: DatasetDep, uploads: UploadsDep) -> ArrivedOut:
    """Say what of a data set that is being uploaded has arrived, what was refused, and what can be gone on with."""
    found = uploads.arrived(dataset.id)
    return ArrivedOut(
        id=dataset.id,
        name=dataset.name or "New data set",
        status=dataset.state,
        files=len(found.entries),
        bytes=sum(entry["size"] for entry in found.entries) + sum(upload.offset for upload in found.unfinished),
        taken=found.taken,
        refused_count=len(found.refused),
        refused=[RefusedFile.model_validate(entry) for entry in found.refused[:SHOWN_REFUSED]],
        unfinished=[
            UnfinishedUpload(url=_at(upload), key=upload.key, length=upload.length, offset=upload.offset)
            for upload in found.unfinished
        ],
    )


@tus.options("/uploads", status_code=204)
def get_protocol(uploads: UploadsDep) -> Response:
    """Say which version, extensions and checksums of tus are spoken, and the largest data set in bytes."""
    return Response(
        status_code=204,
        headers={
            "Tus-Version": protocol.VERSION,
            "Tus-Extension": protocol.EXTENSIONS,
            "Tus-Checksum-Algorithm": ",".join(protocol.ALGORITHMS),
            "Tus-Max-Size": str(uploads.storage.max_upload_mb * MEGABYTE),
        },
    )


@tus.post("/uploads", status_code=201)
async def create_upload(request: Request, uploads: UploadsDep) -> Response:
    """Begin an upload (``Upload-Length``) into a data set that receives; a body is taken as its first bytes.

    ``Upload-Metadata``: ``dataset`` is the id that ``POST /datasets`` with ``finish=false`` gave. With ``path``, the
    upload is that one file (a large image, or a zip); without, it is a pack: a line of JSON,
    ``[["folder/a.png", bytes], ...]``, and the files in that order. ``key`` is a word of the sender's own by which it
    finds the upload again, ``total`` the bytes of all that is to come, ``age_band`` what may be kept of the patients,
    as in ``POST /datasets``.
    """
    if "upload-concat" in request.headers:
        raise _in_parts(request)
    if "upload-length" not in request.headers:
        raise _no_length(request)
    length = protocol.read_number(request.headers, "Upload-Length")
    metadata = protocol.read_metadata(request.headers)
    await run_in_threadpool(_require_own, uploads, metadata.get("dataset", ""))
    total = metadata.get("total", "")
    upload = await run_in_threadpool(
        uploads.begin,
        metadata.get("dataset", ""),
        length,
        path=metadata.get("path"),
        key=metadata.get("key", ""),
        age_band=metadata.get("age_band"),
        total=int(total) if total.isascii() and total.isdecimal() and len(total) <= 16 else None,
    )
    try:
        if request.headers.get("content-type") == protocol.CHUNK_TYPE or not length:
            upload = await uploads.receive(request, upload.id, 0)
    except RequestRefused:
        # The sender never learns of this upload's address, so nobody could go on with it.
        await run_in_threadpool(uploads.store.remove, upload)
        raise
    return Response(status_code=201, headers={"Location": _at(upload), **_state(uploads, upload)})


@tus.head("/uploads/{upload_id}", status_code=200)
def get_offset(upload_id: str, uploads: UploadsDep) -> Response:
    """Say in ``Upload-Offset`` how many bytes have arrived."""
    upload = uploads.look(upload_id)
    return Response(headers={"Upload-Length": str(upload.length), **_state(uploads, upload)})


@tus.patch("/uploads/{upload_id}", status_code=204)
async def append_bytes(upload_id: str, request: Request, uploads: UploadsDep) -> Response:
    """Append bytes at ``Upload-Offset``; with ``Upload-Checksum`` they are kept only when they match it.

    With the last byte the files enter their data set; names that cannot be kept are listed by
    ``GET datasets/ID/arrived``.
    """
    seen = request.headers.get("content-type", "")
    if seen != protocol.CHUNK_TYPE:
        raise RequestRefused(
            415,
            "The bytes of an upload came under another type",
            seen=seen[:80] or "no content type",
            remedy=f"Send them with Content-Type: {protocol.CHUNK_TYPE}.",
            code="chunk-type",
        )
    offset = protocol.read_number(request.headers, "Upload-Offset")
    upload = await uploads.receive(request, upload_id, offset)
    return Response(status_code=204, headers=_state(uploads, upload))


@tus.delete("/uploads/{upload_id}", status_code=204)
def delete_upload(upload_id: str, uploads: UploadsDep) -> Response:
    """Drop an upload and its bytes; files that have entered the data set stay."""
    uploads.remove(upload_id)
    return Response(status_code=204)


@tus.post("/uploads/{upload_id}", status_code=204)
async def override_method(upload_id: str, request: Request, uploads: UploadsDep) -> Response:
    """Serve senders behind something that lets neither PATCH nor DELETE through."""
    match request.headers.get("x-http-method-override", "").upper():
        case "PATCH":
            return await append_bytes(upload_id, request, uploads)
        case "DELETE":
            return await run_in_threadpool(delete_upload, upload_id, uploads)
    raise RequestRefused(
        405,
        "This address does not take this method",
        seen="POST",
        remedy="Send PATCH, HEAD or DELETE, or POST with X-HTTP-Method-Override.",
        code="method-not-allowed",
    )


def _require_own(uploads: Uploads, dataset_id: str) -> None:
    with uploads.intake.database.session() as session:
        require(session, "dataset", dataset_id, "edit")


def _at(upload: Upload) -> str:
    return address(f"uploads/{upload.id}")


def _state(uploads: Uploads, upload: Upload) -> dict[str, str]:
    headers = {"Upload-Offset": str(upload.offset)}
    if not upload.taken:
        headers["Upload-Expires"] = protocol.http_date(uploads.store.expires(upload))
    return headers


def _no_length(request: Request) -> RequestRefused:
    deferred = "upload-defer-length" in request.headers
    return RequestRefused(
        400,
        "The upload does not say how long it is",
        seen="Upload-Defer-Length" if deferred else "no Upload-Length",
        remedy="Send the header Upload-Length with the number of bytes; a length told later is not taken.",
        code="upload-length-missing",
    )


def _in_parts(request: Request) -> RequestRefused:
    return RequestRefused(
        400,
        "Uploads in parts that are joined afterwards are not taken",
        seen=f"Upload-Concat: {request.headers['upload-concat'][:60]}",
        remedy="Send each file, or pack of files, as one upload, without Upload-Concat.",
        code="upload-concat",
    )


router.include_router(tus)
