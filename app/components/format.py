"""Numbers and times in the words that a page uses, rounded to what they mean."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

METHODS = {
    "wara": ("WaRA", "Small trained layers with a learned weight for each scale of detail, which figures show."),
    "tiny-wara": ("Tiny-WaRA", "The same idea with a few hundred trained numbers. For very small data sets."),
    "lora": ("LoRA", "Small trained layers without scales of detail. At least as good in our study."),
    "linear-probe": ("Last layer only", "Trains only the final decision layer. Fast, a baseline."),
    "full": ("Whole network", "Trains every weight. Slow, needs more data and memory."),
}
METHOD_TERMS = {"linear-probe": "linear probe", "full": "full fine-tuning"}
PRESETS = {
    "quick": ("Quick", "5 passes, more for few images. To see whether it works."),
    "balanced": ("Balanced", "15 passes, more for few images. For most questions."),
    "thorough": ("Thorough", "40 passes, more for few images. For final figures."),
}
SIDES = {"train": "Training", "val": "Validation", "test": "Test", "all": "All"}
STATES = {
    "queued": "Waiting",
    "running": "Running",
    "paused": "Paused",
    "succeeded": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
}


def count(number: Any) -> str:
    """An integer with thousands separated: ``73812`` becomes ``73,812``; nothing becomes a dash."""
    return "–" if _undefined(number) else f"{round(number):,}"


def _undefined(number: Any) -> bool:
    """Whether there is no number to show: none at all, or one that is not finite."""
    return number is None or (isinstance(number, float) and not math.isfinite(number))


def plural(number: int | None, one: str, many: str | None = None) -> str:
    """``1 image``, ``2 images``."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """Seconds in the unit a person would use: ``45 s``, ``12 min``, ``1 h 5 min``."""
    if seconds is None or _undefined(seconds):
        return "–"
    if seconds < 59.5:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def size(megabytes: float | None) -> str:
    """Megabytes as MB or GB."""
    if megabytes is None or _undefined(megabytes):
        return "–"
    return f"{megabytes / 1024:,.1f} GB" if megabytes >= 1024 else f"{megabytes:,.0f} MB"


def score(value: float | None, digits: int = 3) -> str:
    """A share between 0 and 1, or a dash where it is not defined."""
    if value is None or _undefined(value):
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 1e4 else f"{value:.2e}"


def interval(metric: dict[str, Any] | None) -> str:
    """``0.963 [0.948, 0.976]``; without the interval where there is none."""
    if not metric or metric.get("value") is None:
        return "–"
    text = score(metric["value"])
    if metric.get("low") is not None and metric.get("high") is not None:
        text += f" [{score(metric['low'])}, {score(metric['high'])}]"
    return text


def percent(fraction: float | None) -> str:
    """A share as per cent; tiny and near-certain ones are not rounded to 0 or 100, an undefined one is a dash."""
    if fraction is None or _undefined(fraction):
        return "–"
    if 0 < fraction < 0.001:
        return "< 0.1 %"
    if 0.999 < fraction < 1:
        return "> 99.9 %"
    return f"{100 * fraction:.1f} %"


def moment(stamp: str | None) -> str:
    """An ISO 8601 time as ``23 Nov 2026, 14:56`` in the server's own time zone."""
    if not stamp:
        return "–"
    try:
        when = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return f"{when.astimezone():%d %b %Y, %H:%M}".lstrip("0")


def method_name(method: str) -> str:
    """The name that a page uses for a method; an unknown one stays as it is."""
    return METHODS[method][0] if method in METHODS else method


def side_name(side: str) -> str:
    """The name that a page uses for a side of the split."""
    return SIDES.get(side, side)
