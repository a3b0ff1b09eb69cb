"""Data sets from upload to checked catalogue: receive, finish, decode every image once."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from backend.accounts.access import visible
from backend.arrivals import (
    UNKNOWN_LABELS,
    clean_name,
    content_digest,
    count_images,
    free_name,
    labels_are_unknown,
    list_upload,
    name_of,
    read_band,
    source_of,
)
from backend.catalogues import CATALOGUE_FILE, describe, forget
from backend.db import Database, Dataset
from backend.db.models import now
from backend.door import CLEAN_FOLDER, Admitted, check, empty, holds_raw, remove_raw, settle_on_disk
from backend.incoming import Batch
from backend.looks_ahead import LooksAhead
from backend.names import safe_relative
from backend.places import Places, drop_former
from backend.problems import as_problem, is_disk_full, not_found, problem_of, unexpected
from backend.refusals import already_here, asked, no_room_for_check, refuse_in_use
from backend.storage import Storage, write_atomically
from wara.data.checked import checked_as_json
from wara.data.seen import SeeAll, see_all
from wara.errors import InputError
from wara.imaging.deidentify import Consent

# From Friday evening to Monday morning.
STALE_UPLOAD = timedelta(days=3)
SWEEP_SECONDS = 60.0
WRITE_AGAIN_SECONDS = (0.2, 1.0, 5.0)

log = logging.getLogger("backend.intake")


class _CheckStopped(Exception):
    """Ends a check from within its progress report."""


class Intake(Places):
    """Takes uploads in and checks them in the background, one data set at a time."""

    def __init__(self, database: Database, storage: Storage, see: SeeAll = see_all) -> None:
        super().__init__(database, storage)
        self._looks = LooksAhead(storage.root / "scratch", see)
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
        self._looks.start()
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
        """Drop uploads that nobody has gone on with for three days, and check what waits for its check."""
        with self.database.session() as session:
            old = now() - STALE_UPLOAD
            stale = session.scalars(select(Dataset.id).where(Dataset.state == "receiving", Dataset.updated < old)).all()
            unfinished = session.scalars(select(Dataset.id).where(Dataset.state == "checking")).all()
            cleaned = session.scalars(select(Dataset.id).where(Dataset.source == CLEAN_FOLDER)).all()
        for dataset_id in stale:
            with self.storage.lock(dataset_id):
                self._drop_stale(dataset_id, old)
        for dataset_id in cleaned:
            self._remove_raw(dataset_id)
        for dataset_id in unfinished:
            self.submit(dataset_id)

    def _remove_raw(self, dataset_id: str) -> None:
        """Take away what came of a data set whose row names what is clean; a server that was killed left it."""
        folder = self.storage.folder("datasets", dataset_id)
        if holds_raw(folder):
            self.database.forget_overwritten()
            remove_raw(folder)

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
        self._looks.forget(dataset_id)
        self.storage.remove("uploads", dataset_id)
        self.storage.remove("staging", dataset_id)
        self.storage.remove("datasets", dataset_id)

    def stop(self) -> None:
        """End running checks; the next start takes them up again."""
        self._stopping.set()
        if self._sweeper is not None:
            self._sweeper.join()
        self._looks.stop()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, name: str | None, labels: str | None) -> str:
        """Make a data set that receives files; return its id."""
        with self.database.session() as session:
            dataset = Dataset(name=clean_name(name or ""), labels=safe_relative(labels) if labels else None)
            session.add(dataset)
        self.storage.folder("staging", dataset.id).mkdir(parents=True)
        return dataset.id

    def accepts(self, dataset_id: str) -> int:
        """Check that a data set still receives; return the bytes it holds so far."""
        with self.storage.lock(dataset_id):
            self.receiving(dataset_id)
            if dataset_id not in self._received:
                self.storage.drop_unlisted(dataset_id)
                self._received[dataset_id] = sum(entry["size"] for entry in self.storage.manifest(dataset_id))
            return self._received[dataset_id]

    def touch(self, dataset_id: str) -> None:
        """Note that a data set's upload goes on, so that it is not dropped as left behind."""
        with self.database.session() as session:
            dataset = session.get(Dataset, dataset_id)
            if dataset is not None:
                dataset.updated = now()

    def agree(self, dataset_id: str, age_band: str | None) -> None:
        """Note what may be kept of the patients: "5" or "10" for sex and age in such bands, "" for neither.

        Raises:
            InputError: another width; nothing is changed.
        """
        if age_band is None:
            return
        band = read_band(age_band)
        with self.database.session() as session:
            dataset = session.get(Dataset, dataset_id)
            if dataset is not None and dataset.state == "receiving":
                dataset.age_band = band

    def add(
        self,
        dataset_id: str,
        batch: Batch,
        name: str | None = None,
        labels: str | None = None,
        age_band: str | None = None,
    ) -> None:
        """Keep a batch's files, all of them or none.

        Raises:
            InputError: what may be kept of the patients cannot be told (see ``agree``).
            RequestRefused: 404 or 409 when the data set was deleted or finished while the files came, or 409 when one
                of them is there already.
        """
        labels = safe_relative(labels.strip()) if labels and labels.strip() else None
        if age_band is not None:
            read_band(age_band)
        # Finishing and deleting take the same lock: nothing enters a data set once its manifest was read.
        with self.storage.lock(dataset_id):
            held = self.accepts(dataset_id)
            self.storage.place(dataset_id, batch.files)
            self._received[dataset_id] = held + sum(file.size for file in batch.files)
            with self.database.session() as session:
                dataset = session.get_one(Dataset, dataset_id)
                dataset.updated = now()
                if name and name.strip():
                    dataset.name = clean_name(name)
                if labels:
                    dataset.labels = labels
            self.agree(dataset_id, age_band)
            self._looks.look(dataset_id, self.storage.folder("staging", dataset_id) / "files", batch.files)

    def finish(self, dataset_id: str, *, ask: bool = False) -> None:
        """End an upload: list it, refuse what cannot be used at once, and begin the check of every image.

        Args:
            dataset_id: the data set.
            ask: wait for a person to say where labels come from, though they can be told; only the check takes away
                what they can be read from.

        Raises:
            RequestRefused: 409 when the same content is here already, or the upload is finished.
            InputError: the upload cannot be used. It is not kept.
        """
        with self.storage.lock(dataset_id):
            self.accepts(dataset_id)
            sent = self.receiving(dataset_id)
            self._looks.settle(dataset_id)
            try:
                self._settle(sent, ask)
            except InputError:
                self._discard(dataset_id)
                raise
        self.submit(dataset_id)

    def delete(self, dataset_id: str) -> None:
        """Delete a data set and its files.

        Raises:
            RequestRefused: 404, or 409 while a job uses it.
        """
        with self.storage.lock(dataset_id):
            self._delete(dataset_id)
        forget()

    def _delete(self, dataset_id: str) -> None:
        with self.database.session() as session:
            dataset = session.get(Dataset, dataset_id)
            if dataset is None:
                raise not_found("data set", dataset_id)
            refuse_in_use(session, dataset_id)
            session.delete(dataset)
        self._dropped.add(dataset_id)
        self._forget(dataset_id)

    def progress(self, dataset_id: str) -> tuple[int, int] | None:
        """Return (done, total) images of a running check."""
        return self._progress.get(dataset_id)

    def _settle(self, sent: Dataset, ask: bool) -> None:
        dataset_id, labels = sent.id, sent.labels
        manifest = self.storage.manifest(dataset_id)
        if not manifest:
            raise InputError(
                "The upload holds no files", remedy="Choose a folder with images, or a zip of one.", code="empty-upload"
            )
        staging = self.storage.folder("staging", dataset_id)
        source = source_of(manifest, labels)
        problem = as_problem(asked()) if ask else None
        try:
            catalogue = list_upload(staging, source, labels)
        except InputError as error:
            if not labels_are_unknown(error, staging, source):
                raise
            problem = as_problem(error)
        with self.database.session() as session:
            taken = set(session.scalars(select(Dataset.name).where(visible("dataset"), Dataset.id != dataset_id)))
        digest = content_digest(manifest, labels, sent.owner_id)
        try:
            with self.storage.settling(dataset_id), self.database.session() as session:
                dataset = session.get_one(Dataset, dataset_id)
                dataset.digest = digest
                session.flush()
                dataset.name = free_name(sent.name or name_of(manifest), taken)
                dataset.source = source
                if problem is None:
                    describe(dataset, catalogue)
                    dataset.state = "checking"
                else:
                    dataset.images, dataset.error = count_images(staging, source), problem
                    dataset.state = "mapping"
                # Within the transaction: a row that says "checking" always has its files in place.
                self.storage.settle(dataset_id)
        except IntegrityError as error:
            with self.database.session() as session:
                raise already_here(session, digest, sent.age_band) from error

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

    def submit(self, dataset_id: str) -> None:
        """Have a data set that says "checking" checked in the background."""
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
            self._looks.forget(dataset_id)  # also where it failed: what was seen is not to outlive what came
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

        folder = self.storage.folder("datasets", dataset_id)
        clean = dataset.source == CLEAN_FOLDER
        drop_former(folder)
        try:
            admitted = check(
                folder,
                self.source(dataset),
                self.labels_file(dataset),
                self.mapping(dataset),
                None if clean else Consent.of_band(dataset.age_band),
                report,
                self._looks.seen(dataset_id),
            )
            write_atomically(folder / CATALOGUE_FILE, checked_as_json(admitted.catalogue))
            settle_on_disk()
        except _CheckStopped:
            return
        except Exception as error:
            if dataset_id in self._dropped:
                return
            if not clean:
                empty(folder)
            mapped = self.mapping_file(dataset).exists()
            if is_disk_full(error):
                # Nothing is wrong with the images, which may have taken hours to arrive.
                self._set_down(dataset_id, "mapping", problem=as_problem(no_room_for_check()))
            elif isinstance(error, InputError) and (mapped or error.code in UNKNOWN_LABELS):
                # The images are good, or were under other labels: they stay, and where labels come from is asked.
                self._set_down(dataset_id, "mapping", problem=as_problem(error))
            elif clean:  # nobody else has these files any more
                self._set_down(dataset_id, "mapping", problem=problem_of(error))
            else:
                self._fail(dataset_id, problem_of(error))
        else:
            self._set_down(dataset_id, "ready", admitted=admitted)
            self._remove_raw(dataset_id)

    def _fail(self, dataset_id: str, problem: dict[str, Any]) -> None:
        log.info("Data set %s cannot be used: %s", dataset_id, problem["code"])
        self._set_down(dataset_id, "failed", problem=problem)
        self.storage.remove("datasets", dataset_id)

    def _set_down(
        self, dataset_id: str, state: str, *, admitted: Admitted | None = None, problem: dict[str, Any] | None = None
    ) -> None:
        """Write how a check ended; a database that does not take it now is asked again a few times."""
        for pause in (*WRITE_AGAIN_SECONDS, None):
            try:
                with self.database.session() as session:
                    row = session.get(Dataset, dataset_id)
                    if row is None:
                        return
                    row.state, row.error = state, problem
                    if admitted is not None:
                        describe(row, admitted.catalogue)
                        row.source, row.labels = CLEAN_FOLDER, admitted.labels
                        if admitted.tells(row.name):
                            row.name = free_name("Data set", set(session.scalars(select(Dataset.name))))
                    if state == "failed":  # without a digest the same folder can be sent again once it is mended
                        row.digest = None
                return
            except SQLAlchemyError as error:
                if pause is None:
                    raise
                log.warning("The end of a check was not written (%s); trying again", type(error).__name__)
                self._stopping.wait(pause)
