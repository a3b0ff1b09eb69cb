"""What a request brings: its files as they come, into memory or onto the disk, counted, named safely and hashed."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from backend.names import safe_relative
from backend.problems import RequestRefused
from backend.settings import MEGABYTE

if TYPE_CHECKING:
    from backend.storage import Storage

SPACE_CHECK_BYTES = 32 * MEGABYTE


@dataclass(frozen=True)
class StoredFile:
    """One received file: its relative name, size in bytes and content hash, and where it lies until it is placed.

    ``origin`` is the upload that it came by, where that could be asked about once more. A file of a small request may
    be in memory (``content``); nothing lies at its path then until ``on_disk`` is called.
    """

    name: str
    size: int
    digest: str
    path: Path
    origin: str = ""
    content: bytes | None = None

    def read(self) -> bytes:
        """Return its bytes."""
        return self.path.read_bytes() if self.content is None else self.content

    def on_disk(self) -> Path:
        """Return where it lies, and let it lie there."""
        if self.content is not None and not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(self.content)
        return self.path


class PartWriter:
    """Takes one file of a request while it arrives, hashing it on the way: to disk, or into memory while there is room.

    Args:
        batch: the request's files.
        name: the file's relative name.
        path: where it goes.
    """

    def __init__(self, batch: Batch, name: str, path: Path) -> None:
        self._batch = batch
        self._name = name
        self._path = path
        self._file: IO[bytes] | None = None
        self._kept = bytearray()
        self._hash = hashlib.blake2b(digest_size=16)
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._batch.account(len(data))
        self._hash.update(data)
        self._size += len(data)
        if self._file is None and self._batch.has_room:
            self._kept += data
        else:
            self._on_disk().write(data)

    def close(self) -> None:
        """End the file and hand it to its batch."""
        content = bytes(self._kept) if self._file is None and self._batch.has_room else None
        if content is None:
            self._on_disk().close()
        self._batch.files.append(
            StoredFile(self._name, self._size, self._hash.hexdigest(), self._path, self._batch.origin, content)
        )

    def abandon(self) -> None:
        """Close without keeping."""
        with suppress(OSError):  # a full disk may refuse the last flush; the file is removed with its batch
            if self._file is not None:
                self._file.close()

    def _on_disk(self) -> IO[bytes]:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("xb")
            self._file.write(self._kept)
            self._kept.clear()
        return self._file


class Batch:
    """The files of one request, in a folder of their own until the whole request has arrived.

    Args:
        storage: the data folder.
        folder: where its files go; made when the first one does.
        allowance: bytes that may come.
        room: bytes of a request that may be held in memory instead.
    """

    def __init__(self, storage: Storage, folder: Path, allowance: int, room: int = 0) -> None:
        self.files: list[StoredFile] = []
        self.origin = ""
        self._storage = storage
        self._folder = folder
        self._allowance = allowance
        self.room = room
        self._written = 0
        self._checked = 0
        self._count = 0
        self._writer: PartWriter | None = None

    @property
    def has_room(self) -> bool:
        """Whether all that has come so far may be held in memory."""
        return self._written <= self.room and self.room > 0

    def open(self, name: str) -> PartWriter:
        """Begin a file with this relative name."""
        safe = safe_relative(name)
        self._count += 1
        self._writer = PartWriter(self, safe, self._folder / str(self._count))
        return self._writer

    def adopt(self, name: str, path: Path) -> None:
        """Take a file that is on this disk already, without copying it; it stays where it is until it is placed.

        A second name of the file is placed where the disk can do so: should the server be killed in between, the first
        one is still there.
        """
        self._count += 1
        self._folder.mkdir(parents=True, exist_ok=True)
        own = self._folder / str(self._count)
        try:
            own.hardlink_to(path)
        except OSError:
            own = path
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        self.files.append(StoredFile(safe_relative(name), path.stat().st_size, digest, own, self.origin))

    def abandon(self) -> None:
        """Close a file that was begun and not ended."""
        if self._writer is not None:
            self._writer.abandon()

    def account(self, size: int) -> None:
        """Count bytes about to be written; refuse beyond the allowance or when the disk runs full."""
        self._written += size
        if self._written > self._allowance:
            raise RequestRefused(
                413,
                "The upload is larger than this server takes",
                seen=f"more than {self._storage.max_upload_mb:,} MB",
                remedy="Upload fewer images, or raise WARA_MAX_UPLOAD_MB.",
                code="upload-too-large",
            )
        if self._written - self._checked >= SPACE_CHECK_BYTES:
            self._checked = self._written
            self._storage.require_space()
