"""The one place that touches files: where things lie, uploads on their way in, free space."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where the data folder is not guarded
    fcntl = None  # type: ignore[assignment]

from backend.incoming import Batch, StoredFile
from backend.problems import RequestRefused, disk_full
from backend.settings import MEGABYTE
from wara.errors import InputError

DATABASE_FILE = "wara.db"
MANIFEST_FILE = "manifest.jsonl"

log = logging.getLogger("backend.storage")


class Storage:
    """The data folder.

    Uploads lie as they came, DICOM headers and what names people in them included, until they are checked; from then
    on what is kept of them (see ``backend.door``), until their data set is deleted. The folder is readable by its owner
    alone.

    Args:
        root: absolute path of the data folder.
        min_free_mb: space in MiB that must stay free.
        max_upload_mb: largest upload in MiB.
    """

    def __init__(self, root: Path, *, min_free_mb: int, max_upload_mb: int) -> None:
        self.root = root
        self.min_free_mb = min_free_mb
        self.max_upload_mb = max_upload_mb
        self._locks: dict[str, threading.RLock] = {}
        self._claim: IO[bytes] | None = None

    @property
    def database(self) -> Path:
        """The database file."""
        return self.root / DATABASE_FILE

    def folder(self, kind: str, identifier: str) -> Path:
        """Return the folder of one thing; ``kind`` is staging, uploads, datasets, jobs, models, batches, ..."""
        return self.root / kind / identifier

    def prepare(self) -> None:
        """Make the folders, readable by their owner alone, and drop what a stopped server left half done."""
        try:
            self._make_root()
            for kind in ("staging", "uploads", "datasets", "jobs", "models", "batches", "backbones", "scratch"):
                (self.root / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise InputError(
                "The data folder cannot be used",
                seen=f"{self.root}: {error.strerror}",
                remedy="Set WARA_DATA_DIR to a folder that this user may write to.",
                code="data-folder-unusable",
            ) from error
        self.claim()
        for leftover in (*(self.root / "scratch").iterdir(), *self.root.glob("*/.*.removed")):
            shutil.rmtree(leftover, ignore_errors=True)
            if leftover.is_file():  # without a name while its server lived, where the disk can do that
                leftover.unlink()
        for staging in (self.root / "staging").iterdir():
            shutil.rmtree(staging / "incoming", ignore_errors=True)

    def _make_root(self) -> None:
        # Its parents get ordinary permissions; the folder itself shows nobody else what it holds, not even names.
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = self.root.stat().st_mode
        if mode & 0o077 and not mode & stat.S_ISVTX:  # a folder such as /tmp is left to everybody
            try:
                self.root.chmod(0o700)
            except PermissionError:
                log.warning("Other users of this machine may read the data folder: it belongs to somebody else")

    def claim(self) -> None:
        """Hold the data folder for this process, so that two servers never start the same job."""
        if fcntl is None or self._claim is not None:
            return
        handle = (self.root / "server.lock").open("wb")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.close()
            raise InputError(
                "Another WaRA Studio is already running on this data folder",
                seen=self.root,
                remedy="Use the one that runs, stop it first, or set WARA_DATA_DIR to another folder.",
                code="data-folder-in-use",
            ) from error
        self._claim = handle

    def release(self) -> None:
        """Give the data folder free."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def free_mb(self) -> float:
        """Return the free space of the data folder's disk in MiB."""
        return shutil.disk_usage(self.root).free / MEGABYTE

    def require_space(self, extra_bytes: int = 0) -> None:
        """Refuse with 507 when ``extra_bytes`` more would leave less than the reserve."""
        free, needed = self.free_mb(), self.min_free_mb + extra_bytes / MEGABYTE
        if free < needed:
            raise disk_full(free, needed)

    @contextmanager
    def batch(self, folder: Path, *, used_bytes: int = 0, room: int = 0) -> Iterator[Batch]:
        """Give a batch that receives files inside ``folder``; what is not placed is removed at the end.

        Up to ``room`` bytes in all are held in memory and touch no disk.
        """
        with self._receiving(folder / "incoming" / secrets.token_hex(6), used_bytes, room) as batch:
            yield batch

    @contextmanager
    def scratch(self, *, used_bytes: int = 0, room: int = 0) -> Iterator[Batch]:
        """Give a batch in a folder of the request's own; what is not placed is gone at the end. ``room`` as `batch`."""
        with self._receiving(self.root / "scratch" / secrets.token_hex(6), used_bytes, room) as batch:
            yield batch

    @contextmanager
    def _receiving(self, folder: Path, used_bytes: int, room: int) -> Iterator[Batch]:
        batch = Batch(self, folder, self.max_upload_mb * MEGABYTE - used_bytes, room)
        try:
            yield batch
        finally:
            batch.abandon()
            if folder.exists():
                shutil.rmtree(folder, ignore_errors=True)

    def place(self, dataset_id: str, files: list[StoredFile]) -> None:
        """Add a batch's files to an upload: all of them, or none when a name is there twice or a write fails.

        Raises:
            RequestRefused: 409 with the file's name.
        """
        staging = self.folder("staging", dataset_id)
        with self.lock(dataset_id):
            names: set[str] = set()
            for file in files:
                target = staging / "files" / file.name
                if file.name in names or os.path.lexists(target) or any(p.is_file() for p in target.parents):
                    raise RequestRefused(
                        409,
                        "The same file came twice in one upload",
                        seen=file.name,
                        remedy="Send every file once; nothing of this batch was kept.",
                        code="file-twice",
                    )
                names.add(file.name)
            placed: list[tuple[Path, Path]] = []
            try:
                for file in files:
                    target = staging / "files" / file.name
                    _make_parent(target, file.name)
                    file.path.rename(target)
                    placed.append((target, file.path))
                append_lines(
                    staging / MANIFEST_FILE,
                    [
                        {"name": file.name, "size": file.size, "digest": file.digest}
                        | ({"origin": file.origin} if file.origin else {})
                        for file in files
                    ],
                )
            except BaseException:
                for target, origin in reversed(placed):
                    target.rename(origin)
                raise

    def manifest(self, dataset_id: str) -> list[dict[str, Any]]:
        """Return what an upload has received so far: dicts of name, size (bytes), digest, perhaps origin."""
        path = self.folder("staging", dataset_id) / MANIFEST_FILE
        if not path.exists():
            return []
        # What stands behind the last line end was being written when the server was killed, and does not count.
        whole = path.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def drop_unlisted(self, dataset_id: str) -> None:
        """Remove files that are in place but not in the manifest: a killed server placed them and got no further."""
        files = self.folder("staging", dataset_id) / "files"
        listed = {entry["name"] for entry in self.manifest(dataset_id)}
        for path in files.rglob("*") if files.is_dir() else ():
            if not path.is_dir() and path.relative_to(files).as_posix() not in listed:
                path.unlink()

    def settle(self, dataset_id: str) -> Path:
        """Move a finished upload to its place and return the folder."""
        target = self.folder("datasets", dataset_id)
        self.folder("staging", dataset_id).rename(target)
        shutil.rmtree(target / "incoming", ignore_errors=True)
        return target

    def unsettle(self, dataset_id: str) -> bool:
        """Move an upload back whose row does not say that it is finished; False when it was not moved."""
        staging, settled = self.folder("staging", dataset_id), self.folder("datasets", dataset_id)
        if staging.exists() or not (settled / MANIFEST_FILE).is_file():
            return False
        settled.rename(staging)
        return True

    @contextmanager
    def settling(self, dataset_id: str) -> Iterator[None]:
        """Around the transaction in which an upload is settled: moved back where it fails, its notes gone after it."""
        try:
            yield
        except BaseException:
            self.unsettle(dataset_id)
            raise
        shutil.rmtree(self.folder("uploads", dataset_id), ignore_errors=True)  # notes of what has entered it

    def move(self, source: Path, target: Path) -> None:
        """Move a file or folder within the data folder."""
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)

    def remove(self, kind: str, identifier: str) -> None:
        """Delete a folder; one that is already gone is no error."""
        folder = self.folder(kind, identifier)
        doomed = folder.with_name(f".{identifier}.{secrets.token_hex(3)}.removed")
        try:
            # Renamed first: a half-deleted folder never looks like a whole one.
            folder.rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed, ignore_errors=True)
        self._locks.pop(identifier, None)

    def lock(self, identifier: str) -> threading.RLock:
        """Return the lock of one thing; who holds it may take it once more."""
        return self._locks.setdefault(identifier, threading.RLock())


