"""What a training will take on this machine, in words: minutes for each effort, and memory."""

from __future__ import annotations

from typing import Any

from app.components import format as words
from app.components.html import alert, escape

MEASURING = (
    '<section class="card estimate" data-state="measuring"><h3>On this machine</h3>'
    '<p role="status">Trying a few steps to see how long this takes …</p></section>'
)


def render_estimate(found: dict[str, Any]) -> str:
    """The time of each effort as a range, and whether the memory is enough.

    Args:
        found: the answer of ``POST /estimates``.
    """
    rows = "".join(
        f"<div><dt>{escape(words.PRESETS.get(one['preset'], (one['preset'],))[0])}</dt>"
        f"<dd>{escape(span(one['seconds_low'], one['seconds_high']))}</dd></div>"
        for one in found["presets"]
    )
    steps = words.plural(found["steps_measured"], "step")
    note = f"Measured on {steps} just now. The shorter time is for a training that stops early, once it gets no better."
    return (
        '<section class="card estimate" data-state="measured"><h3>On this machine</h3>'
        f'<dl class="times">{rows}</dl>{_memory(found)}<p class="hint">{note}</p></section>'
    )


def render_unknown(sentence: str) -> str:
    """Why the time is not known; the training can be started all the same."""
    return (
        '<section class="card estimate" data-state="unknown"><h3>On this machine</h3>'
        f'<p class="hint">{escape(sentence)}</p></section>'
    )


def span(low: float, high: float) -> str:
    """Two times as a range in the unit of the longer one: ``2 to 5 min``; one time where they look the same."""
    least, most = words.duration(low), words.duration(high)
    if least == most:
        return f"about {most}"
    number, _, unit = most.partition(" ")
    if unit == "min" and least.endswith(" min"):
        return f"{least.removesuffix(' min')} to {most}"
    if unit == "s" and least.endswith(" s"):
        return f"{least.removesuffix(' s')} to {number} s"
    return f"{least} to {most}"


def _memory(found: dict[str, Any]) -> str:
    if found.get("memory_mb") is None:
        return ""
    need, free = words.size(found["memory_mb"]), words.size(found.get("available_mb"))
    kind = "graphics memory" if found.get("device") == "cuda" else "memory"
    if found.get("fits") is False:
        sentence = (
            f"It needs about {need} of {kind}, and {free} are free. Choose fewer images at a time (under Advanced)."
        )
        return alert(sentence, kind="warning", title="It may not fit.")
    return f"<p>It needs about {need} of {kind}; {free} are free.</p>"
