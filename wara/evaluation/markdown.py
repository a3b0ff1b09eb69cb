"""Pieces of Markdown for the model card: numbers with intervals, tables, and text that cannot be taken for markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Fields = Mapping[str, Any]


def interval(entry: Fields) -> str:
    """Return a metric with its interval as text, e.g. ``0.963 [0.948, 0.976]``; a dash where it is not defined."""
    if entry.get("value") is None:
        return "\N{EN DASH}"
    value = f"{entry['value']:.3f}"
    if entry.get("low") is None or entry.get("high") is None:
        return f"{value} (no interval)"
    return f"{value} [{entry['low']:.3f}, {entry['high']:.3f}]"


_WIDEST = 9


def table(head: Sequence[object], rows: Sequence[Sequence[object]], *, turn: bool = False) -> str:
    """Return a table; with `turn`, one of more columns than a page takes is turned on its side where that helps."""
    if turn and len(head) > max(_WIDEST, len(rows) + 1):
        head, *rows = zip(head, *rows, strict=True)
    lines: list[Sequence[object]] = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def text(value: object) -> str:
    """Keep a value, such as a class's name, from being read as Markdown or HTML."""
    flat = " ".join(str(value).split())
    # An underscore inside a word is plain text in Markdown, and model names are full of them.
    return re.sub(r"([\\|<>*`\[\]#&~$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", flat)


def count(value: object) -> str:
    """Return a whole number with separators, a dash for anything else."""
    return f"{value:,}" if isinstance(value, int) else "\N{EN DASH}"


def percent(entry: Fields) -> str:
    """Return a share with its interval in percent, e.g. ``"91 % [88, 94]"``."""
    if entry.get("value") is None:
        return "\N{EN DASH}"
    value = f"{100 * entry['value']:.0f} %"
    if entry.get("low") is None or entry.get("high") is None:
        return f"{value} (no interval)"
    return f"{value} [{100 * entry['low']:.0f}, {100 * entry['high']:.0f}]"


def code(value: str) -> str:
    """Return a value in the type of code."""
    return "`" + value.replace("`", "") + "`"
