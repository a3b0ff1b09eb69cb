"""The watch over the jobs: found again or resumed after a restart, started in their turn, ended on request."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from backend.db import Database, Job
from backend.devices import Device
from backend.importing import drop_unlisted_models
from backend.intake import Intake
from backend.jobs import memory
from backend.jobs.endings import End, Endings
from backend.jobs.events import EVENTS_FILE, EventLog
from backend.jobs.launch import Launcher
from backend.jobs.process import WORKER, JobProcess, ProcessIdentity
from backend.jobs.queue import Queue, choose
from backend.jobs.transitions import Transitions
from backend.jobs.worker import ALREADY_RUNNING, BEAT_FILE
from backend.problems import RequestRefused, as_problem, disk_full, is_disk_full, unexpected
from backend.settings import MEGABYTE, Settings
from backend.storage import Storage
from wara.errors import InputError

BUSY_SECONDS = 0.2
IDLE_SECONDS = 5.0
MAX_EVENT_LOGS = 256
REPEATED_TROUBLE_SECONDS = 60.0
# How old a sign of life in the database may be, and how long a job that filled the disk stays away from it at least.
BEAT_SECONDS = 10.0
ROOM_SECONDS = 30.0
# More than a start asks for, so that a job does not come and go with every small file.
ROOM_BYTES = 64 * MEGABYTE

log = logging.getLogger("backend.jobs")


@dataclass
class _Watched:
    """A process that is being watched, with what was seen of it; times are of the monotonic clock."""

    process: JobProcess
    oom_kills: int = field(default_factory=memory.oom_kills)
    beat_ns: int = 0
    beat_seen: float = field(default_factory=time.monotonic)
    beat_noted: float = 0.0
    deadline: float | None = None
    cancelling: bool = False
    silent_minutes: int | None = None
    pids: set[int] = field(default_factory=set)


class Supervisor:
    """Starts, watches and ends jobs in a thread of its own; the database says what is to be done.

    Args:
        settings: times of grace and numbers of attempts.
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
        self._devices = devices
        self.queue = Queue(database)
        self._transitions = Transitions(database)
        self._endings = Endings(settings, storage, self._transitions)
        self._launcher = Launcher(settings, database, storage, intake, command)
        self._running: dict[str, _Watched] = {}
        self._filled_disk: dict[str, float] = {}
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
        try:
            drop_unlisted_models(self._database, self._storage)
        except (OSError, OperationalError) as error:
            unexpected(error)
        self._thread = threading.Thread(target=self._loop, name="job-supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Jobs go on and the next start finds them; or, where they cannot, they keep what they have."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        if self._running and not self._settings.jobs_outlive_server:
            self._end_all()
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
        if self._transitions.ask_to_cancel(job_id):
            self._endings.discard(job_id)  # one that waits to be resumed has a run folder already
        self._wake.set()

    def pause(self, job_id: str) -> None:
        """Keep a job from starting, or have it finish its step, keep what it has learned and free its device.

        Raises:
            RequestRefused: 404, or 409 when it has ended already.
        """
        self._transitions.ask_to_pause(job_id)
        self._wake.set()

    def resume(self, job_id: str) -> None:
        """Let a paused job go on from where it was, as soon as there is a device.

        Raises:
            RequestRefused: 404, 409 when it is not paused, 429 when its owner has no more room in the queue, or 507
                while the disk is still full.
        """
        self._storage.require_space()
        self._transitions.ask_to_resume(job_id, self._settings.waiting_per_person)
        self._wake.set()

    def delete(self, job_id: str) -> None:
        """Delete an ended job and its folder; its model stays.

        Raises:
            RequestRefused: 404, or 409 while it waits or runs.
        """
        self._transitions.delete(job_id)
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
                self._release_held()
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
            rows = self._transitions.in_state("running")
        except OperationalError as error:
            self._note_trouble("queue", error)
            return
        whole = True
        for job in rows:
            if job.id in self._running or job.id in self._endings.owed:
                continue
            try:
                self._match(job)
            except OperationalError as error:
                whole = False
                self._note_trouble(job.id, error)
            except Exception as error:
                self._end(job.id, unexpected(error))
        self._reconciled = whole

    def _match(self, job: Job) -> None:
        identity = self._identity(job)
        if identity is not None and (identity.is_alive() or memory.processes_of(identity)):
            log.info("Job %s runs on as process %d", job.id, identity.pid)
            self._running[job.id] = _Watched(JobProcess(identity))
            self._transitions.note_found(job.id, identity.pid, identity.started)
        else:
            self._endings.conclude(job.id, End())

    def _identity(self, job: Job) -> ProcessIdentity | None:
        folder = self._folder(job.id)
        if job.pid is not None and job.pid_started is not None:
            return ProcessIdentity(job.pid, job.pid_started, folder)
        # The server was stopped between starting the process and noting its number; the worker noted it itself, or is
        # about to.
        return ProcessIdentity.noted_in(folder) or ProcessIdentity.seen_with(folder)

    def _watch(self) -> None:
        for job_id, (state, problem) in list(self._endings.owed.items()):
            self._end(job_id, problem, state)
        if not self._running:
            return
        asked = {job.id: job for job in self._transitions.in_state("running")}
        for job_id, watched in list(self._running.items()):
            try:
                self._look(job_id, watched, asked.get(job_id))
            except Exception as error:
                self._note_trouble(job_id, error)

    def _look(self, job_id: str, watched: _Watched, job: Job | None) -> None:
        if watched.process.has_ended():
            if not self._is_free(job_id, watched):
                return
            self._conclude(job_id, watched)
            # Only now: a job that could not be concluded is concluded at a later beat.
            del self._running[job_id]
            self._troubles.pop(job_id, None)
            self._wake.set()
        elif job is None:
            return
        elif job.cancel_requested:
            self._press(watched, self._settings.cancel_grace_seconds, cancelling=True)
        elif job.pause_requested:
            self._press(watched, self._settings.pause_grace_seconds)
        else:
            self._feel(job_id, watched)

    def _conclude(self, job_id: str, watched: _Watched) -> None:
        code = watched.process.exit_code
        if code == ALREADY_RUNNING:
            # A process that an earlier server started does the work; this one was in vain.
            found = ProcessIdentity.noted_in(self._folder(job_id))
            if found is not None and found.is_alive():
                self._transitions.note_found(job_id, found.pid, found.started)
                self._reconciled = False
                return
        killed = code is not None and code < 0 and memory.oom_kills() > watched.oom_kills
        self._endings.conclude(job_id, End(code, watched.silent_minutes, killed))
        if (job := self._transitions.get(job_id)) is not None and job.paused_for == "disk-full":
            self._filled_disk[job_id] = time.monotonic()

    def _is_free(self, job_id: str, watched: _Watched) -> bool:
        """Tell whether all that a job held is free again; what is left of its processes is ended."""
        left = memory.processes_of(watched.process.identity)
        watched.pids |= {process.pid for process in left}
        for process in left:
            with memory.gone_is_fine():
                process.kill()
        held = memory.held_on_gpu(watched.pids | {watched.process.identity.pid})
        if left or held:
            trouble = f"{len(left)} processes and {held:,.0f} MiB of the graphics card are not free yet"
            self._note_trouble(f"{job_id} memory", RuntimeError(trouble))
        return not left and not held

    def _press(self, watched: _Watched, grace: float, *, cancelling: bool = False) -> None:
        """Ask a process to end, and end it when it does not; cancelling has less patience than the pause before it."""
        moment = time.monotonic()
        if watched.deadline is None or cancelling > watched.cancelling:
            watched.deadline, watched.cancelling = moment + grace, cancelling
            watched.process.terminate()
        elif moment >= watched.deadline:
            watched.process.kill()

    def _feel(self, job_id: str, watched: _Watched) -> None:
        """Note a process's signs of life, and replace one that has given none for too long.

        By the monotonic clock, which stands still while a machine sleeps.
        """
        moment = time.monotonic()
        try:
            beat = (self._folder(job_id) / BEAT_FILE).stat().st_mtime_ns
        except FileNotFoundError:
            beat = 0
        if beat != watched.beat_ns:
            watched.beat_ns, watched.beat_seen = beat, moment
            if moment - watched.beat_noted >= BEAT_SECONDS:
                watched.beat_noted = moment
                self._transitions.note_beat(job_id, datetime.fromtimestamp(beat / 1e9, UTC))
        elif moment - watched.beat_seen >= self._settings.silent_seconds:
            watched.silent_minutes = max(1, round((moment - watched.beat_seen) / 60))
            watched.process.kill()

    def _release_held(self) -> None:
        """Let jobs go on that wait for room on the disk, once there is some."""
        held = [job for job in self._transitions.in_state("paused") if job.paused_for == "disk-full"]
        for job in held:
            if time.monotonic() - self._filled_disk.get(job.id, -ROOM_SECONDS) < ROOM_SECONDS:
                continue
            try:
                self._storage.require_space(ROOM_BYTES)
            except RequestRefused:
                return
            self._filled_disk.pop(job.id, None)
            self._transitions.release(job.id, "room")

    def _start_queued(self) -> None:
        queued = self.queue.waiting()
        if not queued:
            return
        running = self._transitions.in_state("running")
        for job, device in choose(queued, running, self._devices(), self._settings.running_per_person):
            try:
                self._storage.require_space()
                self._launcher.clear(job.id)
                taken = self._transitions.take(job, device.spec)
            except InputError as error:
                self._transitions.hold(job.id, "disk-full", {}, as_problem(error))
                continue
            except OSError as error:
                self._give_up_start(job.id, error)
                continue
            except Exception:
                self._reconciled = False  # the row may or may not say "running" now
                raise
            if taken:
                self._start(job, device)

    def _start(self, job: Job, device: Device) -> None:
        try:
            process = self._launcher.start(job, device)
        except Exception as error:
            self._give_up_start(job.id, error)
            return
        self._running[job.id] = _Watched(process)
        try:
            self._transitions.note_process(job.id, process.identity.pid, process.identity.started)
        except OperationalError as error:  # it runs and is watched; after a restart its own note finds it
            self._note_trouble(job.id, error)
        log.info("Job %s runs on %s as process %d", job.id, device.spec, process.identity.pid)

    def _give_up_start(self, job_id: str, error: Exception) -> None:
        """End a job that cannot be started; one for whose first files there is no room waits for that."""
        if is_disk_full(error):
            self._reconciled = False  # should the database have no room for this either
            self._transitions.hold(job_id, "disk-full", {}, as_problem(disk_full()))
            self._filled_disk[job_id] = time.monotonic()
        else:
            self._end(job_id, as_problem(error) if isinstance(error, InputError) else unexpected(error))

    def _end(self, job_id: str, error: dict[str, object] | None, state: str = "failed") -> None:
        trouble = self._endings.end(job_id, state, error)
        if trouble is not None:
            self._note_trouble(job_id, trouble)
        self._wake.set()

    def _end_all(self) -> None:
        """Have every job finish its step and keep what it has, for as long as there is time."""
        for watched in self._running.values():
            watched.process.terminate()
        deadline = time.monotonic() + self._settings.stop_grace_seconds
        while self._running and time.monotonic() < deadline + BUSY_SECONDS * 10:
            if time.monotonic() >= deadline:
                for watched in self._running.values():
                    watched.process.kill()
            self._watch()  # what cannot be set down now is matched at the next start
            time.sleep(BUSY_SECONDS / 4)
