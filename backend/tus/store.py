"""Unfinished uploads on disk: one folder each, holding its bytes and how many of them count.

``uploads/DATASET/TOKEN/data`` holds the bytes, ``state.json`` the offset that was acknowledged. Bytes behind that
offset were being written when a server was killed; they do not count and are cut off before the next ones come. Both
files are flushed to the disk itself before an offset is acknowledged, so nothing acknowledged is ever asked for again.
``uploads/DATASET/taken/TOKEN.json`` is left of an upload whose files have entered the data set.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from backend.db.models import now
from backend.incoming import SPACE_CHECK_BYTES
from backend.problems import not_found
from backend.settings import MEGABYTE
from backend.storage import Storage, read_json, write_json
from backend.tus import protocol

KIND = "uploads"
DATA_FILE = "data"
STATE_FILE = "state.json"
TAKEN_FOLDER = "taken"
# Bytes that came without a checksum count after this many; those with one count together, when it is proven.
COMMIT_BYTES = 8 * MEGABYTE
_IDENTIFIER = re.compile(r"([0-9a-f]{1,32})-([0-9a-f]{16})")


@dataclass(frozen=True)
class Upload:
    """One upload as its state file has it.

    Attributes:
        id: its name in addresses; made of the data set's id and a random token, never of file names.
        dataset_id: the data set that the bytes belong to.
        length: bytes in all.
        path: relative path of the one file that it is; None for a pack of many.
        key: the sender's own word for it, by which a sender finds it again.
        offset: bytes that have arrived and count.
        updated: when the last of them came, ISO 8601.
        taken: whether its files have entered the data set; ``data`` is then gone.
    """

    id: str
    dataset_id: str
    length: int
    path: str | None
    key: str
    offset: int
    updated: str
    taken: bool = False

    @property
    def whole(self) -> bool:
        """Whether all bytes have arrived."""
        return self.offset == self.length


class UploadStore:
    """The folder of unfinished uploads.

    Args:
        storage: the data folder.
        keep: how long an upload stays that nobody goes on with.
    """

    def __init__(self, storage: Storage, keep: timedelta) -> None:
        self.storage = storage
        self.keep = keep
        self._busy: set[str] = set()
        self._guard = threading.Lock()

    def create(self, dataset_id: str, length: int, path: str | None, key: str) -> Upload:
        """Make an upload that has received nothing yet."""
        identifier = f"{dataset_id}-{secrets.token_hex(8)}"
        upload = Upload(identifier, dataset_id, length, path, key, 0, now().isoformat())
        folder = self._folder(identifier)
        folder.mkdir(parents=True, mode=0o700)
        (folder / DATA_FILE).touch()
        self._write(upload)
        return upload

    def load(self, identifier: str) -> Upload:
        """Return an upload.

        Raises:
            RequestRefused: 404, or 410 when it has expired.
        """
        upload = self._read(self._folder(identifier) / STATE_FILE) or self._read(self._taken_note(identifier))
        if upload is None:
            raise not_found("upload", identifier)
        if not upload.taken and self.expires(upload) < now():
            self.remove(upload)
            raise protocol.expired()
        return upload

    def expires(self, upload: Upload) -> datetime:
        """Return when an upload is removed if nobody goes on with it."""
        return datetime.fromisoformat(upload.updated) + self.keep

    def unfinished(self, dataset_id: str) -> list[Upload]:
        """Return the uploads of a data set whose files have not entered it yet."""
        found = []
        folder = self.storage.folder(KIND, dataset_id)
        for state in sorted(folder.glob(f"*/{STATE_FILE}")):
            upload = self._read(state)
            if upload is None:  # removed since it was listed
                continue
            if self.expires(upload) < now():
                self.remove(upload)
            else:
                found.append(upload)
        return found

    def taken_keys(self, dataset_id: str) -> list[str]:
        """Return the keys of the uploads whose files have entered a data set that still receives."""
        notes = sorted((self.storage.folder(KIND, dataset_id) / TAKEN_FOLDER).glob("*.json"))
        return [upload.key for upload in map(self._read, notes) if upload is not None]

    def data(self, upload: Upload) -> Path:
        """Return the file that holds an upload's bytes."""
        return self._folder(upload.id) / DATA_FILE

    def commit(self, upload: Upload, offset: int) -> Upload:
        """Make an offset count. The bytes before it must be on the disk."""
        upload = replace(upload, offset=offset, updated=now().isoformat())
        self._write(upload)
        return upload

    def mark_taken(self, upload: Upload) -> Upload:
        """Note that an upload's files have entered the data set, and drop its bytes.

        The note stays until the data set is finished or deleted: a sender that did not hear of its success asks again.
        """
        upload = replace(upload, taken=True, path=None)
        note = self._taken_note(upload.id)
        with suppress(FileNotFoundError):  # the data set is gone or finished: nobody will ask
            note.parent.mkdir(exist_ok=True)
            write_json(note, asdict(upload), durable=True)
        self.remove(upload)
        return upload

    def remove(self, upload: Upload) -> None:
        """Delete an upload and its bytes."""
        shutil.rmtree(self._folder(upload.id), ignore_errors=True)

    @contextmanager
    def claim(self, identifier: str) -> Iterator[None]:
        """Hold an upload for one request.

        Raises:
            RequestRefused: 423 while another request holds it.
        """
        with self._guard:
            if identifier in self._busy:
                raise protocol.locked()
            self._busy.add(identifier)
        try:
            yield
        finally:
            with self._guard:
                self._busy.discard(identifier)

    def _folder(self, identifier: str) -> Path:
        match = _IDENTIFIER.fullmatch(identifier)
        if match is None:
            raise not_found("upload", identifier)
        return self.storage.folder(KIND, match[1]) / match[2]

    def _taken_note(self, identifier: str) -> Path:
        folder = self._folder(identifier)
        return folder.parent / TAKEN_FOLDER / f"{folder.name}.json"

    def _read(self, state: Path) -> Upload | None:
        try:
            return Upload(**read_json(state))
        except FileNotFoundError:
            return None

    def _write(self, upload: Upload) -> None:
        try:
            write_json(self._folder(upload.id) / STATE_FILE, asdict(upload), durable=True)
        except FileNotFoundError as error:  # the data set was deleted meanwhile
            raise not_found("upload", upload.id) from error


