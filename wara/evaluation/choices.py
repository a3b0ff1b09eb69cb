"""What a person can choose about a run's answers, checked without numpy, so that the server answers soon."""

from __future__ import annotations

import math

from wara.errors import InputError

DEFAULT = "youden"
PATIENT_RULES = ("mean", "worst")
SEPARATOR = " | "  # between the classes of a prediction set in tables


def percent_asked(share: float) -> str:
    """Return a share that a person asked for as it was asked for, not rounded: 0.975 is ``"97.5%"``."""
    return f"{100 * share:.10g}%"


def parse_criterion(text: str) -> tuple[str, float | None]:
    """Read ``"youden"``, ``"sensitivity=0.95"``, ``"specificity=0.9"`` or ``"cost=5"``.

    ``cost=5``: missing one positive weighs as much as five false alarms.

    Raises:
        InputError: anything else; code ``"operating-point"``.
    """
    name, equals, value = str(text).strip().lower().replace(">=", "=").partition("=")
    name = name.strip()
    try:
        target = float(value) if equals else None
    except ValueError:
        target = math.nan
    if name == "youden" and target is None:
        return name, None
    if name in ("sensitivity", "specificity") and target is not None and 0 < target <= 1:
        return name, target
    if name == "cost" and target is not None and 0 < target < math.inf:
        return name, target
    raise InputError(
        "The rule of the operating point cannot be used", seen=str(text)[:60],
        remedy="Use youden, sensitivity=0.95, specificity=0.9 (a share of at most 1), or cost=5 (a number above 0).",
        code="operating-point",
    )  # fmt: skip
