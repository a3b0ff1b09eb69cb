"""How long a training would take on this machine: measured once an order's kind, in a process of its own, and kept."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from backend.apart import NoAnswer, work_apart
from backend.problems import RequestRefused
from backend.settings import Settings

if TYPE_CHECKING:
    from wara.training.forecast import WarmUp
    from wara.training.recipe import Recipe

COMMAND = (sys.executable, "-m", "wara.training.estimate")
LIMIT_S = 100.0
_KEPT = 64
# What has no part in what a step costs.
_FREE = {
    "epochs", "patience", "preset", "seed", "learning_rate", "head_learning_rate", "weight_decay", "warmup", "clip",
    "label_smoothing", "class_balanced", "bootstrap", "fit", "projection_seed", "alpha",
    "operating_point", "coverage", "patient_rule",
}  # fmt: skip

log = logging.getLogger("backend.estimates")


class Estimator:
    """Measures trainings before they start, one at a time and never beside one that runs.

    Args:
        settings: the server's.
        running: gives the number of trainings that run now.
        command: what measures; reads an order on its standard input.
    """

    def __init__(self, settings: Settings, running: Callable[[], int], command: tuple[str, ...] = COMMAND) -> None:
        self._settings, self._running, self._command = settings, running, command
        self._lock = threading.Lock()
        self._known: OrderedDict[str, WarmUp] = OrderedDict()

    def warm_up(self, recipe: Recipe, num_classes: int) -> WarmUp:
        """Return what a few steps of this training take, measured now or earlier.

        Raises:
            InputError: what training would refuse, or too little memory.
            RequestRefused: 409 while a training runs, 503 when measuring fails.
        """
        fields = {key: value for key, value in dataclasses.asdict(recipe).items() if key not in _FREE}
        key = json.dumps([fields, num_classes], sort_keys=True)
        with self._lock:
            if key not in self._known:
                self._known[key] = self._measured(recipe, num_classes)
            self._known.move_to_end(key)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
            return self._known[key]

    def _measured(self, recipe: Recipe, num_classes: int) -> WarmUp:
        from wara.training.forecast import WarmUp

        if self._running():
            raise RequestRefused(
                409,
                "A training is running, so the time of another cannot be measured now",
                remedy="Wait until it ends, or start this one: it queues.",
                code="estimate-busy",
            )
        order = {"recipe": dataclasses.asdict(recipe), "num_classes": num_classes}
        try:
            found = work_apart(self._command, order, limit_s=LIMIT_S, offline=self._settings.offline)
        except NoAnswer as error:
            log.error("Measuring a training failed: %s\n%s", error.kind, error.said)
            raise RequestRefused(
                503,
                "The time of this training could not be measured",
                seen=error.kind,
                remedy="Start it all the same: it shows the time left while it runs.",
                code="estimate-failed",
            ) from error
        return WarmUp(**{**found["warm_up"], "step_s": tuple(found["warm_up"]["step_s"])})
