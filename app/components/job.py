"""A training as HTML: what it is doing, how far it is, its learning curves, and what came of it."""

from __future__ import annotations

import re
from typing import Any

from app.components import format as words
from app.components.charts import Line, is_number, line_chart
from app.components.html import alert, alerts, escape, icon, tile
from app.components.job_story import render_controls, render_pause, render_story, waiting_words

PHASES = (
    ("reading", "Reading the images"),
    ("preparing", "Preparing the network"),
    ("training", "Training"),
    ("testing", "Testing on unseen images"),
    ("analysing", "Looking at what it learned"),
)
ACTIVE = ("queued", "running")
# What the server says while it waits for the process, before its phase.
STOPPING = ("Stopping", "Pausing: it finishes its step first")
UNFINISHED = (*ACTIVE, "paused")


def phase_words(job: dict[str, Any]) -> str:
    """The phase in plain words; while it waits or has ended, that."""
    if job["state"] == "queued":
        return waiting_words(job)
    if job["state"] == "running":
        if job.get("message") in STOPPING:
            return str(job["message"])
        return dict(PHASES).get(str(job.get("phase")), str(job.get("message") or "Starting"))
    return words.STATES.get(job["state"], str(job["state"]))


def render_badge(job: dict[str, Any]) -> str:
    """The state as a word in a small frame; the frame's look repeats it, never replaces it."""
    state = job["state"]
    return f'<span class="badge badge-{escape(state)}">{escape(words.STATES.get(state, state))}</span>'


def render_job(job: dict[str, Any], model: dict[str, Any] | None = None) -> str:
    """Everything about one training, and of the model that came out of it."""
    backbone = backbone_name(job)
    facts = (
        f"{escape(words.method_name(job['method']))} on {escape(job.get('dataset_name') or 'a deleted data set')}"
        f" · {escape(backbone)} · {escape(words.PRESETS.get(job.get('preset') or '', (job.get('preset') or '',))[0])}"
    )
    parts = [
        f'<div class="title-row"><div><h2 class="big">{escape(job["name"])}</h2><p class="facts">{facts}</p></div>'
        f"<div class='title-side'>{render_badge(job)}{render_controls(job)}</div></div>",
        render_pause(job),
        _render_end(job),
        render_result(model),
        _render_progress(job),
        render_curves(job.get("history") or [], running=job["state"] in ACTIVE),
        alerts(list(dict.fromkeys(job.get("warnings") or []))),
        render_story(job),
    ]
    return (
        f'<section class="card job" data-job="{escape(job["id"])}" data-state="{escape(job["state"])}">'
        f"{''.join(parts)}</section>"
    )


def backbone_name(record: dict[str, Any]) -> str:
    """The backbone's short name; what tells files of one architecture apart is left out."""
    return re.split("[:@]", str(record.get("backbone") or ""))[0]


def render_result(model: dict[str, Any] | None) -> str:
    """What the test said, in four tiles; nothing while there is no model."""
    test = ((model or {}).get("metrics") or {}).get("test")
    if not model or not test:
        return ""
    auroc, balanced = test.get("auroc") or {}, test.get("balanced_accuracy") or {}
    tiles = [
        tile(words.score(auroc.get("value")), "test AUROC", _range(auroc)),
        tile(words.score(balanced.get("value")), "balanced accuracy", _range(balanced)),
        tile(words.count(model.get("trainable_parameters")), "trained parameters"),
        tile(words.duration(model.get("seconds")), "for everything"),
    ]
    hint = f"Measured once, on {words.plural(test.get('n_images'), 'test image')}; in brackets the 95 % intervals."
    if auroc.get("note"):
        hint += f" AUROC: {auroc['note']}"
    return f'<div class="tiles" id="train-result">{"".join(tiles)}</div><p class="hint">{escape(hint)}</p>'


def _range(metric: dict[str, Any]) -> str:
    if metric.get("low") is None or metric.get("high") is None:
        return "no interval"
    return f"[{words.score(metric['low'])}, {words.score(metric['high'])}]"


