"""Data sets from upload to checked catalogue: receive, finish, decode every image once, report."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from backend.db import Database, Dataset, Job
from backend.db.models import now
from backend.problems import RequestRefused, not_found, problem_of, unexpected
from backend.storage import Batch, Storage, read_json, safe_relative, write_atomically, write_json
from wara.data.catalogue import Catalogue, Item, PassedOver, ingest, read_catalogue, require_trainable
from wara.data.sources import Source, open_source
from wara.errors import InputError

STALE_UPLOAD = timedelta(days=1)
SWEEP_SECONDS = 60.0
WRITE_AGAIN_SECONDS = (0.2, 1.0, 5.0)
LABELS_FOLDER = "labels"
CATALOGUE_FILE = "catalogue.json"
DECISIONS_FILE = "decisions.json"

log = logging.getLogger("backend.intake")


class _CheckStopped(Exception):
    """Ends a check from within its progress report."""


class Intake:
    """Takes uploads in and checks them in the background, one data set at a time."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self.database = database
        self.storage = storage
        self._pool: ThreadPoolExecutor | None = None
        self._received: dict[str, int] = {}
        self._progress: dict[str, tuple[int, int]] = {}
        self._stopping = threading.Event()
        self._dropped: set[str] = set()
        self._submitted: set[str] = set()
        self._sweeper: threading.Thread | None = None

    def start(self) -> None:
        """Begin checking; uploads whose check a stopped server left unfinished are checked again."""
        self._stopping.clear()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="data-check")
        self._submitted.clear()
        self._try_sweep()
        self._sweeper = threading.Thread(target=self._keep_sweeping, name="data-sweep", daemon=True)
        self._sweeper.start()

    def _keep_sweeping(self) -> None:
        while not self._stopping.wait(SWEEP_SECONDS):
            self._try_sweep()

    def _try_sweep(self) -> None:
        try:
            self.sweep()
        except Exception as error:
            # Whatever it is, the next sweep comes, and neither the start nor the thread may end here.
            unexpected(error)

    def sweep(self) -> None:
        """Drop uploads that nobody has gone on with for a day, and check what waits for its check."""
        with self.database.session() as session:
            old = now() - STALE_UPLOAD
            stale = session.scalars(select(Dataset.id).where(Dataset.state == "receiving", Dataset.updated < old)).all()
            unfinished = session.scalars(select(Dataset.id).where(Dataset.state == "checking")).all()
        for dataset_id in stale:
            with self.storage.lock(dataset_id):
                self._drop_stale(dataset_id, old)
        for dataset_id in unfinished:
            self._submit(dataset_id)

    def _drop_stale(self, dataset_id: str, old: datetime) -> None:
        with self.database.session() as session:
            dataset = session.get(Dataset, dataset_id)
            if dataset is None or dataset.state != "receiving" or dataset.updated >= old:
                return  # somebody went on with it since it was listed
            session.delete(dataset)
        self._forget(dataset_id)

    def _forget(self, dataset_id: str) -> None:
        """Remove the files of a data set whose row is gone."""
        self._received.pop(dataset_id, None)
        self.storage.remove("staging", dataset_id)
        self.storage.remove("datasets", dataset_id)

    def stop(self) -> None:
        """End running checks; the next start takes them up again."""
        self._stopping.set()
        if self._sweeper is not None:
            self._sweeper.join()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, name: str | None, labels: str | None) -> str:
        """Make a data set that receives files; return its id."""
        with self.database.session() as session:
            dataset = Dataset(name=_clean_name(name or ""), labels=safe_relative(labels) if labels else None)
            session.add(dataset)
            session.flush()
            dataset_id = dataset.id
        self.storage.folder("staging", dataset_id).mkdir(parents=True)
        return dataset_id

    def accepts(self, dataset_id: str) -> int:
        """Check that a data set still receives; return the bytes it holds so far."""
        with self.storage.lock(dataset_id):
            self._receiving(dataset_id)
            if dataset_id not in self._received:
                self.storage.drop_unlisted(dataset_id)
                self._received[dataset_id] = sum(entry["size"] for entry in self.storage.manifest(dataset_id))
            return self._received[dataset_id]

    def add(self, dataset_id: str, batch: Batch, name: str | None = None, labels: str | None = None) -> None:
        """Keep a batch's files, all of them or none.

        Raises:
            RequestRefused: 404 or 409 when the data set was deleted or finished while the files came, or 409 when one
                of them is there already.
        """
        labels = safe_relative(labels.strip()) if labels and labels.strip() else None
        # Finishing and deleting take the same lock: nothing enters a data set once its manifest was read.
        with self.storage.lock(dataset_id):
            held = self.accepts(dataset_id)
            self.storage.place(dataset_id, batch.files)
            self._received[dataset_id] = held + sum(file.size for file in batch.files)
            with self.database.session() as session:
                dataset = session.get_one(Dataset, dataset_id)
                dataset.updated = now()
                if name and name.strip():
                    dataset.name = _clean_name(name)
                if labels:
                    dataset.labels = labels

    def finish(self, dataset_id: str) -> None:
        """End an upload: list it, refuse what cannot be used at once, and begin the check of every image.

        Raises:
            RequestRefused: 409 when the same content is here already, or the upload is finished.
            InputError: the upload cannot be used. It is not kept.
        """
        with self.storage.lock(dataset_id):
            self.accepts(dataset_id)
            name, labels = self._receiving(dataset_id)
            try:
                self._settle(dataset_id, name, labels)
            except InputError:
                self._discard(dataset_id)
                raise
        self._submit(dataset_id)

    def delete(self, dataset_id: str) -> None:
        """Delete a data set and its files.

        Raises:
            RequestRefused: 404, or 409 while a job uses it.
        """
        with self.storage.lock(dataset_id):
            self._delete(dataset_id)
        load_catalogue.cache_clear()

    def _delete(self, dataset_id: str) -> None:
        with self.database.session() as session:
            session.delete(_unused(session, dataset_id))
        self._dropped.add(dataset_id)
        self._forget(dataset_id)

    def require_unused(self, dataset_id: str) -> None:
        """Refuse what would change a data set while a job works with it.

        Raises:
            RequestRefused: 404, or 409 while a job uses it.
        """
        with self.database.session() as session:
            _unused(session, dataset_id)

    def progress(self, dataset_id: str) -> tuple[int, int] | None:
        """Return (done, total) images of a running check."""
        return self._progress.get(dataset_id)

    def source(self, dataset: Dataset) -> Path:
        """Return the folder, zip or file that holds a data set's images."""
        return self.storage.folder("datasets", dataset.id) / (dataset.source or "files")

    def labels_file(self, dataset: Dataset) -> Path | None:
        """Return the CSV that the upload named as its labels."""
        if not dataset.labels:
            return None
        return self.storage.folder("datasets", dataset.id) / LABELS_FOLDER / PurePosixPath(dataset.labels).name

    def catalogue_file(self, dataset: Dataset) -> Path:
        """Return where the catalogue of a checked data set is kept."""
        return self.storage.folder("datasets", dataset.id) / CATALOGUE_FILE

    def decisions_file(self, dataset: Dataset) -> Path:
        """Return where the decisions about a data set's findings are kept, if there are any."""
        return self.storage.folder("datasets", dataset.id) / DECISIONS_FILE

    def catalogue(self, dataset: Dataset) -> Catalogue:
        """Return the catalogue as it was checked, before any decision.

        Raises:
            RequestRefused: 409 while the data set is not ready.
        """
        if dataset.state == "failed" and dataset.error is not None:
            problem = dataset.error
            raise RequestRefused(
                409, problem["title"], seen=problem.get("seen"), remedy=problem["remedy"], code="dataset-failed"
            )
        if dataset.state != "ready":
            raise RequestRefused(
                409,
                "The images of this data set are still being received or checked",
                seen=dataset.state,
                remedy="Wait until its state is 'ready'.",
                code="dataset-not-ready",
            )
        return load_catalogue(self.catalogue_file(dataset))

    def _receiving(self, dataset_id: str) -> tuple[str, str | None]:
        with self.database.session() as session:
            dataset = session.get(Dataset, dataset_id)
            if dataset is None:
                raise not_found("data set", dataset_id)
            if dataset.state != "receiving":
                raise RequestRefused(
                    409,
                    "The upload of this data set is already finished",
                    seen=dataset.state,
                    remedy="Start a new upload to add images.",
                    code="dataset-not-receiving",
                )
            return dataset.name, dataset.labels

    def _settle(self, dataset_id: str, name: str, labels: str | None) -> None:
        manifest = self.storage.manifest(dataset_id)
        if not manifest:
            raise InputError(
                "The upload holds no files", remedy="Choose a folder with images, or a zip of one.", code="empty-upload"
            )
        staging = self.storage.folder("staging", dataset_id)
        source = _source(manifest, labels)
        catalogue = _list(staging, source, labels)
        with self.database.session() as session:
            taken = set(session.scalars(select(Dataset.name).where(Dataset.id != dataset_id)))
        try:
            with self.database.session() as session:
                dataset = session.get_one(Dataset, dataset_id)
                dataset.digest = _digest(manifest, labels)
                session.flush()
                dataset.name = _free_name(name or _name_from(manifest), taken)
                dataset.source = source
                _describe(dataset, catalogue)
                dataset.state = "checking"
                # Within the transaction: a row that says "checking" always has its files in place.
                self.storage.settle(dataset_id)
        except IntegrityError as error:
            raise self._exists(_digest(manifest, labels)) from error

    def _exists(self, digest: str) -> RequestRefused:
        with self.database.session() as session:
            existing = session.scalars(select(Dataset).where(Dataset.digest == digest)).one_or_none()
        if existing is None:
            return RequestRefused(
                409,
                "A data set of the same content was deleted at this very moment",
                remedy="Upload it once more.",
                code="dataset-deleted",
            )
        return RequestRefused(
            409,
            "This data set is already here",
            seen=existing.name,
            remedy="Use the one that is here; the second copy was not kept.",
            code="dataset-exists",
            existing=existing.id,
        )

    def _discard(self, dataset_id: str) -> None:
        with self.database.session() as session:
            dataset = session.get(Dataset, dataset_id)
            if dataset is not None:
                session.delete(dataset)
        self._forget(dataset_id)

    def discard_upload(self, dataset_id: str) -> None:
        """Drop an upload that failed on its way in; one that is settled is left alone."""
        with self.storage.lock(dataset_id):
            with self.database.session() as session:
                dataset = session.get(Dataset, dataset_id)
            if dataset is not None and dataset.state == "receiving":
                self._discard(dataset_id)

    def _submit(self, dataset_id: str) -> None:
        if self._pool is None or self._stopping.is_set() or dataset_id in self._submitted:
            return
        self._submitted.add(dataset_id)
        try:
            self._pool.submit(self._check_once, dataset_id)
        except RuntimeError:  # the pool ended at this moment; the next start takes it up
            self._submitted.discard(dataset_id)

    def _check_once(self, dataset_id: str) -> None:
        try:
            self._check(dataset_id)
        except Exception as error:
            # Still "checking", so the next sweep has it checked again.
            unexpected(error)
        finally:
            self._progress.pop(dataset_id, None)
            self._submitted.discard(dataset_id)

    def _check(self, dataset_id: str) -> None:
        with self.database.session() as session:
            dataset = session.get(Dataset, dataset_id)
        if dataset is None or dataset.state != "checking":
            return

        def report(done: int, total: int) -> None:
            if self._stopping.is_set() or dataset_id in self._dropped:
                raise _CheckStopped
            self._progress[dataset_id] = (done, total)

        try:
            with open_source(self.source(dataset)) as source:
                catalogue, _ = ingest(source, read_catalogue(source, self.labels_file(dataset)), on_progress=report)
            require_trainable(catalogue)
            write_json(self.storage.folder("datasets", dataset_id) / CATALOGUE_FILE, asdict(catalogue))
        except _CheckStopped:
            return
        except Exception as error:
            if dataset_id not in self._dropped:
                self._fail(dataset_id, problem_of(error))
        else:
            self._set_down(dataset_id, "ready", catalogue=catalogue)

    def _fail(self, dataset_id: str, problem: dict[str, Any]) -> None:
        log.info("Data set %s cannot be used: %s", dataset_id, problem["code"])
        self._set_down(dataset_id, "failed", problem=problem)
        self.storage.remove("datasets", dataset_id)

    def _set_down(
        self, dataset_id: str, state: str, *, catalogue: Catalogue | None = None, problem: dict[str, Any] | None = None
    ) -> None:
        """Write how a check ended; a database that does not take it now is asked again a few times."""
        for pause in (*WRITE_AGAIN_SECONDS, None):
            try:
                with self.database.session() as session:
                    row = session.get(Dataset, dataset_id)
                    if row is None:
                        return
                    row.state, row.error = state, problem
                    if catalogue is not None:
                        _describe(row, catalogue)
                    if problem is not None:  # without a digest the same folder can be sent again once it is mended
                        row.digest = None
                return
            except SQLAlchemyError as error:
                if pause is None:
                    raise
                log.warning("The end of a check was not written (%s); trying again", type(error).__name__)
                self._stopping.wait(pause)


