"""Back the data folder up into one file while the server runs, and restore it: database, data sets, jobs, models."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import shutil
import sqlite3
import tarfile
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from backend.batch_record import OPEN_STATES, RECORD_FILE
from backend.storage import DATABASE_FILE, read_json
from backend.thumbnails import THUMBNAILS_FILE
from wara import __version__
from wara.errors import InputError

FORMAT = 1
MANIFEST = "manifest.json"
# What is kept of each table's rows, and where. Uploads and batches under way are not: their senders go on here.
FOLDERS = {"datasets": "datasets", "jobs": "jobs", "models": "models", "backbones": "backbones"}
# Made again on demand, or of this machine alone. Directly in the folders: deeper down a class may be named so.
_LEFT_OUT = {
    "datasets": frozenset({"cache", THUMBNAILS_FILE, "thumbnails"}),
    "jobs": frozenset({"worker.lock", "process.json"}),
}
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Counts:
    """How much a backup holds."""

    files: int
    bytes: int


def back_up(data: Path, target: Path) -> Counts:
    """Write a backup; the server may run, train and receive meanwhile.

    The database is copied at one moment by SQLite's own online copy, and the files of its rows after it. A row whose
    files went away in between is left out of the copy; a training that was running is queued in it, and goes on from
    its last checkpoint where the backup is restored. The key that hides patients' IDs lies elsewhere (``WARA_HOME``)
    and is not in the backup.

    Args:
        data: the data folder.
        target: the new tar file; it is there whole or not at all.

    Raises:
        InputError: there is no database, or the target is there already.
    """
    if not (data / DATABASE_FILE).is_file():
        raise InputError(
            "There is nothing to back up", seen=data, remedy="Set WARA_DATA_DIR to the server's data folder.",
            code="backup-nothing",
        )  # fmt: skip
    if target.exists():
        raise InputError(
            "The backup's file is there already", seen=target, remedy="Name a new file.", code="backup-exists"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(3)}")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch, draft.open("xb") as out:
            draft.chmod(0o600)  # it holds images, and hashes of passwords
            copy = Path(scratch) / DATABASE_FILE
            _copy_database(data / DATABASE_FILE, copy)
            with tarfile.open(fileobj=out, mode="w") as archive:
                writer = _Writer(archive)
                _add_rows(data, copy, writer)
                _add_batches(data, writer)
                _tidy(copy)
                writer.add(copy, DATABASE_FILE)
                writer.add_manifest()
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return writer.counts


def restore(source: Path, data: Path) -> Counts:
    """Unpack a backup into a data folder that is empty or not there. Every file is checked against its digest.

    Raises:
        InputError: the folder holds something, or the file is no whole backup; nothing is changed then.
    """
    if data.exists() and any(data.iterdir()):
        raise InputError(
            "The data folder is not empty", seen=data,
            remedy="Set WARA_DATA_DIR to a new folder, or move what is there away first.", code="restore-not-empty",
        )  # fmt: skip
    data.parent.mkdir(parents=True, exist_ok=True)
    draft = data.with_name(f".{data.name}.{secrets.token_hex(3)}")
    draft.mkdir(mode=0o700)
    try:
        try:
            found = _unpack(source, draft)
            manifest = json.loads((draft / MANIFEST).read_text(encoding="utf-8"))
            good = manifest["format"] == FORMAT and found == manifest["files"]
        except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
            raise _damaged(source) from error
        if not good:
            raise _damaged(source)
        (draft / MANIFEST).unlink()
        if data.exists():
            data.rmdir()
        draft.rename(data)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Counts(len(found), sum(entry["size"] for entry in found.values()))


class _Writer:
    """Adds files to a tar, each with a digest for the manifest at its end."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._files: dict[str, dict[str, Any]] = {}

    @property
    def counts(self) -> Counts:
        return Counts(len(self._files), sum(entry["size"] for entry in self._files.values()))

    def add(self, path: Path, name: str) -> bool:
        """Add a file; False when it is gone. One that grows meanwhile is taken as long as it was."""
        try:
            with path.open("rb") as file:
                info = self._archive.gettarinfo(arcname=name, fileobj=file)
                # Who it belongs to here says nothing where it is restored.
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                info.type, info.mode = tarfile.REGTYPE, 0o600  # a second hard link is a file of its own here
                reader = _Digesting(file)
                self._archive.addfile(info, reader)
        except FileNotFoundError:
            return False
        self._files[name] = {"size": info.size, "sha256": reader.hexdigest}
        return True

    def add_manifest(self) -> None:
        text = json.dumps({"format": FORMAT, "version": __version__, "files": self._files}).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode = len(text), 0o600
        self._archive.addfile(info, io.BytesIO(text))


