"""Resumable uploads as the server's part: begun within the limits, received, and taken into their data set."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from backend.arrivals import read_band
from backend.door import REFUSED_FILE
from backend.incoming import Batch, StoredFile
from backend.intake import STALE_UPLOAD, Intake
from backend.names import safe_relative
from backend.problems import RequestRefused, disk_full, is_disk_full, not_found
from backend.settings import MEGABYTE
from backend.storage import Storage
from backend.tus import pack, protocol
from backend.tus.store import ChunkWriter, Upload, UploadStore
from wara.errors import InputError

# A connection that says nothing for so long is taken for broken, and its upload is free to be gone on with.
STALL_SECONDS = 30.0
WRITE_BYTES = MEGABYTE
# A refused request is read on for so long, since browsers show the answer only once they could send everything.
MAX_DRAINED_BYTES = 32 * MEGABYTE
MAX_KEY_CHARACTERS = 128
SHOWN_REFUSED = 1000


@dataclass(frozen=True)
class Arrived:
    """What of a data set has arrived: its files, those that were refused, and the keys of the uploads taken in."""

    entries: list[dict[str, Any]]
    refused: list[dict[str, str]]
    taken: list[str]
    unfinished: list[Upload]


class Uploads:
    """Begins, receives and takes in resumable uploads.

    Args:
        storage: the data folder.
        intake: owner of the data sets that the files go to.
    """

    def __init__(self, storage: Storage, intake: Intake) -> None:
        self.storage = storage
        self.intake = intake
        self.store = UploadStore(storage, STALE_UPLOAD)

    def begin(
        self,
        dataset_id: str,
        length: int,
        *,
        path: str | None = None,
        key: str = "",
        total: int | None = None,
        age_band: str | None = None,
    ) -> Upload:
        """Make an upload for a data set that receives.

        Args:
            dataset_id: the data set.
            length: bytes of the upload.
            path: relative path of the file that it is; None for a pack.
            key: the sender's own word for it.
            total: bytes that the whole data set will have, where the sender knows: what cannot fit is refused now.
            age_band: what may be kept of the patients (see ``Intake.agree``); None leaves it as it is.

        Raises:
            RequestRefused: 404, 409, 413, 422 or 507, before any byte is written.
        """
        used = self.intake.accepts(dataset_id)
        if age_band is not None:
            read_band(age_band)  # refused before anything is begun
        if path is not None:
            path = safe_relative(path)
        elif length > pack.MAX_BYTES:
            raise RequestRefused(
                413,
                "A pack of files is too large",
                seen=f"{length:,} bytes",
                remedy=f"Send packs of at most {pack.MAX_BYTES:,} bytes, and larger files one by one with their path.",
                code="pack-too-large",
            )
        unfinished = self.store.unfinished(dataset_id)
        announced = used + length + sum(other.length for other in unfinished)
        whole = max(announced, total or 0)
        if whole > self.storage.max_upload_mb * MEGABYTE:
            raise RequestRefused(
                413,
                "The upload is larger than this server takes",
                seen=f"{whole / MEGABYTE:,.0f} MB, more than {self.storage.max_upload_mb:,} MB",
                remedy="Upload fewer images, or raise WARA_MAX_UPLOAD_MB.",
                code="upload-too-large",
            )
        self.storage.require_space(whole - used - sum(other.offset for other in unfinished))
        upload = self.store.create(dataset_id, length, path, key[:MAX_KEY_CHARACTERS])
        self.intake.agree(dataset_id, age_band)
        self.intake.touch(dataset_id)
        return upload

    async def receive(self, request: Request, identifier: str, offset: int) -> Upload:
        """Append a request's body to an upload, and take its files in when it is whole.

        Raises:
            RequestRefused: 400, 404, 408, 409, 410, 413, 423, 460 or 507; bytes that were acknowledged stay.
        """
        stream = request.stream()
        try:
            with self.store.claim(identifier):
                upload = await run_in_threadpool(self._accept, request, identifier, offset)
                upload = await self._append(stream, upload, protocol.read_checksum(request.headers))
                if upload.whole:
                    upload = await run_in_threadpool(self._take_in, upload)
        except InputError:
            await _drain(stream)
            raise
        await run_in_threadpool(self.intake.touch, upload.dataset_id)
        return upload

    def look(self, identifier: str) -> Upload:
        """Return an upload; one that is whole and has not entered its data set, since the server was killed, does so.

        Raises:
            RequestRefused: 404 or 410; 423 while it is being taken in.
        """
        upload = self.store.load(identifier)
        if not upload.whole or upload.taken:
            return upload
        with self.store.claim(identifier):
            upload = self.store.load(identifier)
            # Killed after its files had entered: what is there is not looked at by content, which may be changed since.
            if any(entry.get("origin") == upload.id for entry in self.storage.manifest(upload.dataset_id)):
                return self.store.mark_taken(upload)
            return self._take_in(upload)

    def remove(self, identifier: str) -> None:
        """Delete an upload; files that have entered the data set stay there.

        Raises:
            RequestRefused: 404, 410, or 423 while bytes come.
        """
        with self.store.claim(identifier):
            self.store.remove(self.store.load(identifier))

    def require_whole(self, dataset_id: str) -> None:
        """Check that no upload of a data set is half sent.

        Raises:
            RequestRefused: 409 with what is missing.
        """
        unfinished = self.store.unfinished(dataset_id)
        if unfinished:
            missing = sum(upload.length - upload.offset for upload in unfinished)
            raise RequestRefused(
                409,
                "Some of the files have not arrived to their end",
                seen=f"{len(unfinished):,} unfinished, {missing:,} bytes missing",
                remedy="Send the rest, or delete the unfinished uploads, then finish.",
                code="uploads-unfinished",
            )

    def arrived(self, dataset_id: str) -> Arrived:
        """Return what of a data set has arrived."""
        with self.storage.lock(dataset_id):
            entries = self.storage.manifest(dataset_id)
            refused = _read_refused(self._refused_file(dataset_id))
        return Arrived(entries, refused, self.store.taken_keys(dataset_id), self.store.unfinished(dataset_id))

    def _refused_file(self, dataset_id: str) -> Path:
        staging = self.storage.folder("staging", dataset_id)
        return (staging if staging.exists() else self.storage.folder("datasets", dataset_id)) / REFUSED_FILE

    def _accept(self, request: Request, identifier: str, offset: int) -> Upload:
        upload = self.store.load(identifier)
        self.intake.accepts(upload.dataset_id)
        if offset != upload.offset:
            raise protocol.wrong_offset(offset, upload.offset)
        length = request.headers.get("content-length", "")
        coming = int(length) if length.isascii() and length.isdecimal() else 0
        if coming > upload.length - upload.offset:
            raise protocol.too_long(upload.length)
        self.storage.require_space(coming)
        return upload

    async def _append(self, stream: AsyncIterator[bytes], upload: Upload, checksum: protocol.Checksum | None) -> Upload:
        if upload.taken:
            return upload
        writer = await run_in_threadpool(ChunkWriter, self.store, upload, checksum)
        buffer = bytearray()
        try:
            async for data in _unless_stalled(stream):
                buffer += data
                if len(buffer) >= WRITE_BYTES:
                    await run_in_threadpool(writer.write, bytes(buffer))
                    buffer.clear()
            await run_in_threadpool(writer.write, bytes(buffer))
            return await run_in_threadpool(writer.finish)
        except (ClientDisconnect, TimeoutError) as error:
            await run_in_threadpool(writer.break_off, bytes(buffer))
            if isinstance(error, ClientDisconnect):
                raise
            raise _stalled() from error
        except OSError as error:
            if is_disk_full(error):
                raise disk_full() from error
            raise
        finally:
            await asyncio.shield(run_in_threadpool(writer.close))

    def _take_in(self, upload: Upload) -> Upload:
        """Put the files of a whole upload into its data set; the same once more changes nothing."""
        if upload.taken:
            return upload
        used = self.intake.accepts(upload.dataset_id)
        if not self.store.data(upload).exists():  # moved, on a disk without second names, when the server was killed
            self.store.remove(upload)
            raise not_found("upload", upload.id)
        with self.storage.scratch(used_bytes=used) as batch:
            batch.origin = upload.id
            try:
                refused = self._fill(batch, upload)
            except RequestRefused as error:
                if error.status != 507:  # the same bytes would be refused again
                    self.store.remove(upload)
                raise
            with self.storage.lock(upload.dataset_id):
                refused += self._sift(upload.dataset_id, batch)
                self.intake.add(upload.dataset_id, batch)
                if refused:
                    _append_refused(self._refused_file(upload.dataset_id), refused)
        return self.store.mark_taken(upload)

    def _fill(self, batch: Batch, upload: Upload) -> list[dict[str, str]]:
        """Write the files of an upload into a batch; return those that cannot be kept, each with its reason."""
        refused: list[dict[str, str]] = []
        data = self.store.data(upload)
        if upload.path is not None and upload.path.lower().endswith(".zip"):
            batch.adopt(upload.path, data)
            return refused
        with data.open("rb") as file:
            if upload.path is not None:
                _copy(batch, upload.path, iter(lambda: file.read(pack.BLOCK_BYTES), b""))
                return refused
            for name, blocks in pack.read_pack(file, upload.length):
                try:
                    _require_text(name)
                    safe_relative(name)
                except InputError as error:
                    refused.append(_refusal(name, error))
                else:
                    _copy(batch, name, blocks)
        return refused

    def _sift(self, dataset_id: str, batch: Batch) -> list[dict[str, str]]:
        """Leave in the batch what can be placed; return the rest with reasons, the same file sent twice not counted."""
        root = self.storage.folder("staging", dataset_id) / "files"
        known: dict[str, str] | None = None
        kept: dict[str, StoredFile] = {}
        folders: set[str] = set()
        refused = []
        for file in batch.files:
            if file.name in kept or os.path.lexists(root / file.name):
                if known is None:
                    known = {entry["name"]: entry["digest"] for entry in self.storage.manifest(dataset_id)}
                before = kept[file.name].digest if file.name in kept else known.get(file.name)
                if before == file.digest:
                    continue
                why = "is a folder's name too" if before is None else "came twice, each time with another content"
                refused.append({"file": file.name, "reason": f"The file {why}; rename one of the two."})
            elif file.name in folders or any(
                above in kept or (root / above).is_file() for above in _folders_of(file.name)
            ):
                refused.append({"file": file.name, "reason": "A name is both a file and a folder; rename one of them."})
            else:
                kept[file.name] = file
                folders.update(_folders_of(file.name))
        batch.files[:] = kept.values()
        return refused


def _copy(batch: Batch, name: str, blocks: Iterator[bytes]) -> None:
    writer = batch.open(name)
    for block in blocks:
        writer.write(block)
    writer.close()


def _folders_of(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _require_text(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "A file name holds characters that are no text", remedy="Rename the file.", code="unsafe-name"
        ) from error


def _refusal(name: str, error: InputError) -> dict[str, str]:
    return {"file": name.encode("utf-8", "replace").decode()[:200], "reason": f"{error.what}. {error.remedy}"}


def _append_refused(path: Path, refused: list[dict[str, str]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in refused)


def _read_refused(path: Path) -> list[dict[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    # Once each: a killed server may have noted the same pack twice, and left its last line half written.
    return [json.loads(line) for line in dict.fromkeys(lines) if line.endswith("\n")]


async def _unless_stalled(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass a body on; end with TimeoutError when nothing comes for too long."""
    while True:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                data = await anext(stream)
        except StopAsyncIteration:
            return
        yield data


async def _drain(stream: AsyncIterator[bytes]) -> None:
    drained = 0
    try:
        async for data in _unless_stalled(stream):
            drained += len(data)
            if drained > MAX_DRAINED_BYTES:
                return
    except (ClientDisconnect, TimeoutError):
        return  # nobody waits for the answer


def _stalled() -> RequestRefused:
    return RequestRefused(
        408,
        "No more bytes came",
        seen=f"nothing for {STALL_SECONDS:g} seconds",
        remedy="Ask for the offset by HEAD and go on from there.",
        code="upload-stalled",
    )
