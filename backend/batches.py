"""Batches: many images classified by one model, a few at a time, with rows that outlive the connection and the server.

A browser sends its files in small requests: each is classified, its rows are kept, its images are gone. A zip, or a
data set that is here, is worked through by a thread. Either way what was done stays done.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from backend.accounts.access import require
from backend.acting import acting, owner_id
from backend.answering import Answering
from backend.batch_record import OPEN_STATES, RECORD_FILE, ZIP_FILE, BatchRecord, Order
from backend.db import Dataset, Model
from backend.db.models import new_id, now
from backend.incoming import StoredFile
from backend.intake import Intake
from backend.names import safe_relative
from backend.problems import RequestRefused, not_found, problem_of, unexpected
from backend.serving import PredictorCache
from wara import __version__
from wara.answer_table import Row
from wara.data.items import OF_ONE_FILE
from wara.data.sources import Source, open_source
from wara.errors import InputError
from wara.imaging.deidentify import safely_named
from wara.training import outputs

KEPT = timedelta(days=7)
SWEEP_SECONDS = 3600.0
MAX_FILES = 200_000
# Of a zip or a data set at once: few enough that progress is seen and others get at the model in between.
AT_ONCE = 16
_ID = re.compile(r"[0-9a-f]{12}")

log = logging.getLogger("backend.batches")

Content = tuple[str, bytes | InputError]


class Batches:
    """All batches of a data folder, and the thread that works through zips and data sets."""

    def __init__(self, intake: Intake, predictors: PredictorCache, answering: Answering) -> None:
        self._database, self._storage = intake.database, intake.storage
        self._intake, self._predictors, self._answering = intake, predictors, answering
        self._records: dict[str, BatchRecord] = {}
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._worker: threading.Thread | None = None

    def start(self) -> None:
        """Go on with what a stopped server left undone."""
        self._stopping.clear()
        self._worker = threading.Thread(target=self._keep_working, name="batches", daemon=True)
        self._worker.start()

    def stop(self) -> None:
        """End after the images in hand; the next start goes on."""
        self._stopping.set()
        self._waiting.put(None)
        if self._worker is not None:
            self._worker.join()

    def begin_files(self, model: Model, announced: list[tuple[str, int]]) -> BatchRecord:
        """Begin a batch of files that will be sent, given by name and size in bytes.

        Raises:
            InputError: no files, too many, or a name that cannot be stored safely.
        """
        if not announced:
            raise _nothing()
        if len(announced) > MAX_FILES:
            raise InputError(
                "These are more files than one batch takes", seen=f"{len(announced):,}",
                remedy=f"Choose at most {MAX_FILES:,} at once.", code="batch-too-large",
            )  # fmt: skip
        named = [(safe_relative(name), size) for name, size in announced]
        return self._begin(model, "files", len(named), announced=named)

    def begin_zip(self, model: Model, files: list[StoredFile]) -> BatchRecord:
        """Begin a batch of a zip's images; the zip is looked over now and deleted when the batch ends.

        Raises:
            InputError: no zip, or one that cannot be used.
        """
        if len(files) != 1 or not files[0].name.lower().endswith(".zip"):
            raise InputError(
                "A batch is begun with one zip", seen=f"{len(files)} files",
                remedy="Send one .zip; to send files, announce their names and sizes first.", code="one-zip",
            )  # fmt: skip
        path = files[0].path.rename(files[0].path.with_name(ZIP_FILE))
        with open_source(path) as source:
            total = len(source)
        if not total:
            raise _nothing()
        return self._begin(model, "zip", total, archive=path)

    def begin_dataset(self, model: Model, dataset_id: str) -> BatchRecord:
        """Begin a batch of a data set's images.

        Raises:
            RequestRefused: 404, or 409 while the data set is not ready.
        """
        with self._database.session() as session:
            dataset: Dataset = require(session, "dataset", dataset_id)
        names = [name for name, _ in self._files_of(dataset)]
        return self._begin(model, "dataset", len(names), dataset_id=dataset_id, names=_names_digest(names))

    def get(self, batch_id: str) -> BatchRecord:
        """Return a batch of whoever asks.

        Raises:
            RequestRefused: 404, also when it is somebody else's.
        """
        record = self._find(batch_id)
        who = acting()
        if not who.is_admin and record.order.owner_id != who.user_id:
            raise not_found("batch", batch_id)
        return record

    def _find(self, batch_id: str) -> BatchRecord:
        found = self._records.get(batch_id)
        if found is not None:
            return found
        folder = self._storage.folder("batches", batch_id)
        if not _ID.fullmatch(batch_id) or not (folder / RECORD_FILE).is_file():
            raise not_found("batch", batch_id)
        with self._storage.lock(batch_id):
            if batch_id not in self._records:
                try:
                    self._records[batch_id] = BatchRecord(folder)
                except FileNotFoundError:  # deleted while this waited
                    raise not_found("batch", batch_id) from None
            return self._records[batch_id]

    def all(self) -> list[BatchRecord]:
        """Return every batch of whoever asks, the newest first."""
        found = []
        for folder in (self._storage.root / "batches").iterdir():
            with suppress(RequestRefused):  # not theirs, deleted at this moment, or not begun to its end
                found.append(self.get(folder.name))
        return sorted(found, key=lambda record: record.order.created, reverse=True)

    def places(self, batch_id: str, announced: list[tuple[str, int]]) -> list[tuple[int, bool] | None]:
        """Return for each file its number in the batch and whether it is done; None for one that is none of it."""
        record = self.get(batch_id)
        with self._storage.lock(batch_id):
            numbers = record.places([(_as_stored(name), size) for name, size in announced])
        return [None if number is None else (number, number in record.tally.done) for number in numbers]

    def take(self, batch_id: str, files: list[StoredFile]) -> list[Row]:
        """Classify files that were announced and keep their rows; those that are done already are passed over.

        Raises:
            RequestRefused: 404; 409 when the batch has ended or takes no files; 422 for a file that was not announced.
        """
        record = self.get(batch_id)
        with self._storage.lock(batch_id):
            if record.order.state != "receiving":
                raise RequestRefused(
                    409, "This batch takes no files any more", seen=record.order.state,
                    remedy="Begin another one.", code="batch-not-receiving",
                )  # fmt: skip
            numbers = record.places([(file.name, file.size) for file in files])
            if None in numbers:
                raise RequestRefused(
                    422, "A file was not announced when this batch began",
                    seen=f"file {numbers.index(None) + 1} of {len(files)} in this request",
                    remedy="Begin another batch that names it, with its size in bytes.", code="file-not-announced",
                )  # fmt: skip
            due = [
                (number, file)
                for number, file in zip(numbers, files, strict=True)
                if number is not None and number not in record.tally.done
            ]
            rows = self._classify(record, [number for number, _ in due], (_stored(file) for _, file in due))
            if len(record.tally.done) >= record.order.total:
                record.set("done")
        return rows

    def cancel(self, batch_id: str) -> BatchRecord:
        """End a batch; its rows stay. One that has ended is left as it is."""
        record = self.get(batch_id)
        with self._storage.lock(batch_id):
            if record.order.state in OPEN_STATES:
                record.set("cancelled")
        return record

    def delete(self, batch_id: str) -> None:
        """Delete a batch with its rows."""
        record = self.get(batch_id)
        with self._storage.lock(batch_id):
            record.order.state = "cancelled"  # for the thread that may hold it
            self._records.pop(batch_id, None)
            self._storage.remove("batches", batch_id)

    def sweep(self) -> None:
        """Delete batches on which nothing was written for some days."""
        for record in self.all():
            with suppress(RequestRefused):  # deleted at this moment
                if record.changed < now() - KEPT:
                    self.delete(record.order.id)

    def _begin(
        self, model: Model, kind: str, total: int, *, announced: Iterable[tuple[str, int]] = (),
        archive: Path | None = None, dataset_id: str | None = None, names: str | None = None,
    ) -> BatchRecord:  # fmt: skip
        self._storage.require_space()
        recipe = outputs.read_recipe(self._storage.folder("models", model.id))
        order = Order(
            id=new_id(), model_id=model.id, model_name=model.name, version=__version__, classes=list(model.classes),
            rule=str(recipe.get("patient_rule", "mean")), kind=kind, total=total, created=now().isoformat(),
            state="receiving" if kind == "files" else "running", dataset_id=dataset_id, names=names,
            owner_id=owner_id(),
        )  # fmt: skip
        folder = self._storage.folder("batches", order.id)
        record = BatchRecord.begin(folder, order, announced)
        if archive is not None:
            self._storage.move(archive, folder / ZIP_FILE)
        self._records[order.id] = record
        if kind != "files":
            self._waiting.put(order.id)
        return record

    def _classify(self, record: BatchRecord, numbers: list[int], images: Iterator[Content],
                  patients: list[str | None] | None = None) -> list[Row]:  # fmt: skip
        """Answer for images and keep the rows. The caller holds the lock."""
        if not numbers:
            return []
        order = record.order
        with self._database.session() as session:
            model: Model = require(session, "model", order.model_id)
        run = self._storage.folder("models", model.id)
        predictor = self._predictors.get(model.id, run, model.backbone_spec)
        if not record.same_threshold(predictor.threshold):
            raise RequestRefused(
                409, "The model's operating point was changed while this batch was under way",
                remedy="Begin another batch, so that all its images are judged by one rule.", code="model-changed",
            )  # fmt: skip
        found = list(self._answering.answer_each(predictor, itertools.starmap(safely_named, images)))
        known = patients or [None] * len(numbers)
        rows = [
            Row.of(prediction, order.classes, number, patient)
            for prediction, number, patient in zip(found, numbers, known, strict=True)
        ]
        record.append(rows)
        return rows

    def _keep_working(self) -> None:
        self._safely(self.sweep)
        self._safely(self._take_up)
        while not self._stopping.is_set():
            try:
                batch_id = self._waiting.get(timeout=SWEEP_SECONDS)
            except queue.Empty:
                self._safely(self.sweep)
                continue
            if batch_id is not None:
                self._safely(functools.partial(self._work, batch_id))

    def _safely(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:
            unexpected(error)  # whatever it is, the thread must not end here

    def _take_up(self) -> None:
        for record in reversed(self.all()):
            if record.order.state == "running":
                self._waiting.put(record.order.id)

    def _work(self, batch_id: str) -> None:
        """Work through a zip or a data set, from where it was left."""
        try:
            record = self.get(batch_id)
        except RequestRefused:
            return  # deleted while it waited
        if record.order.state != "running":
            return
        try:
            path, files = self._source_of(record)
            with open_source(path) as source:
                if files is None:
                    files = [(name, None) for name in source.names()]
                self._go_on(record, source, files)
        except Exception as error:
            problem = problem_of(error)
            log.info("A batch ended early: %s", problem["code"])
            with self._storage.lock(batch_id), suppress(OSError, SQLAlchemyError):
                if record.order.state == "running":
                    record.set("failed", problem)

    def _source_of(self, record: BatchRecord) -> tuple[Path, list[tuple[str, str | None]] | None]:
        if record.order.dataset_id is None:
            return record.folder / ZIP_FILE, None
        with self._database.session() as session:
            dataset = session.get(Dataset, record.order.dataset_id)
        if dataset is None:
            raise not_found("data set", record.order.dataset_id)
        files = self._files_of(dataset)
        if _names_digest([name for name, _ in files]) != record.order.names:
            raise RequestRefused(
                409, "The data set was changed while its images were classified",
                remedy="Begin another batch with it.", code="dataset-changed",
            )  # fmt: skip
        return self._intake.source(dataset), files

    def _files_of(self, dataset: Dataset) -> list[tuple[str, str | None]]:
        """Return a data set's files with their patients; a file of several frames counts once."""
        patients: dict[str, str | None] = {}
        for item in self._intake.catalogue(dataset).items:
            nobody = item.patient is not None and item.patient.startswith(OF_ONE_FILE)
            patients.setdefault(item.path, None if nobody else item.patient)
        return list(patients.items())

    def _go_on(self, record: BatchRecord, source: Source, files: list[tuple[str, str | None]]) -> None:
        due = [number for number in range(len(files)) if number not in record.tally.done]
        for start in range(0, len(due), AT_ONCE):
            numbers = due[start : start + AT_ONCE]
            with self._storage.lock(record.order.id):
                if self._stopping.is_set() or record.order.state != "running":
                    return
                images = (_content(source, files[number][0]) for number in numbers)
                self._classify(record, numbers, images, [files[number][1] for number in numbers])
        with self._storage.lock(record.order.id):
            if record.order.state == "running":
                record.set("done")


def _as_stored(name: str) -> str:
    try:
        return safe_relative(name)
    except RequestRefused:
        return name  # no batch can have it


def _stored(file: StoredFile) -> Content:
    return file.name, file.path.read_bytes()


def _content(source: Source, name: str) -> Content:
    try:
        return name, source.read(name)
    except InputError as error:
        return name, error


def _names_digest(names: list[str]) -> str:
    return hashlib.blake2b("\0".join(names).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _nothing() -> InputError:
    return InputError("There are no images to classify", remedy="Choose one or more images.", code="empty-upload")
