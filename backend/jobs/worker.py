"""One training as a process: ``python -m backend.jobs.worker JOB_DIR`` trains, appends events, leaves a result."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.jobs.events import EVENTS_FILE, EventWriter
from backend.jobs.process import ProcessIdentity
from backend.problems import as_problem, disk_full, explain, is_disk_full
from backend.storage import read_json, write_json
from wara.errors import InputError
from wara.waiting import wait_briefly

if TYPE_CHECKING:
    from wara.training.recipe import Recipe

ORDER_FILE = "job.json"
RESULT_FILE = "result.json"
RUN_FOLDER = "run"
BEAT_FILE = "beat"
# As `wara.training` writes them: named here once more, because importing that takes seconds.
RECIPE_FILE = f"{RUN_FOLDER}/recipe.json"
CHECKPOINT_FILE = f"{RUN_FOLDER}/checkpoint/state.pt"
ALREADY_RUNNING = 75
# Its own exit code, as a disk that is full to the brim takes no result either.
DISK_FULL = 73
BEAT_SECONDS = 2.0
# What torch says on a graphics card, and what its allocator says of the machine's own memory.
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")

log = logging.getLogger("backend.worker")


def work(folder: Path) -> int:
    """Do the training that ``folder/job.json`` orders; return the exit code.

    The result is written last and whole: a process that is gone without one was interrupted, or says by its exit code
    that there was no room for it.
    """
    try:
        return _work(folder)
    except OSError as error:
        if not is_disk_full(error):
            raise
        log.error("There is no room on the disk for what a job writes")
        return DISK_FULL


def _work(folder: Path) -> int:
    handle = _take(folder)
    if handle is None:
        log.error("Another process works on this job already")
        return ALREADY_RUNNING
    ProcessIdentity.of(os.getpid(), folder).note()
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    _show_life(folder / BEAT_FILE)
    events = EventWriter(folder / EVENTS_FILE)
    try:
        result: dict[str, Any] = {"state": _train(folder, read_json(folder / ORDER_FILE), events, asked)}
    except Exception as error:
        result = {"state": "failed", "error": _problem(error)}
    finally:
        with suppress(OSError):  # a full disk may refuse the last flush
            events.close()
    write_json(folder / RESULT_FILE, result)
    handle.close()
    return 1 if result["state"] == "failed" else 0


def _train(folder: Path, order: dict[str, Any], events: EventWriter, asked: threading.Event) -> str:
    """Train to the end, or to the step after which it was asked to stop; return which."""
    from wara.data.mapping import Mapping
    from wara.training.loop import Stopped
    from wara.training.run import train

    def emit(event: dict[str, Any]) -> None:
        events(event)
        # Within the training the loop itself stops, behind a step; before and after it there is nothing to keep.
        if asked.is_set() and (event["type"] == "phase" or event.get("phase") == "reading"):
            raise Stopped

    if not (folder / RECIPE_FILE).exists() and not (folder / CHECKPOINT_FILE).exists():
        # Killed before it wrote anything to go on from.
        shutil.rmtree(folder / RUN_FOLDER, ignore_errors=True)
    try:
        train(
            Path(order["data"]),
            folder / RUN_FOLDER,
            ordered_recipe(folder, order),
            labels=Path(order["labels"]) if order["labels"] else None,
            mapping=Mapping.from_dict(order["mapping"]) if order.get("mapping") else None,
            resume=bool(order["resume"]),
            on_event=emit,
            cache=Path(order["cache"]),
            decisions=Path(order["decisions"]) if order.get("decisions") else None,
            checked=Path(order["checked"]) if order.get("checked") else None,
            accumulate=int(order.get("accumulate", 1)),
            stop=asked.is_set,
        )
    except Stopped:
        return "stopped"
    return "succeeded"


def ordered_recipe(folder: Path, order: dict[str, Any]) -> Recipe:
    """Return what a job's order asks for; of one that goes on, what it began with: presets change between versions.

    Raises:
        InputError: an option that cannot be used.
    """
    from wara.inference import recipe_of
    from wara.training.recipe import Recipe

    if order["resume"] and (folder / RECIPE_FILE).is_file():
        device = order["recipe"].get("device", "auto")  # the one that is free now
        return replace(recipe_of(read_json(folder / RECIPE_FILE)), backbone=order["backbone"], device=device)
    return Recipe.from_preset(order["preset"], method=order["method"], backbone=order["backbone"], **order["recipe"])


def _show_life(file: Path) -> None:
    """Touch a file every now and then, from a thread: a process that hangs as a whole does so no more."""

    def beat() -> None:
        while True:
            with suppress(OSError):
                file.touch()
            rest.wait(BEAT_SECONDS)

    rest = threading.Event()
    threading.Thread(target=beat, name="beat", daemon=True).start()


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
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY):
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
    wait_briefly()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return work(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
