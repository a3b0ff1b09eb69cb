"""The page Classify: one image or a whole folder, each with label and probabilities, or why it was unreadable."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.client import Backend, BackendProblem
from app.components import format as words
from app.components import forms, sharing
from app.components.classified import OPEN_STATES, PAGE, render_earlier, render_results
from app.components.events import listen
from app.components.html import alert, empty, escape, icon, page_head, panel

MOST_SHOWN = 1000  # rows that the API gives at once; the CSV holds all
NONE_YET = '<p class="hint" data-state="none">No model yet.</p>'
DROP = f"""
<section class="card upload" aria-label="Images to classify">
  <div class="zone" data-part="zone">
    {icon("image")}
    <h2>Images to classify</h2>
    <p>One image, or a folder of thousands. Drop them here or choose them. They are not kept on the server.</p>
    <div class="zone-buttons">
      <label class="button button-primary">{icon("upload")}<span>Choose images</span>
        <input class="sr-only" type="file" multiple data-part="images" id="classify-images"></label>
      <label class="button button-quiet">{icon("folder")}<span>Choose a folder</span>
        <input class="sr-only" type="file" webkitdirectory data-part="folder" id="classify-folder"></label>
      <label class="button button-quiet">{icon("archive")}<span>Choose a zip</span>
        <input class="sr-only" type="file" accept=".zip" data-part="zip" id="classify-zip"></label>
    </div>
  </div>
  <div class="meter" data-part="meter">
    <progress max="1" value="0" aria-label="Classifying"></progress>
    <div class="meter-line"><span data-part="text" role="status"></span>
      <button type="button" class="button button-quiet button-small" data-part="stop">{icon("stop")}
        <span>Stop</span></button></div>
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
            demo = panel(elem_id="classify-demo", wire="studio.others(element)")
            here = panel(elem_id="classify-here", wire="studio.others(element)")
            earlier = panel(
                elem_id="classify-earlier", wire="studio.others(element); studio.actions(element, trigger, 'act')"
            )
        with gr.Column(elem_classes="main"):
            results = panel(
                elem_id="classify-results",
                wire="studio.localPreviews(element); studio.explain(element); studio.actions(element, trigger, 'act')",
            )
    shown = gr.State(None)  # the batch that is shown, how many of its rows, whether this browser holds its images
    outputs = [picker, results, demo, here, earlier]

    async def show() -> tuple[Any, ...]:
        try:
            models = await backend.models()
            known = await backend.demo()
            datasets = await backend.datasets()
            batches = await backend.batches()
            me = await backend.me()
        except BackendProblem as problem:
            return alert(problem.sentence), gr.skip(), "", "", ""
        if not models:
            sentence = "A model comes out of every finished training."
            first = sharing.render_no_model(me, "Train a model first", sentence, mark="train")
            return NONE_YET, first, "", "", render_earlier(batches)
        offered = render_demo(models, known)
        return render_picker(models), gr.skip(), offered, render_here(datasets), render_earlier(batches)

    async def view(now: dict[str, Any], *, moving: bool) -> str:
        batch = await backend.batch(now["id"])
        rows = await backend.batch_rows(now["id"], limit=now["limit"])
        models = {model["id"]: model for model in await backend.models()}
        patients = await backend.batch_patients(now["id"]) if batch["several"] and not moving else None
        moving = moving and batch["state"] in OPEN_STATES
        model = models.get(batch["model_id"])
        seen = {"local": now["local"], "moving": moving, "step": now["step"]}
        return render_results(batch, rows, model, patients=patients, **seen)

    async def classified(event: gr.EventData) -> tuple[Any, ...]:
        data = dict(event._data or {})
        local, step = bool(data.get("local")), int(data.get("step") or 0)
        now = {"id": str(data.get("id")), "limit": PAGE, "local": local, "step": step}
        over = bool(data.get("over"))
        page = await view(now, moving=not over)
        return page, now, render_earlier(await backend.batches()) if over else gr.skip()

    async def act(now: dict[str, Any] | None, event: gr.EventData) -> tuple[Any, ...]:
        data = dict(event._data or {})
        if data.get("action") == "more" and now:
            now = now | {"limit": min(MOST_SHOWN, int(data.get("shown") or 0) + PAGE)}
            return await view(now, moving=False), now, gr.skip()
        if data.get("action") != "delete":
            return gr.skip(), now, gr.skip()
        await backend.delete_batch(str(data.get("id")))
        left = render_earlier(await backend.batches())
        if now and now["id"] == data.get("id"):
            return render_waiting(), None, left
        return gr.skip(), now, left

    async def changed() -> tuple[Any, ...]:
        return render_waiting(), None

    listen(drop.classified, classified, None, [results, shown, earlier])
    listen(results.act, act, [shown], [results, shown, earlier])
    listen(earlier.act, act, [shown], [results, shown, earlier])
    listen(picker.changed, changed, None, [results, shown])
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


def render_here(datasets: list[dict[str, Any]]) -> str:
    """A data set that is on the server already, as images to classify."""
    ready = [dataset for dataset in datasets if dataset["status"] == "ready"]
    if not ready:
        return ""
    options = [(dataset["id"], f"{dataset['name']} ({words.plural(dataset['images'], 'image')})") for dataset in ready]
    choice = forms.select(
        "here",
        "A data set that is here",
        options,
        hint="All its images, those that a model learned from included: this is no test of the model.",
    )
    return (
        f'<section class="card order" aria-label="A data set to classify">{choice}'
        f'<button type="button" class="button button-quiet" data-part="classify-here">{icon("folder")}'
        "<span>Classify this data set</span></button></section>"
    )


def model_words(model: dict[str, Any]) -> str:
    """A model in one line: name and test AUROC."""
    auroc = ((model.get("metrics") or {}).get("test") or {}).get("auroc") or {}
    return f"{model['name']} · AUROC {words.score(auroc.get('value'))}"