def _render_end(job: dict[str, Any]) -> str:
    if job["state"] == "failed":
        error = job.get("error") or {}
        sentence = error.get("detail") or error.get("title") or "The training ended early. The server's log says more."
        return alert(sentence, title="The training did not finish.")
    if job["state"] == "cancelled":
        return alert("This training was stopped. Start it again whenever you like.", kind="info")
    if job["state"] == "succeeded":
        model_id = escape(job.get("model_id") or "")
        return (
            f'<div class="next">{icon("check")}<p><strong>The model is ready.</strong> '
            "It was judged on images that it had never seen.</p>"
            f'<a class="button button-primary" href="#classify" data-wish="classify-model:model={model_id}">'
            "Classify images</a>"
            f'<a class="button button-quiet" href="#analyse" data-wish="analyse-choice:model={model_id}">'
            "See what it learned</a>"
            "</div>"
        )
    return ""


def _render_progress(job: dict[str, Any]) -> str:
    if job["state"] not in ACTIVE:
        return ""
    names = [name for name, _ in PHASES]
    at = names.index(job["phase"]) if job.get("phase") in names else -1
    steps = "".join(
        f'<li data-step="{"done" if place < at else "now" if place == at else "later"}"'
        f"{' aria-current=step' if place == at else ''}>{escape(title)}</li>"
        for place, (_, title) in enumerate(PHASES)
    )
    progress = job.get("progress") or {}
    fraction = progress.get("fraction")
    value = "" if fraction is None else f' value="{min(max(fraction, 0), 1):.4f}"'
    name = escape(phase_words(job))
    return (
        f'<ol class="steps">{steps}</ol>'
        f'<div class="meter" data-state="busy"><progress max="1"{value} aria-label="{name}"></progress>'
        f'<div class="meter-line"><span role="status">{_progress_words(job, progress)}</span></div></div>'
    )


def _progress_words(job: dict[str, Any], progress: dict[str, Any]) -> str:
    pieces = [f"<strong>{escape(phase_words(job))}</strong>"]
    if progress.get("total"):
        pieces.append(f"{words.count(progress.get('done'))} of {words.count(progress['total'])} images")
    if progress.get("seconds_left") is not None:
        pieces.append(f"about {words.duration(progress['seconds_left'])} left")
    if progress.get("images_per_second"):
        pieces.append(f"{progress['images_per_second']:.0f} images/s")
    return " · ".join(pieces)


def render_curves(history: list[dict[str, Any]], *, running: bool) -> str:
    """Loss and validation AUROC by pass through the data, with the last values as tiles."""
    if not history and not running:
        return ""
    if not history:
        return '<p class="hint curves-later">The learning curves appear after the first pass through the images.</p>'
    last = history[-1]
    epochs = last["epochs"]
    # A training that went astray has no number for its loss; the answer then holds null.
    losses = {key: [(row["epoch"], row.get(key)) for row in history] for key in ("train_loss", "val_loss")}
    highest = max((y for points in losses.values() for _, y in points if is_number(y)), default=1.0)
    scored = [(row["epoch"], row["val_auroc"]) for row in history if is_number(row.get("val_auroc"))]
    best = max((value for _, value in scored), default=None)
    loss = line_chart(
        "Loss",
        "lower is better",
        [
            Line("training", losses["train_loss"], "b"),
            Line("validation", losses["val_loss"], "a"),
        ],
        x_label="passes through the images (epochs)",
        x_max=epochs,
        y_range=(0.0, highest),
    )
    auroc = line_chart(
        "Validation AUROC",
        "1 is perfect, 0.5 is chance",
        [Line("validation", scored, "a")],
        x_label="passes through the images (epochs)",
        x_max=epochs,
        y_range=(min([0.9, *(value for _, value in scored)]), 1.0),
        ceiling=1.0,
    )
    tiles = [
        tile(f"{last['epoch']} of {epochs}", "passes done", "epochs"),
        tile(words.score(best), "best so far", "validation AUROC"),
        tile(words.score(last.get("val_loss")), "validation loss", "last pass"),
        tile(words.duration(last.get("seconds")), "for one pass"),
    ]
    return f'<div class="tiles">{"".join(tiles)}</div><div class="pair">{loss}{auroc}</div>'


def render_chip(jobs: list[dict[str, Any]]) -> str:
    """What the header says about the running training, as a link to it; nothing when none runs."""
    running = next((job for job in jobs if job["state"] == "running"), None)
    if running is None:
        return ""
    progress = running.get("progress") or {}
    share = progress.get("fraction")
    text = phase_words(running) if share is None else f"{phase_words(running)} {100 * share:.0f} %"
    return f'<a class="status-chip" href="#train"><i></i>{escape(text)}</a>'