def _make_parent(target: Path, name: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RequestRefused(
            409,
            "A name is both a file and a folder",
            seen=name,
            remedy="Rename one of the two and upload again.",
            code="name-clash",
        ) from error


def append_lines(path: Path, values: list[dict[str, Any]]) -> None:
    """Append JSON lines, all of them or none; a last line that was left half written is overwritten."""
    data = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                end = file.read().rfind(b"\n") + 1
                file.truncate(end)
        try:
            file.write(data)
            file.flush()
        except BaseException:
            with suppress(OSError):  # what is left is no whole line, or is not there
                file.close()
            os.truncate(path, end)
            raise


def write_atomically(path: Path, data: bytes | Iterable[str], *, durable: bool = False) -> None:
    """Write a file so that it is there whole or not at all; ``durable`` also through a loss of power.

    Args:
        path: the file.
        data: its bytes, or its text in pieces.
        durable: wait until the disk has it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(3)}")
    try:
        with temporary.open("wb") as file:
            for piece in [data] if isinstance(data, bytes) else (text.encode() for text in data):
                file.write(piece)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable and fcntl is not None:  # elsewhere a folder cannot be opened
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """Write JSON so that it is there whole or not at all; ``durable`` also through a loss of power."""
    write_atomically(path, json.dumps(value, ensure_ascii=False).encode(), durable=durable)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
