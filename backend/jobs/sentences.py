"""What happened to a job, in plain words, and the problems that a job can end with."""

from __future__ import annotations

import signal
from typing import Any

from backend.db import Happening
from backend.problems import as_problem
from wara.errors import InputError

_WORDS = {
    "queued": "Put into the queue",
    "started": "Started on {device}",
    "resumed": "Goes on, on {device}",
    "found": "The server was started again and found it running",
    "interrupted": "It was interrupted ({seen}); what it had learned until then was kept, and it goes on from there",
    "stopped": "It was asked to end, finished its step, kept what it had learned and goes on when it can",
    "silent": "It gave no sign of life for {minutes} min, so its process was ended; it goes on from what was kept",
    "out-of-memory": "The memory ran out with {before} images at once. It goes on with {after} at once and {parts} "
    "rounds a step, which trains the same",
    "pause-asked": "Asked to pause",
    "cancel-asked": "Asked to stop",
    "paused-person": "Paused; what it has learned so far is kept",
    "paused-disk-full": "Paused because the disk is full; what it has learned so far is kept, and it goes on by itself "
    "once there is room",
    "released": "Put into the queue again",
    "room": "There is room on the disk again, so it is in the queue again",
    "succeeded": "Done; the model is kept",
    "failed": "It could not be finished",
    "cancelled": "Stopped",
}


def in_words(happening: Happening) -> str:
    """Return a happening as a sentence without its full stop."""
    facts = happening.facts
    shown = {"seen": "no reason known", **facts, "device": _device(facts.get("device", "cpu"))}
    sentence = _WORDS[happening.code].format(**shown)
    if "free_mb" in facts and happening.code in ("cancelled", "paused-person"):
        free = f"{facts['free_mb'] / 1024:,.1f} GB of memory are free"
        sentence += f". Its processes are gone; {free}"
    return sentence


def _device(spec: str) -> str:
    kind, _, number = spec.partition(":")
    if kind == "cuda":
        return f"graphics card {int(number or 0) + 1}" if number.isdigit() or not number else spec
    return {"cpu": "the processor", "mps": "Apple's graphics"}.get(kind, spec)


def how_it_ended(exit_code: int | None) -> str | None:
    """Return how a process without a result ended, where that is known."""
    if exit_code is None:
        return None
    return f"ended by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"


def died(exit_code: int | None) -> dict[str, Any]:
    """Return the problem of a process that ended by itself and left no result."""
    return as_problem(
        InputError(
            "The training process ended without a result",
            seen=how_it_ended(exit_code),
            remedy="Look at the job's log.txt in the data folder, and start a new training.",
            code="worker-died",
        ),
        status=500,
    )


def gave_up(attempts: int, exit_code: int | None) -> dict[str, Any]:
    """Return the problem of a job that was interrupted too often."""
    seen = how_it_ended(exit_code)
    return as_problem(
        InputError(
            "The training was interrupted again and again, and got no further in between",
            seen=f"{attempts} starts" + (f", {seen}" if seen else ""),
            remedy="Most often the memory ran out: choose a smaller batch size or backbone, and start it again. "
            "The job's log.txt in the data folder says more.",
            code="worker-died",
        ),
        status=500,
    )


def out_of_memory() -> dict[str, Any]:
    """Return the problem of a job for which not even a single image fits."""
    return as_problem(
        InputError(
            "The training needs more memory than the device has, even with one image at once",
            remedy="Choose a smaller backbone or a smaller image size, and start it again.",
            code="out-of-memory",
        )
    )
