"""What a person can do with a training that has not ended, and what happened to it, as HTML."""

from __future__ import annotations

from typing import Any

from app.components import format as words
from app.components.html import alert, button, escape

STOP = "Stop this training? What it has learned so far is not kept as a model."


def render_controls(job: dict[str, Any]) -> str:
    """Buttons to pause, go on, start next and stop; none once it has ended."""
    pieces = []
    if job.get("movable") and (job.get("position") or 1) > 1:
        pieces.append(button("Start next", "first", mark="up", id=job["id"]))
    if job["state"] in ("queued", "running"):
        pieces.append(button("Pause", "pause", mark="pause", id=job["id"]))
    if job["state"] == "paused":
        pieces.append(button("Go on", "resume", look="primary", mark="play", id=job["id"]))
    if job["state"] in ("queued", "running", "paused"):
        pieces.append(
            button("Cancel", "cancel", mark="stop", id=job["id"], confirm=STOP, confirm_label="Stop it")
        )  # fmt: skip
    return "".join(pieces)


def waiting_words(job: dict[str, Any]) -> str:
    """Where in the queue a training stands, and when it starts where that is known."""
    place = job.get("position")
    if place is None or place == 1:
        text = "Next in the queue: waits for a free device"
    else:
        text = f"Place {words.count(place)} in the queue"
    if job.get("starts_in") is not None:
        text += f", starts in about {words.duration(job['starts_in'])}"
    return text


def render_pause(job: dict[str, Any]) -> str:
    """Why a training is paused, and what makes it go on."""
    if job["state"] != "paused":
        return ""
    if job.get("pause_reason") == "disk-full":
        remedy = (job.get("error") or {}).get("remedy") or "Free some space."
        return alert(
            f"What it has learned so far is kept, and it goes on by itself once there is room. {remedy}",
            title="Paused: the disk is full.", kind="warning",
        )  # fmt: skip
    return alert("What it has learned so far is kept. It uses no memory and no processor now.", kind="info")


def render_story(job: dict[str, Any]) -> str:
    """What happened to a training, the newest last; folded away while all went as usual."""
    happenings = job.get("happenings") or []
    if len(happenings) < 2:
        return ""
    rows = "".join(
        f"<li><time datetime=\"{escape(each['at'])}\">{escape(words.moment(each['at']))}</time> "
        f"<span>{escape(each['text'])}.</span></li>"
        for each in happenings
    )
    usual = {"queued", "started", "succeeded", "failed", "cancel-asked", "cancelled"}
    opened = "" if all(each["code"] in usual for each in happenings) else " open"
    fold = f'<details class="fold story" data-fold="{escape(job["id"])}"{opened}>'
    return f"{fold}<summary>What happened</summary><ol>{rows}</ol></details>"