def _unused(session: Session, dataset_id: str) -> Dataset:
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise not_found("data set", dataset_id)
    using = session.scalars(
        select(Job.name).where(Job.dataset_id == dataset_id, Job.state.in_(("queued", "running")))
    ).first()
    if using is not None:
        raise RequestRefused(
            409,
            "A training is using this data set",
            seen=using,
            remedy="Wait until it has ended, or cancel it first.",
            code="dataset-in-use",
        )
    return dataset


def _list(staging: Path, source: str, labels: str | None) -> Catalogue:
    with open_source(staging / source) as opened:
        labels_file = None
        if labels is not None:
            # A copy under a path of our own: the name comes from outside and must never be opened as it is.
            labels_file = staging / LABELS_FOLDER / PurePosixPath(labels).name
            labels_file.parent.mkdir(exist_ok=True)
            write_atomically(labels_file, _labels_bytes(opened, staging, labels))
        catalogue = read_catalogue(opened, labels_file)
    require_trainable(catalogue)
    return catalogue


def _labels_bytes(source: Source, staging: Path, labels: str) -> bytes:
    # The browser's path begins with the chosen folder's name, which a source leaves out when it wraps everything.
    for candidate in (labels, labels.partition("/")[2]):
        if candidate and candidate in source:
            return source.read(candidate)
    beside = staging / "files" / labels
    if beside.is_file():
        return beside.read_bytes()
    raise InputError(
        "The upload does not hold the CSV named as its labels",
        seen=labels,
        remedy="Give the CSV's path inside the uploaded folder, or leave the field empty.",
        code="labels-missing",
    )


