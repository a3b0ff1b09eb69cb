"""The page Classify: several new images at once, each with label and probabilities, or why it was unreadable."""

from __future__ import annotations

import csv
import io
from typing import Any
from urllib.parse import quote

import gradio as gr

from app.client import Backend, BackendProblem
from app.components import format as words
from app.components import forms
from app.components.events import listen
from app.components.explanation import render_why
from app.components.html import alert, bar, empty, escape, icon, next_step, page_head, panel
from app.components.job import backbone_name

WITH_ADAPTER = ("wara", "tiny-wara", "lora")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
NONE_YET = '<p class="hint" data-state="none">No model yet.</p>'
DROP = f"""
<section class="card upload" aria-label="Images to classify">
  <div class="zone" data-part="zone">
    {icon("image")}
    <h2>Images to classify</h2>
    <p>Drop images here or choose them; several at once is fine. They are not kept on the server.</p>
    <div class="zone-buttons">
      <label class="button button-primary">{icon("upload")}<span>Choose images</span>
        <input class="sr-only" type="file" multiple data-part="images" id="classify-images"></label>
    </div>
  </div>
  <div class="meter" data-part="meter">
    <progress max="1" value="0" aria-label="Classifying"></progress>
    <div class="meter-line"><span data-part="text" role="status"></span></div>
    <p class="meter-alert" data-part="alert" role="alert"></p>
  </div>
</section>
"""


def build(backend: Backend) -> dict[str, Any]:
    """Lay the page out and wire it."""
    panel(page_head("Classify", "Let a trained model look at images that it has never seen."))
    with gr.Row(elem_classes="columns"):
        with gr.Column(elem_classes="side"):
            picker = panel(elem_id="classify-model", wire="studio.form(element, trigger, {changed: 'changed'})")
            drop = panel(DROP, elem_id="classify-drop", wire="studio.classify(element, trigger, 'classified')")
            demo = panel(elem_id="classify-demo", wire="studio.demoImages(element)")
        with gr.Column(elem_classes="main"):
            results = panel(elem_id="classify-results", wire="studio.localPreviews(element); studio.explain(element)")
    outputs = [picker, results, demo]

    async def show() -> tuple[Any, ...]:
        try:
            models = await backend.models()
            known = await backend.demo()
        except BackendProblem as problem:
            return alert(problem.sentence), gr.skip(), ""
        if not models:
            sentence = "A model comes out of every finished training."
            first = empty("Train a model first", sentence, page="train", action="Go to Train", mark="train")
            return NONE_YET, first, ""
        return render_picker(models), gr.skip(), render_demo(models, known)

    async def classified(event: gr.EventData) -> str:
        data = dict(event._data or {})
        models = {model["id"]: model for model in await backend.models()}
        return render_results(data.get("items") or [], data.get("classes") or [], models.get(data.get("model_id")))

    async def changed() -> str:
        return render_waiting()

    listen(drop.classified, classified, None, [results])
    listen(picker.changed, changed, None, [results])
    return {"show": show, "inputs": [], "outputs": outputs, "first": render_waiting}


def render_waiting() -> str:
    """What stands in the place of results before there are any."""
    return empty("No results yet", "Choose one or more images. Each gets a label and its probabilities.")


def render_picker(models: list[dict[str, Any]]) -> str:
    """The list of models to classify with, newest first."""
    return (
        '<form class="card order" novalidate>'
        + forms.select(
            "model",
            "Model",
            [(model["id"], model_words(model)) for model in models],
            hint="The newest stands first. AUROC is its test result: 1 is perfect, 0.5 is chance.",
        )
        + "</form>"
    )


def render_demo(models: list[dict[str, Any]], demo: dict[str, Any]) -> str:
    """Images of the demo to classify, for whoever has none; only where a model knows its classes."""
    if not any(set(model.get("classes") or []) == set(demo["classes"]) for model in models):
        return ""
    addresses = escape(" ".join(image["url"] for image in demo["images"]))
    number = words.plural(len(demo["images"]), "drawn image")
    return (
        '<section class="card" aria-label="Images of the demo"><div class="demo">'
        f'<p class="hint" id="classify-demo-hint">{number} for a model of the demo, which it has never seen.</p>'
        f'<button type="button" class="button button-quiet" data-demo="{addresses}"'
        f' aria-describedby="classify-demo-hint">{icon("image")}<span>Classify demo images</span></button>'
        "</div></section>"
    )


def model_words(model: dict[str, Any]) -> str:
    """A model in one line: name and test AUROC."""
    auroc = ((model.get("metrics") or {}).get("test") or {}).get("auroc") or {}
    return f"{model['name']} · AUROC {words.score(auroc.get('value'))}"


def render_results(items: list[dict[str, Any]], classes: list[str], model: dict[str, Any] | None) -> str:
    """Every image with its label and bars, then what could not be read, and the table to keep."""
    read = [item for item in items if not item.get("error")]
    unread = len(items) - len(read)
    head = f"{words.plural(len(read), 'image')} classified"
    if unread:
        head += f", {words.count(unread)} could not be read"
    why = model["id"] if model and model["method"] in WITH_ADAPTER else None
    rows = "".join(_render_item(place, item, classes, why) for place, item in enumerate(items))
    with_model = f"with {escape(model['name'])} ({escape(backbone_name(model))})" if model else ""
    untrained = ""
    if model and not model.get("pretrained", True):
        untrained = alert(
            "This model was trained from random weights, to try the steps. Its answers mean nothing.", kind="warning"
        )
    return (
        f'<section data-state="ready"><div class="title-row"><div role="status"><h2 class="big">{head}</h2>'
        f'<p class="facts">{with_model}</p></div>'
        f'<a class="button button-quiet" download="classification.csv" href="{csv_address(items, classes)}">'
        f'{icon("download")}<span>Download CSV</span></a></div>{untrained}<ul class="results">{rows}</ul>'
        '<p class="hint">A model always answers with one of its own classes, even for an image that shows something '
        "else; a warning marks images unlike those it learned from, and misses some. Probabilities are corrected on "
        "your validation images where those were enough, and learned from your images alone.</p>"
        f"{_next_step(model)}</section>"
    )


def _next_step(model: dict[str, Any] | None) -> str:
    if not model or model["method"] not in WITH_ADAPTER:
        return ""
    wish = f"analyse-choice:model={model['id']}"
    return next_step("See at which scale of detail this model works.", "See what it learned", "analyse", wish)


def _render_item(place: int, item: dict[str, Any], classes: list[str], explained_by: str | None) -> str:
    """An image with its answer; ``explained_by`` is the model that can say why, if any."""
    name = escape(item["file"])
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


def csv_address(items: list[dict[str, Any]], classes: list[str]) -> str:
    """The results as a CSV inside a ``data:`` address, so that nothing is kept for the download."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file", "label", *(f"probability {cls}" for cls in classes), "set", "warning", "error"])
    for item in items:
        chances = item.get("probabilities") or {}
        numbers = ["" if chances.get(cls) is None else f"{chances[cls]:.6f}" for cls in classes]
        held = {"set": " | ".join(item.get("classes") or [])}
        texts = [_as_text((item | held).get(key) or "") for key in ("file", "label", "set", "warning", "error")]
        writer.writerow([*texts[:2], *numbers, *texts[2:]])
    return "data:text/csv;charset=utf-8," + quote(text.getvalue(), safe="")


def _as_text(cell: str) -> str:
    """A cell that a spreadsheet would run as a formula gets an apostrophe before it, and so stays text."""
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell
