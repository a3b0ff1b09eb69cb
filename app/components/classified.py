"""The answers of a batch as HTML: what they add up to, image by image, patient by patient, and earlier batches."""

from __future__ import annotations

from typing import Any

from app.client import browser_url
from app.components import format as words
from app.components.explanation import render_why
from app.components.html import alert, bar, button, escape, icon, next_step, table
from app.components.job import backbone_name

WITH_ADAPTER = ("wara", "tiny-wara", "lora")
OPEN_STATES = ("receiving", "running")
PAGE = 50
RULES = {
    "mean": "the mean of the probabilities of a patient's images",
    "worst": "the image of a patient that shows most of a finding",
}


def render_results(
    batch: dict[str, Any],
    rows: list[dict[str, Any]],
    model: dict[str, Any] | None,
    *,
    patients: dict[str, Any] | None = None,
    local: bool = True,
    moving: bool = False,
    step: int = 0,
) -> str:
    """A batch: its sums, its first images, and the tables to keep.

    Args:
        batch: as the API gives it.
        rows: its first answers.
        model: the model that answered; None where it has been deleted.
        patients: the first answers for patients, where some have several images.
        local: whether this browser holds the images, so that they can be shown and explained.
        moving: whether more answers are on their way.
        step: which of its askings this answers, so that the page knows when it has been shown.
    """
    why = model["id"] if model and local and not moving and model["method"] in WITH_ADAPTER else None
    shown = "".join(_render_item(row, batch["classes"], why) for row in rows)
    with_model = escape(batch["model_name"]) + (f" ({escape(backbone_name(model))})" if model else ", deleted since")
    return (
        f'<section data-state="{"busy" if moving else "ready"}" data-step="{step}"><div class="title-row">'
        f'<div role="status">'
        f'<h2 class="big">{head_of(batch)}</h2><p class="facts">with {with_model}</p></div>'
        f'<div class="meter-buttons">{_tables(batch)}</div></div>{_standing(batch, model, moving)}'
        f'{_sums(batch)}{_patients(batch, patients)}<ul class="results">{shown}</ul>{_more(batch, len(rows), moving)}'
        '<p class="hint">A model always answers with one of its own classes, even for an image that shows something '
        "else; a warning marks images unlike those it learned from, and misses some. Probabilities are corrected on "
        "your validation images where those were enough, and learned from your images alone. These answers stay on "
        f"the server until {escape(words.moment(batch['expires']))} or until you remove them; the images do not.</p>"
        f"{_next_step(model)}</section>"
    )


def head_of(batch: dict[str, Any]) -> str:
    """The batch in one line."""
    read = batch["done"] - batch["unreadable"]
    unread = f", {words.count(batch['unreadable'])} could not be read" if batch["unreadable"] else ""
    if batch["done"] < batch["total"]:
        return f"{words.count(batch['done'])} of {words.plural(batch['total'], 'image')} done{unread}"
    return f"{words.plural(read, 'image')} classified{unread}"


def _tables(batch: dict[str, Any]) -> str:
    def link(address: str, text: str) -> str:
        return f'<a class="button button-quiet" download href="{address}">{icon("download")}<span>{text}</span></a>'

    if not batch["done"]:
        return ""
    patients = link(browser_url("batches", batch["id"], "patients.csv"), "CSV by patient") if batch["several"] else ""
    return link(browser_url("batches", f"{batch['id']}.csv"), "Download CSV") + patients


def _standing(batch: dict[str, Any], model: dict[str, Any] | None, moving: bool) -> str:
    """What a person must know before the answers."""
    notes = ""
    if model and not model.get("pretrained", True):
        sentence = "This model was trained from random weights, to try the steps. Its answers mean nothing."
        notes += alert(sentence, kind="warning")
    if batch["state"] == "failed":
        notes += alert((batch["error"] or {}).get("detail", ""), title="It ended early.")
    elif batch["state"] == "cancelled":
        notes += alert("It was stopped. The answers so far are below.", kind="info")
    elif batch["state"] == "receiving" and not moving:
        sentence = "To go on, choose the same images or the same folder again. What is done is not sent again."
        notes += alert(sentence, kind="info", title="Not finished.")
    return notes


def _sums(batch: dict[str, Any]) -> str:
    """Images by class, warnings and reasons; one image needs none of it."""
    if batch["total"] < 2 or not batch["done"]:
        return ""
    rows = [(escape(name), words.count(number)) for name, number in batch["labels"].items()]
    if batch["warnings"]:
        rows.append(("Marked as unlike the training images", words.count(batch["warnings"])))
    counts = table(("Answer", "Images"), rows, caption="Images by answer", numeric=(1,))
    reasons = ""
    if batch["unreadable"]:
        why = [(escape(entry["reason"]), words.count(entry["count"])) for entry in batch["reasons"]]
        head = ("Could not be read, because", "Files")
        listed = table(head, why, caption="Files that could not be read", numeric=(1,))
        reasons = f'<div class="card" id="classify-unread">{listed}</div>'
    return f'<div class="card" id="classify-sums">{counts}</div>{reasons}'


def _patients(batch: dict[str, Any], patients: dict[str, Any] | None) -> str:
    if not patients or not patients["items"]:
        return ""
    rows = []
    for item in patients["items"]:
        share = words.percent(item["probabilities"].get(item["label"]))
        numbers = (words.count(item["images"]), share, words.count(item["warnings"]))
        rows.append((escape(item["patient"]), numbers[0], escape(item["label"]), *numbers[1:]))
    head = ("Patient, as a code", "Images", "Answer", "Probability", "Images with a warning")
    rest = patients["total"] - len(rows)
    more = f'<p class="hint">{words.count(rest)} more in the CSV.</p>' if rest > 0 else ""
    rule = RULES.get(patients["rule"], patients["rule"])
    listed = table(head, rows, caption="Answers by patient", numeric=(1, 3, 4))
    return (
        f'<details class="card fold" id="classify-patients"><summary>By patient ({words.count(patients["total"])})'
        f'</summary><p class="hint">By {escape(rule)}, as this model was tested.</p>{listed}{more}</details>'
    )


def _more(batch: dict[str, Any], shown: int, moving: bool) -> str:
    rest = batch["done"] - shown
    if rest <= 0 or moving:
        return ""
    label = f"Show {words.count(min(rest, PAGE))} more of {words.count(batch['done'])}"
    return f'<div class="more">{button(label, "more", shown=str(shown))}</div>'


def _next_step(model: dict[str, Any] | None) -> str:
    if not model or model["method"] not in WITH_ADAPTER:
        return ""
    wish = f"analyse-choice:model={model['id']}"
    return next_step("See at which scale of detail this model works.", "See what it learned", "analyse", wish)


def _render_item(item: dict[str, Any], classes: list[str], explained_by: str | None) -> str:
    """An image with its answer; ``explained_by`` is the model that can say why, if any."""
    name, place = escape(item["file"]), item["number"]
    suffix = item["file"].rpartition(".")[2].upper() if "." in item["file"] else "this format"
    frame = f'<div class="frame" data-format="{escape(suffix[:12])}"><img data-local="{place}" alt="{name}"></div>'
    if item.get("error"):
        reason = alert(item["error"], kind="warning", title="Could not be read.")
        return (
            '<li class="card result" data-state="unread"><div class="frame" data-state="none" data-format="File"></div>'
            f'<div><p class="file">{name}</p>{reason}</div></li>'
        )
    chances = item.get("probabilities") or {}
    # A model that went astray answers with no number; that is a dash beside an empty bar.
    bars = "".join(
        f'<div class="chance" data-on="{"yes" if cls == item["label"] else "no"}"><span>{escape(cls)}</span>'
        f"{bar(chances.get(cls) or 0.0, label=f'{cls}: {words.percent(chances.get(cls))}')}"
        f"<b>{words.percent(chances.get(cls))}</b></div>"
        for cls in sorted(classes, key=lambda cls: -(chances.get(cls) or 0.0))
    )
    why = render_why(place, item["file"], item["label"], explained_by) if explained_by and item["label"] else ""
    return (
        f'<li class="card result" data-state="read">{frame}<div><p class="file">{name}</p>'
        f'<h3>{escape(item["label"] or "–")}</h3><div class="chances">{bars}</div>{_doubts(item)}</div>{why}</li>'
    )


def _doubts(item: dict[str, Any]) -> str:
    """What speaks against one answer: an image unlike the others, or several classes that are possible."""
    possible = item.get("classes") or []
    several = f'<p class="hint">Cannot be ruled out: {escape(", ".join(possible))}.</p>' if len(possible) > 1 else ""
    return (alert(item["warning"], kind="warning") if item.get("warning") else "") + several


def render_earlier(batches: list[dict[str, Any]]) -> str:
    """The batches whose answers are still here, with a way back to each."""
    if not batches:
        return ""
    rows = []
    for batch in batches:
        name = f"{batch['model_name']}, {words.moment(batch['created'])}"
        opener = f'<button type="button" class="link" data-open="{escape(batch["id"])}">{escape(name)}</button>'
        remove = button(
            f"Remove {name}", "delete", look="icon", mark="trash", id=batch["id"], confirm_label="Remove",
            confirm="Remove these answers from the server? The CSV that you downloaded stays.",
        )  # fmt: skip
        rows.append((opener, head_of(batch), remove))
    head = ("Answers of", "Images", '<span class="sr-only">Remove</span>')
    number = words.plural(len(batches), "earlier answer", "earlier answers")
    listed = table(head, rows, caption="Earlier answers")
    return f'<details class="card fold" id="earlier"><summary>{number}</summary>{listed}</details>'
