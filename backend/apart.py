"""Have a part of the library work in a process of its own: an order goes in as JSON, what came of it comes out."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from backend.jobs.process import ROOT
from wara.errors import InputError


class NoAnswer(Exception):
    """The process ended badly, or not in time, or said nothing that can be read.

    Attributes:
        kind: what happened, as the name of an error.
        said: what it wrote to its standard error; for the log alone.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.kind = type(error).__name__
        self.said = str(getattr(error, "stderr", "") or "")


def work_apart(command: Sequence[str], order: dict[str, Any], *, limit_s: float, offline: bool) -> dict[str, Any]:
    """Return what a command prints as JSON for an order on its standard input.

    Args:
        command: e.g. ``python -m wara.export``.
        order: JSON-able.
        limit_s: seconds after which it is ended.
        offline: whether the hub must not be asked for weights.

    Raises:
        InputError: the answer is a ``problem``: what the library refused, in its own words.
        NoAnswer: anything else went wrong.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "WARA_OFFLINE": str(offline).lower(), "PYTHONPATH": path}
    try:
        ended = subprocess.run(
            command, input=json.dumps(order), capture_output=True, text=True, timeout=limit_s, env=environment,
            check=True,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(ended.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise NoAnswer(error) from error
    if "problem" in found:
        problem = found["problem"]
        raise InputError(problem["what"], seen=problem["seen"], remedy=problem["remedy"], code=problem["code"])
    return found