class _Digesting(io.RawIOBase):
    """Passes a file's bytes on and hashes them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    @property
    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source, timeout=30)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)


def _add_rows(data: Path, database: Path, writer: _Writer) -> None:
    """Add the folders of the copy's rows; a row whose folder went away goes too."""
    with closing(sqlite3.connect(database)) as copy:
        copy.execute("DELETE FROM datasets WHERE state = 'receiving'")
        for table, folder in FOLDERS.items():
            for (identifier,) in copy.execute(f"SELECT id FROM {table}").fetchall():
                home = data / folder / identifier
                whole = _add_folder(home, f"{folder}/{identifier}", writer)
                if not whole and table != "jobs":  # a queued job has no folder yet
                    copy.execute(f"DELETE FROM {table} WHERE id = ?", (identifier,))
        for table in ("jobs", "models"):
            copy.execute(f"UPDATE {table} SET dataset_id = NULL WHERE dataset_id NOT IN (SELECT id FROM datasets)")
        copy.commit()


def _add_batches(data: Path, writer: _Writer) -> None:
    """Add the answers of batches that have ended."""
    for record in sorted((data / "batches").glob(f"*/{RECORD_FILE}")):
        with suppress(FileNotFoundError):  # deleted meanwhile
            if read_json(record).get("state") not in OPEN_STATES:
                _add_folder(record.parent, f"batches/{record.parent.name}", writer)


def _add_folder(home: Path, name: str, writer: _Writer) -> bool:
    """Add a folder's files; False when it is not there, or went away meanwhile."""
    if not home.is_dir():
        return False
    left_out = _LEFT_OUT.get(home.parent.name, frozenset())
    for path in sorted(home.rglob("*")):
        relative = path.relative_to(home)
        if relative.parts[0] in left_out or path.is_symlink() or not path.is_file():
            continue
        writer.add(path, f"{name}/{relative.as_posix()}")
    return home.is_dir()


def _tidy(database: Path) -> None:
    """Make the copy what a restored server should begin with: no process of this machine, nobody signed in."""
    with closing(sqlite3.connect(database)) as copy:
        copy.execute(
            "UPDATE jobs SET state = 'queued', pid = NULL, pid_started = NULL "
            "WHERE state = 'running' AND cancel_requested = 0"
        )
        copy.execute("UPDATE jobs SET state = 'cancelled' WHERE state = 'running'")
        copy.execute("DELETE FROM sessions")
        copy.commit()
        copy.execute("VACUUM")


def _unpack(source: Path, target: Path) -> dict[str, dict[str, Any]]:
    """Unpack regular files with plain names; return their sizes and digests."""
    found: dict[str, dict[str, Any]] = {}
    with tarfile.open(source, mode="r:") as archive:
        for member in archive:
            checked = tarfile.data_filter(member, str(target))
            if not member.isreg() or checked.name != member.name:
                raise tarfile.TarError("not a plain file")
            path = target / member.name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None  # a regular file has one
            digest = hashlib.sha256()
            with path.open("xb") as out:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
            if member.name != MANIFEST:
                found[member.name] = {"size": member.size, "sha256": digest.hexdigest()}
    return found


def _damaged(source: Path) -> InputError:
    return InputError(
        "The backup cannot be restored: it is not one, or not whole", seen=source.name,
        remedy="Use another backup; nothing was changed.", code="backup-damaged",
    )  # fmt: skip
