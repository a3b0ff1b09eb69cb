"""What the end of a job's process means: a model, a pause, another try with less memory, or a failure."""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError

from backend.db import Job, Model
from backend.jobs import memory
from backend.jobs.sentences import died, gave_up, how_it_ended, out_of_memory
from backend.jobs.transitions import Transitions
from backend.jobs.worker import CHECKPOINT_FILE, DISK_FULL, ORDER_FILE, RECIPE_FILE, RESULT_FILE, RUN_FOLDER
from backend.problems import as_problem, disk_full, unexpected
from backend.settings import Settings
from backend.storage import Storage, read_json

log = logging.getLogger("backend.jobs")


@dataclass(frozen=True)
class End:
    """How a process ended, as far as its server saw.

    Attributes:
        exit_code: None when the process was not this server's child.
        silent_minutes: for how long it had given no sign of life when it was ended for that.
        out_of_memory: whether the system ended processes for want of memory while it ran.
    """

    exit_code: int | None = None
    silent_minutes: int | None = None
    out_of_memory: bool = False


class Endings:
    """Sets down how jobs go on or end.

    Args:
        settings: how often a job is tried.
        storage: where job folders and models are.
        transitions: changes the rows.
    """

    def __init__(self, settings: Settings, storage: Storage, transitions: Transitions) -> None:
        self._settings, self._storage, self._transitions = settings, storage, transitions
        # How jobs ended whose rows could not be written yet, on a full disk for instance: written at a later beat.
        self.owed: dict[str, tuple[str, dict[str, Any] | None]] = {}

    def conclude(self, job_id: str, end: End) -> None:
        """Set down what the end of a running job's process means.

        Raises:
            OperationalError: the database did not take it; nothing is changed, and it can be done again.
        """
        job = self._transitions.get(job_id)
        if job is None or job.state != "running":
            return
        try:
            self._conclude(job, self._result(job_id), end)
        except OperationalError:
            raise  # a locked or full database says nothing about the job
        except Exception as error:
            self.end(job_id, "failed", unexpected(error))

    def _conclude(self, job: Job, result: dict[str, Any] | None, end: End) -> None:
        state = None if result is None else result["state"]
        error = None if result is None else result.get("error")
        code = (error or {}).get("code")
        if state == "succeeded":
            self._keep_model(job)
        elif job.cancel_requested:
            self.end(job.id, "cancelled", None, {"free_mb": memory.free_mb()})
        elif code == "disk-full" or end.exit_code == DISK_FULL:
            self._transitions.hold(job.id, "disk-full", {}, error or as_problem(disk_full()))
        elif code == "out-of-memory" or (state is None and end.out_of_memory):
            self._halve(job)
        elif state == "failed":
            self.end(job.id, "failed", error)
        elif job.pause_requested:
            self._transitions.hold(job.id, "person", {"free_mb": memory.free_mb()}, None)
        elif state == "stopped":
            self._transitions.requeue(job.id, "stopped", {}, attempts=1)
        else:
            self.interrupted(job, end)

    def interrupted(self, job: Job, end: End) -> None:
        """Let a job go on whose process was ended from outside, unless it does so again and again."""
        if end.exit_code is not None and end.exit_code >= 0:
            self.end(job.id, "failed", died(end.exit_code))
            return
        attempts = 1 if self._got_further(job.id) else job.attempts
        if attempts >= self._settings.worker_attempts:
            self.end(job.id, "failed", gave_up(attempts, end.exit_code))
        elif end.silent_minutes is not None:
            self._transitions.requeue(job.id, "silent", {"minutes": end.silent_minutes}, attempts=attempts)
        else:
            killed = f"its process was {how_it_ended(end.exit_code)}"
            seen = "its process is gone" if end.exit_code is None else killed
            self._transitions.requeue(job.id, "interrupted", {"seen": seen}, attempts=attempts)

    def end(
        self, job_id: str, state: str, error: dict[str, Any] | None, facts: dict[str, Any] | None = None
    ) -> Exception | None:
        """End a job; return why that could not be written, which is then owed."""
        # What a training leaves behind half done is of no use to anyone and may be large.
        self.discard(job_id)
        try:
            self._transitions.end(job_id, state, error, facts or {})
        except Exception as trouble:
            self.owed[job_id] = (state, error)
            return trouble
        self.owed.pop(job_id, None)
        log.info("Job %s %s", job_id, state)
        return None

    def discard(self, job_id: str) -> None:
        """Delete what a job has learned so far."""
        shutil.rmtree(self._folder(job_id) / RUN_FOLDER, ignore_errors=True)

    def has_result(self, job_id: str) -> bool:
        """Tell whether a job's process left its result."""
        return (self._folder(job_id) / RESULT_FILE).exists()

    def _folder(self, job_id: str) -> Path:
        return self._storage.folder("jobs", job_id)

    def _result(self, job_id: str) -> dict[str, Any] | None:
        try:
            result: dict[str, Any] = read_json(self._folder(job_id) / RESULT_FILE)
        except FileNotFoundError:
            return None
        return result

    def _halve(self, job: Job) -> None:
        """Let a job go on with half as many images at once, in twice as many rounds a step."""
        from wara.training.recipe import Recipe

        recipe = Recipe.from_preset(job.preset, method=job.method, backbone=job.backbone_spec, **job.recipe)
        parts = self._parts(job)
        before, after = math.ceil(recipe.batch_size / parts), math.ceil(recipe.batch_size / (2 * parts))
        if before <= 1:
            self.end(job.id, "failed", out_of_memory())
            return
        facts = {"before": before, "after": after, "parts": math.ceil(recipe.batch_size / after)}
        self._transitions.requeue(job.id, "out-of-memory", facts, accumulate=2 * job.accumulate, attempts=1)

    def _parts(self, job: Job) -> int:
        """Return the parts that a job's batches were computed in: more than it was told where the network is wide."""
        try:
            return max(job.accumulate, int(read_json(self._folder(job.id) / RECIPE_FILE)["accumulate"]))
        except (OSError, ValueError, KeyError, TypeError):  # the memory ran out before that was written
            return job.accumulate

    def _got_further(self, job_id: str) -> bool:
        """Tell whether a job's process kept something before it was gone: such a job is not given up."""
        folder = self._folder(job_id)
        try:
            kept = (folder / CHECKPOINT_FILE).stat().st_mtime_ns
            return kept > (folder / ORDER_FILE).stat().st_mtime_ns
        except FileNotFoundError:
            return False

    def _keep_model(self, job: Job) -> None:
        # The model's id is the job's: whatever step a stopped server did not reach is simply done again.
        run, kept = self._folder(job.id) / RUN_FOLDER, self._storage.folder("models", job.id)
        if run.is_dir():
            self._storage.move(run, kept)
        recipe, metrics = read_json(kept / "recipe.json"), read_json(kept / "metrics.json")
        model = Model(
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
        self._transitions.end(job.id, "succeeded", None, {}, model)
        log.info("Job %s succeeded", job.id)