class ChunkWriter:
    """Appends the bytes of one request to an upload.

    Args:
        store: where the upload lies.
        upload: as it was loaded; the caller holds its claim.
        checksum: what the request's bytes must sum up to, if it said so.
    """

    def __init__(self, store: UploadStore, upload: Upload, checksum: protocol.Checksum | None) -> None:
        self.upload = upload
        self._store = store
        self._checksum = checksum
        self._sum = checksum.begin() if checksum else None
        self._end = upload.offset
        self._looked = upload.offset
        try:
            self._file = store.data(upload).open("r+b", buffering=0)
        except FileNotFoundError as error:
            raise not_found("upload", upload.id) from error
        self._file.truncate(upload.offset)
        self._file.seek(upload.offset)

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            RequestRefused: 413 for more than were announced, 507 when the disk runs full.
        """
        if self._end + len(data) > self.upload.length:
            raise protocol.too_long(self.upload.length)
        if self._end - self._looked >= SPACE_CHECK_BYTES:
            self._looked = self._end
            self._store.storage.require_space(len(data))
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._end += len(data)
        if self._sum is not None:
            self._sum.update(data)
        elif self._end - self.upload.offset >= COMMIT_BYTES:
            self._keep()

    def finish(self) -> Upload:
        """End the request: its bytes count from here on.

        Raises:
            RequestRefused: 460 when they are not what the checksum says; none of them counts then.
        """
        if self._checksum is not None and self._sum is not None and not self._checksum.matches(self._sum.digest()):
            raise protocol.checksum_mismatch(self._checksum.algorithm)
        self._keep()
        return self.upload

    def break_off(self, rest: bytes) -> None:
        """End a request whose connection broke: what came counts, ``rest`` too, unless a checksum was to prove it."""
        if self._checksum is not None:
            return
        self.write(rest)
        if self._end > self.upload.offset:
            self._keep()

    def close(self) -> None:
        """Let go of the file; bytes that do not count are cut off."""
        try:
            if self._end > self.upload.offset:
                self._file.truncate(self.upload.offset)
        finally:
            self._file.close()

    def _keep(self) -> None:
        os.fsync(self._file.fileno())
        self.upload = self._store.commit(self.upload, self._end)
