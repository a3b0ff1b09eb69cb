"""All trainings as HTML, and which of them is shown in full."""

from __future__ import annotations

from typing import Any

from app.components import format as words
from app.components.html import button, empty, escape, table
from app.components.job import UNFINISHED, backbone_name, render_badge, render_job


def watched_of(jobs: list[dict[str, Any]], watching: str | None) -> str | None:
    """Return the training to show: the chosen one, else the one that runs, else the newest.

    So a training that runs is found again after a refresh and from another browser.
    """
    if any(job["id"] == watching for job in jobs):
        return watching
    running = next((job["id"] for job in jobs if job["state"] == "running"), None)
    return running or (jobs[0]["id"] if jobs else None)


def render_jobs(
    jobs: list[dict[str, Any]], watching: str | None, model: dict[str, Any] | None = None
) -> tuple[str, str]:
    """The watched training with its model, and the list of all."""
    if watching is None:
        sentence = "Once a training has started, its curves and the time left appear here."
        return empty("No training yet", sentence, mark="train"), ""
    watched = next(job for job in jobs if job["id"] == watching)
    return render_job(watched, model), render_list(jobs, watching)


def render_list(jobs: list[dict[str, Any]], watching: str) -> str:
    """Every training with its state; shown once there is more than one."""
    if len(jobs) < 2:
        return ""
    rows = []
    for job in jobs:
        name = (
            f'<button type="button" class="link" data-action="watch" data-id="{escape(job["id"])}"'
            f"{' aria-current=true' if job['id'] == watching else ''}>{escape(job['name'])}</button>"
        )
        remove, state = "", render_badge(job)
        if (job.get("position") or 0) > 0:
            state += f' <span class="hint">place&nbsp;{words.count(job["position"])}</span>'
        if job.get("movable") and (job.get("position") or 0) > 1:
            label = f"Move {job['name']} up"
            remove = button(label, "up", look="icon", mark="up", id=job["id"])
        if job["state"] not in UNFINISHED:
            question = f"Remove “{job['name']}” from this list? Its model, if there is one, stays."
            label = f"Remove {job['name']}"
            remove = button(
                label, "delete", look="icon", mark="trash", id=job["id"], confirm=question, confirm_label="Remove"
            )
        rows.append(
            (
                name,
                state,
                escape(words.method_name(job["method"])),
                escape(backbone_name(job)),
                escape(words.moment(job.get("created"))),
                remove,
            )
        )
    head = ("Training", "State", "Method", "Backbone", "Started", '<span class="sr-only">Move up or remove</span>')
    return f'<section class="card"><h2>All trainings</h2>{table(head, rows, caption="All trainings")}</section>'
