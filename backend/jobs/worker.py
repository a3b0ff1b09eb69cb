"""One training as a process: ``python -m backend.jobs.worker JOB_DIR`` trains, appends events, leaves a result."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from backend.jobs.events import EVENTS_FILE, EventWriter
from backend.jobs.process import ProcessIdentity
from backend.problems import as_problem, disk_full, explain, is_disk_full
from backend.storage import read_json, write_json
from wara.errors import InputError

ORDER_FILE = "job.json"
RESULT_FILE = "result.json"
RUN_FOLDER = "run"
ALREADY_RUNNING = 75

log = logging.getLogger("backend.worker")


def work(folder: Path) -> int:
    """Do the training that ``folder/job.json`` orders; return the exit code.

    The result is written last and whole: a process that is gone without one was interrupted.
    """
    handle = _take(folder)
    if handle is None:
        log.error("Another process works on this job already")
        return ALREADY_RUNNING
    ProcessIdentity.of(os.getpid(), folder).note()
    events = EventWriter(folder / EVENTS_FILE)
    try:
        _train(folder, read_json(folder / ORDER_FILE), events)
        result: dict[str, Any] = {"state": "succeeded"}
    except Exception as error:
        result = {"state": "failed", "error": _problem(error)}
    finally:
        events.close()
    write_json(folder / RESULT_FILE, result)
    handle.close()
    return 0 if result["state"] == "succeeded" else 1


def _train(folder: Path, order: dict[str, Any], events: EventWriter) -> None:
    from wara.data.mapping import Mapping
    from wara.training.recipe import Recipe
    from wara.training.run import train

    train(
        Path(order["data"]),
        folder / RUN_FOLDER,
        Recipe.from_preset(
            order["preset"],
            method=order["method"],
            backbone=order["backbone"],
            **order["recipe"],
        ),
        labels=Path(order["labels"]) if order["labels"] else None,
        mapping=Mapping.from_dict(order["mapping"]) if order.get("mapping") else None,
        resume=bool(order["resume"]),
        on_event=events,
        cache=Path(order["cache"]),
        decisions=Path(order["decisions"]) if order.get("decisions") else None,
        checked=Path(order["checked"]) if order.get("checked") else None,
    )


def _take(folder: Path) -> Any:
    """Lock the job folder for this process; None when another has it. Children do not inherit this kind of lock."""
    handle = (folder / "worker.lock").open("wb")
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows
        return handle
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle


def _problem(error: Exception) -> dict[str, Any]:
    if isinstance(error, InputError):
        return as_problem(error)
    if is_disk_full(error):
        return as_problem(disk_full())
    identifier = secrets.token_hex(4)
    log.error("Training failed (%s)\n%s", identifier, explain(error))
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return as_problem(
            InputError(
                "The training needs more memory than the device has",
                remedy="Choose a smaller batch size or a smaller backbone, and start it again.",
                code="out-of-memory",
            )
        )
    return as_problem(
        InputError(
            "The training met an error that it did not expect",
            seen=f"{type(error).__name__}, error id {identifier}",
            remedy="Try once more; if it comes again, report it with this id, which the job's log.txt explains.",
            code="training-crashed",
        ),
        status=500,
    )


def main() -> int:
    """Run the job folder named on the command line."""
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return work(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
