"""The queue: one slot a device, each job a process; found again or resumed after a restart, ended on request."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from backend.db import Database, Dataset, Job, Model
from backend.db.models import FINISHED_STATES, now
from backend.devices import Device
from backend.intake import Intake
from backend.jobs.events import EVENTS_FILE, EventLog
from backend.jobs.process import WORKER, JobProcess, ProcessIdentity
from backend.jobs.worker import ORDER_FILE, RESULT_FILE, RUN_FOLDER
from backend.problems import RequestRefused, as_problem, not_found, unexpected
from backend.settings import Settings
from backend.storage import Storage, read_json, write_json
from wara.errors import InputError

BUSY_SECONDS = 0.2
IDLE_SECONDS = 5.0
MAX_EVENT_LOGS = 256
REPEATED_TROUBLE_SECONDS = 60.0

log = logging.getLogger("backend.jobs")


class Supervisor:
    """Starts, watches and ends jobs in a thread of its own; the database says what is to be done.

    Args:
        settings: grace time and number of attempts.
        database: where jobs are rows.
        storage: where their folders are.
        intake: knows where a data set's images lie.
        devices: returns the devices; each takes one job at a time.
        command: the worker's command line, to which the job folder is added.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        intake: Intake,
        devices: Callable[[], Sequence[Device]],
        command: Sequence[str] = WORKER,
    ) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage
        self._intake = intake
        self._devices = devices
        self._command = command
        self._running: dict[str, JobProcess] = {}
        self._deadlines: dict[str, float] = {}
        # How jobs ended whose rows could not be written yet, on a full disk for instance: written at a later beat.
        self._owed: dict[str, tuple[str, dict[str, Any] | None]] = {}
        self._troubles: dict[str, float] = {}
        self._reconciled = False
        self._logs: dict[str, EventLog] = {}
        self._logs_lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Match the rows with the processes that are there, then begin."""
        self._stopping = False
        self._reconcile()  # raises nothing: whatever state the rows are in, the server must start
        self._thread = threading.Thread(target=self._loop, name="job-supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Jobs go on; the next start finds them."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        if self._running:
            log.info("%d training(s) go on without the server; start it again to watch them", len(self._running))

    def wake(self) -> None:
        """Look at the queue now."""
        self._wake.set()

    def counts(self) -> dict[str, int]:
        """Return how many jobs run and wait."""
        with self._database.session() as session:
            rows = session.execute(select(Job.state, func.count()).group_by(Job.state))
            found = {state: count for state, count in rows}  # noqa: C416 - says to mypy what the rows hold
        return {"running": found.get("running", 0), "queued": found.get("queued", 0)}

    def events(self, job_id: str) -> EventLog:
        """Return the events of a job."""
        with self._logs_lock:
            found = self._logs.pop(job_id, None) or EventLog(self._folder(job_id) / EVENTS_FILE)
            self._logs[job_id] = found  # the most recently used stands last
            while len(self._logs) > MAX_EVENT_LOGS:
                self._logs.pop(next(iter(self._logs)))
            return found

    def cancel(self, job_id: str) -> None:
        """Take a job out of the queue, or have its process group ended within seconds.

        Raises:
            RequestRefused: 404, or 409 when it has ended already.
        """
        with self._database.session() as session:
            if session.get(Job, job_id) is None:
                raise not_found("job", job_id)
            dequeued = update(Job).where(Job.id == job_id, Job.state == "queued")
            if session.execute(dequeued.values(state="cancelled", finished=now())).rowcount == 0:  # type: ignore[attr-defined]
                marked = update(Job).where(Job.id == job_id, Job.state == "running").values(cancel_requested=True)
                if session.execute(marked).rowcount == 0:  # type: ignore[attr-defined]
                    raise RequestRefused(
                        409,
                        "This training has already ended",
                        seen=session.get_one(Job, job_id).state,
                        remedy="There is nothing to cancel.",
                        code="job-ended",
                    )
            else:
                # One that waits to be resumed has a run folder already.
                shutil.rmtree(self._folder(job_id) / RUN_FOLDER, ignore_errors=True)
        self._wake.set()

    def delete(self, job_id: str) -> None:
        """Delete an ended job and its folder; its model stays.

        Raises:
            RequestRefused: 404, or 409 while it waits or runs.
        """
        with self._database.session() as session:
            job = session.get(Job, job_id)
            if job is None:
                raise not_found("job", job_id)
            if job.state not in FINISHED_STATES:
                raise RequestRefused(
                    409,
                    "This training has not ended",
                    seen=job.state,
                    remedy="Cancel it first, then delete it.",
                    code="job-not-ended",
                )
            session.delete(job)
        with self._logs_lock:
            self._logs.pop(job_id, None)
        self._storage.remove("jobs", job_id)

    def _folder(self, job_id: str) -> Path:
        return self._storage.folder("jobs", job_id)

    def _loop(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                if not self._reconciled:
                    self._reconcile()
                self._watch()
                self._start_queued()
            except Exception as error:
                # The loop must outlive whatever happens in it, or no job would ever be watched again.
                self._note_trouble("queue", error)
            self._wake.wait(BUSY_SECONDS if self._running else IDLE_SECONDS)

    def _note_trouble(self, what: str, error: Exception) -> None:
        """Log an error after which the next beat tries again; at five beats a second, not every time."""
        moment = time.monotonic()
        if moment - self._troubles.get(what, -REPEATED_TROUBLE_SECONDS) >= REPEATED_TROUBLE_SECONDS:
            self._troubles[what] = moment
            unexpected(error)

    def _reconcile(self) -> None:
        """Give every row that says "running" its process back, or its end; what fails is tried again by the loop."""
        self._reconciled = False
        try:
            with self._database.session() as session:
                rows = session.scalars(select(Job).where(Job.state == "running")).all()
        except OperationalError as error:
            self._note_trouble("queue", error)
            return
        whole = True
        for job in rows:
            if job.id in self._running or job.id in self._owed:
                continue
            try:
                self._match(job)
            except OperationalError as error:
                whole = False
                self._note_trouble(job.id, error)
            except Exception as error:
                self._end(job.id, "failed", unexpected(error))
        self._reconciled = whole

    def _match(self, job: Job) -> None:
        identity = self._identity(job)
        if identity is not None and identity.is_alive():
            log.info("Job %s runs on as process %d", job.id, identity.pid)
            self._running[job.id] = JobProcess(identity)
        elif job.cancel_requested or (self._folder(job.id) / RESULT_FILE).exists():
            self._conclude(job.id, None)
        elif job.attempts >= self._settings.worker_attempts:
            self._end(job.id, "failed", _gave_up(job.attempts))
        else:
            log.info("Job %s was interrupted and is resumed from its last checkpoint", job.id)
            self._set(job.id, state="queued", pid=None, pid_started=None)

    def _identity(self, job: Job) -> ProcessIdentity | None:
        folder = self._folder(job.id)
        if job.pid is not None and job.pid_started is not None:
            return ProcessIdentity(job.pid, job.pid_started, folder)
        # The server was stopped between starting the process and noting its number; the worker noted it itself.
        return ProcessIdentity.noted_in(folder)

    def _watch(self) -> None:
        for job_id, (state, problem) in list(self._owed.items()):
            self._end(job_id, state, problem)
        if not self._running:
            return
        with self._database.session() as session:
            cancelled = set(session.scalars(select(Job.id).where(Job.state == "running", Job.cancel_requested)))
        for job_id, process in list(self._running.items()):
            try:
                if process.has_ended():
                    self._conclude(job_id, process.exit_code)
                    # Only now: a job that could not be concluded is concluded at a later beat.
                    del self._running[job_id]
                    self._deadlines.pop(job_id, None)
                elif job_id in cancelled:
                    self._press(job_id, process)
            except Exception as error:
                self._note_trouble(job_id, error)

    def _press(self, job_id: str, process: JobProcess) -> None:
        deadline = self._deadlines.get(job_id)
        if deadline is None:
            self._deadlines[job_id] = time.monotonic() + self._settings.cancel_grace_seconds
            process.terminate()
        elif time.monotonic() >= deadline:
            process.kill()

    def _start_queued(self) -> None:
        with self._database.session() as session:
            queued = session.scalars(select(Job).where(Job.state == "queued").order_by(Job.created, Job.id)).all()
            busy = set(session.scalars(select(Job.device).where(Job.state == "running")))
        if not queued:
            return
        free = [device for device in self._devices() if device.spec not in busy]
        for job, device in zip(queued, free, strict=False):
            try:
                taken = self._take(job, device)
            except InputError as error:
                self._end(job.id, "failed", as_problem(error))
                continue
            except Exception:
                self._reconciled = False  # the row may or may not say "running" now
                raise
            try:
                if taken:
                    self._start(job, device)
            except Exception as error:
                self._end(job.id, "failed", as_problem(error) if isinstance(error, InputError) else unexpected(error))

    def _take(self, job: Job, device: Device) -> bool:
        """Mark a job as running, unless it was cancelled since it was listed."""
        self._storage.require_space()
        with self._database.session() as session:
            taken = session.execute(
                update(Job)
                .where(Job.id == job.id, Job.state == "queued")
                .values(
                    state="running",
                    device=device.spec,
                    started=job.started or now(),
                    attempts=job.attempts + 1,
                    pid=None,
                    pid_started=None,
                )
            )
        return bool(taken.rowcount)  # type: ignore[attr-defined]

    def _start(self, job: Job, device: Device) -> None:
        with self._database.session() as session:
            dataset = session.get(Dataset, job.dataset_id) if job.dataset_id else None
        if dataset is None:
            raise InputError(
                "The data set of this training is gone",
                seen=job.dataset_name,
                remedy="Upload it again and start a new training.",
                code="dataset-gone",
            )
        folder = self._folder(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT_FILE).unlink(missing_ok=True)
        write_json(folder / ORDER_FILE, self._order(job, dataset, device))
        process = JobProcess.start(folder, self._command, self._environment(device))
        self._running[job.id] = process
        try:
            self._set(job.id, pid=process.identity.pid, pid_started=process.identity.started)
        except OperationalError as error:  # it runs and is watched; after a restart its own note finds it
            self._note_trouble(job.id, error)
        log.info("Job %s runs on %s as process %d", job.id, device.spec, process.identity.pid)

    def _order(self, job: Job, dataset: Dataset, device: Device) -> dict[str, Any]:
        labels = self._intake.labels_file(dataset)
        mapping = self._intake.mapping(dataset)
        decisions = self._intake.decisions_file(dataset)
        return {
            "data": str(self._intake.source(dataset)),
            "labels": None if labels is None else str(labels),
            "mapping": None if mapping is None else mapping.to_dict(),
            "decisions": str(decisions) if decisions.exists() else None,
            # What was checked, and not what listing the cleaned files would give once more.
            "checked": str(self._intake.catalogue_file(dataset)),
            "cache": str(self._storage.folder("datasets", dataset.id) / "cache"),
            "preset": job.preset,
            "method": job.method,
            "backbone": job.backbone_spec,
            "recipe": {**job.recipe, "device": device.type},  # the slot decides
            "resume": job.attempts > 0,
        }

    def _environment(self, device: Device) -> dict[str, str]:
        environment = {**os.environ, "WARA_OFFLINE": str(self._settings.offline).lower()}
        if device.type == "cuda":  # the job sees its own device alone
            visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
            index = int(device.spec.partition(":")[2] or 0)
            environment["CUDA_VISIBLE_DEVICES"] = visible[index] if visible else str(index)
        return environment

    def _conclude(self, job_id: str, exit_code: int | None) -> None:
        """Set down how a job ended whose process is gone."""
        with self._database.session() as session:
            job = session.get(Job, job_id)
        if job is None or job.state != "running":
            return
        try:
            result = self._result(job_id)
            if result is not None and result["state"] == "succeeded":
                self._keep_model(job)
            elif job.cancel_requested:
                self._end(job_id, "cancelled", None)
            elif result is not None:
                self._end(job_id, "failed", result["error"])
            else:
                self._end(job_id, "failed", _died(exit_code))
        except OperationalError:
            raise  # a locked or full database says nothing about the job: it is tried again
        except Exception as error:
            self._end(job_id, "failed", unexpected(error))

    def _result(self, job_id: str) -> dict[str, Any] | None:
        try:
            result: dict[str, Any] = read_json(self._folder(job_id) / RESULT_FILE)
        except FileNotFoundError:
            return None
        return result

    def _keep_model(self, job: Job) -> None:
        # The model's id is the job's: whatever step a stopped server did not reach is simply done again.
        run, kept = self._folder(job.id) / RUN_FOLDER, self._storage.folder("models", job.id)
        if run.is_dir():
            self._storage.move(run, kept)
        recipe, metrics = read_json(kept / "recipe.json"), read_json(kept / "metrics.json")
        with self._database.session() as session:
            session.merge(
                Model(
                    id=job.id,
                    owner_id=job.owner_id,
                    name=job.name,
                    job_id=job.id,
                    dataset_id=job.dataset_id,
                    dataset_name=job.dataset_name,
                    method=job.method,
                    backbone=job.backbone,
                    backbone_spec=job.backbone_spec,
                    pretrained=bool(recipe["backbone"]["pretrained"]),
                    preset=job.preset,
                    classes=list(recipe["classes"]),
                    seed=recipe.get("seed"),
                    rank=recipe.get("rank"),
                    metrics=metrics,
                )
            )
        self._end(job.id, "succeeded", None)

    def _end(self, job_id: str, state: str, error: dict[str, Any] | None) -> None:
        # What a training leaves behind half done is of no use to anyone and may be large.
        shutil.rmtree(self._folder(job_id) / RUN_FOLDER, ignore_errors=True)
        try:
            self._set(job_id, state=state, error=error, finished=now(), pid=None, pid_started=None)
        except Exception as trouble:
            self._owed[job_id] = (state, error)
            self._note_trouble(job_id, trouble)
            return
        self._owed.pop(job_id, None)
        self._troubles.pop(job_id, None)
        log.info("Job %s %s", job_id, state)
        self._wake.set()

    def _set(self, job_id: str, **values: Any) -> None:
        with self._database.session() as session:
            session.execute(update(Job).where(Job.id == job_id).values(**values))


def _died(exit_code: int | None) -> dict[str, Any]:
    seen = None
    if exit_code is not None and exit_code < 0:
        seen = f"ended by {signal.Signals(-exit_code).name}"
    elif exit_code is not None:
        seen = f"exit code {exit_code}"
    return as_problem(
        InputError(
            "The training process ended without a result",
            seen=seen,
            remedy="Most often the memory ran out: choose a smaller batch size or backbone, and start it again.",
            code="worker-died",
        ),
        status=500,
    )


def _gave_up(attempts: int) -> dict[str, Any]:
    return as_problem(
        InputError(
            "The training was interrupted again and again",
            seen=f"{attempts} starts",
            remedy="Look at the job's log.txt in the data folder, and start a new training.",
            code="worker-died",
        ),
        status=500,
    )