def _source(manifest: list[dict[str, Any]], labels: str | None) -> str:
    """Return what to open, relative to the upload: the one zip it consists of, or the folder."""
    names = [entry["name"] for entry in manifest if entry["name"] != labels]
    if len(names) == 1 and names[0].lower().endswith(".zip"):
        return f"files/{names[0]}"
    return "files"


def _digest(manifest: list[dict[str, Any]], labels: str | None) -> str:
    tops = {entry["name"].partition("/")[0] for entry in manifest}
    wrapped = len(tops) == 1 and all("/" in entry["name"] for entry in manifest)
    lines = sorted(
        f"{entry['name'].partition('/')[2] if wrapped else entry['name']}\n{entry['digest']}" for entry in manifest
    )
    if len(lines) == 1:  # a zip by another name is the same zip
        lines = [manifest[0]["digest"]]
    return hashlib.blake2b(json.dumps([lines, labels]).encode(), digest_size=16).hexdigest()


def _clean_name(name: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in name).split())[:120]


def _name_from(manifest: list[dict[str, Any]]) -> str:
    first = PurePosixPath(manifest[0]["name"])
    if len(first.parts) > 1:
        return _clean_name(first.parts[0]) or "Data set"
    return _clean_name(first.stem) if len(manifest) == 1 else "Data set"


def _free_name(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name} ({number})", number + 1
    return candidate


def _describe(dataset: Dataset, catalogue: Catalogue) -> None:
    counts = Counter(item.label for item in catalogue.items)
    dataset.images = len(catalogue.items)
    dataset.classes = [{"name": name, "count": counts[name]} for name in catalogue.classes]
    dataset.layout = catalogue.layout
    dataset.passed_over = len(catalogue.passed_over)


@lru_cache(maxsize=8)
def load_catalogue(path: Path) -> Catalogue:
    """Return a catalogue that a check has written."""
    stored = read_json(path)
    stored["items"] = tuple(Item(**fields) for fields in stored["items"])
    stored["passed_over"] = tuple(PassedOver(**fields) for fields in stored["passed_over"])
    stored["classes"] = tuple(stored["classes"])
    return Catalogue(**stored)
