"""How a job's process is started: the folder it works in, its order, its environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.db import Database, Dataset, Job
from backend.devices import Device
from backend.intake import Intake
from backend.jobs.process import NOTE_FILE, JobProcess
from backend.jobs.worker import ORDER_FILE, RESULT_FILE
from backend.settings import Settings
from backend.storage import Storage, write_json
from wara.errors import InputError


class Launcher:
    """Starts workers.

    Args:
        settings: whether the hub may be asked.
        database: where data sets are rows.
        storage: where job folders are.
        intake: knows where a data set's images lie.
        command: the worker's command line, to which the job folder is added.
    """

    def __init__(
        self, settings: Settings, database: Database, storage: Storage, intake: Intake, command: Sequence[str]
    ) -> None:
        self._settings, self._database, self._storage = settings, database, storage
        self._intake, self._command = intake, command

    def clear(self, job_id: str) -> Path:
        """Make a waiting job's folder, and take away what its last process said; what it learned stays."""
        folder = self._storage.folder("jobs", job_id)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (RESULT_FILE, NOTE_FILE):
            (folder / name).unlink(missing_ok=True)
        return folder

    def start(self, job: Job, device: Device) -> JobProcess:
        """Start the worker of a job.

        Raises:
            InputError: its data set is gone.
        """
        with self._database.session() as session:
            dataset = session.get(Dataset, job.dataset_id) if job.dataset_id else None
        if dataset is None:
            raise InputError(
                "The data set of this training is gone",
                seen=job.dataset_name,
                remedy="Upload it again and start a new training.",
                code="dataset-gone",
            )
        folder = self._storage.folder("jobs", job.id)
        write_json(folder / ORDER_FILE, self._order(job, dataset, device))
        return JobProcess.start(folder, self._command, self._environment(device))

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
            "accumulate": job.accumulate,
        }

    def _environment(self, device: Device) -> dict[str, str]:
        environment = {**os.environ, "WARA_OFFLINE": str(self._settings.offline).lower()}
        if device.type == "cuda":  # the job sees its own device alone
            visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
            index = int(device.spec.partition(":")[2] or 0)
            environment["CUDA_VISIBLE_DEVICES"] = visible[index] if visible else str(index)
        return environment
