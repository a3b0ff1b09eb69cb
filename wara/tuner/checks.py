"""Checks of the values in a config: what was wrong, the value seen, what to use instead."""

from __future__ import annotations

import math
import re
from typing import Any

import pywt

from wara.tuner.errors import AdapterError


def require_count(name: str, value: Any, least: int, remedy: str) -> None:
    """Refuse what is no whole number of at least `least`."""
    _require(_is_whole(value) and value >= least, name, f"a whole number of {least} or more", value, remedy)


def require_number(name: str, value: Any, what: str, low: float, high: float, ends: str, remedy: str) -> None:
    """Refuse what is no finite number between two; `ends` is "[)" for an interval with its first end only."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    good = good and (low <= value if ends[0] == "[" else low < value)
    _require(good and (value <= high if ends[1] == "]" else value < high), name, what, value, remedy)


def require_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    _require(isinstance(value, bool), name, "True or False", value, "Use True or False.")


def require_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse what is none of a few names."""
    if value not in choices:
        raise AdapterError(f"Unknown {name} {value!r}. Use one of {', '.join(choices)}.")


def require_wavelet(value: Any) -> None:
    """Refuse what is no discrete wavelet of PyWavelets."""
    if value not in pywt.wavelist(kind="discrete"):
        raise AdapterError(
            f"Unknown wavelet {value!r}. Use a discrete wavelet that PyWavelets knows, e.g. 'haar', 'db2', 'sym4' "
            "or 'bior2.2'."
        )


def require_names(name: str, value: Any, pattern: bool = True, empty: bool = True) -> None:
    """Refuse what is no list of module names, nor (with `pattern`) a regular expression for them; None is left."""
    what = "a list of module names" + (" or a regular expression" if pattern else "")
    remedy = "Use e.g. ['qkv']." if pattern else "Use e.g. ['head']."
    if isinstance(value, list | tuple | set):
        good = all(isinstance(item, str) and item for item in value) and (empty or len(value) > 0)
    elif isinstance(value, str):
        good = pattern and bool(value) and _is_pattern(value)
    else:
        good = value is None
    _require(good, name, what, value, remedy)


def require_indices(name: str, value: Any) -> None:
    """Refuse what is no index of a block, nor a list of them; None is left."""
    indices = value if isinstance(value, list | tuple | range) else [value]
    good = value is None or (len(indices) > 0 and all(_is_whole(index) and index >= 0 for index in indices))
    _require(good, name, "an index of a block, or a list of them, counted from 0", value, "Use e.g. [0, 1].")


def require_grid(value: Any) -> None:
    """Refuse what is no pair of rows and columns; None is left."""
    good = value is None or (
        isinstance(value, list | tuple) and len(value) == 2 and all(_is_whole(side) and side >= 1 for side in value)
    )
    _require(good, "grid", "rows and columns, whole numbers of 1 or more", value, "Use e.g. (14, 14).")


def _require(good: bool, name: str, what: str, value: Any, remedy: str) -> None:
    if not good:
        raise AdapterError(f"{name} must be {what}, but it is {value!r}. {remedy}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_pattern(value: str) -> bool:
    try:
        re.compile(value)
    except re.error:
        return False
    return True
