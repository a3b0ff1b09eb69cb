"""The page Models: trained models side by side, their cards, downloads and removal."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.client import Backend, BackendProblem, browser_url
from app.components import format as words
from app.components.charts import whisker
from app.components.events import listen
from app.components.html import alert, button, empty, escape, icon, page_head, panel, table
from app.components.job import backbone_name

HEAD = (
    "Model",
    "Method",
    "Trained parameters",
    "Test AUROC",
    "{ends}",
    "Balanced accuracy",
    "Time",
    '<span class="sr-only">Card, download, delete</span>',
)


def build(backend: Backend) -> dict[str, Any]:
    """Lay the page out and wire it."""
    panel(page_head("Models", "What has been trained here, side by side, judged on images that no model had seen."))
    listing = panel(elem_id="models-list", wire="studio.actions(element, trigger, 'act')")
    with gr.Column(elem_id="models-card", visible=False) as card_box:
        card_head = panel(elem_id="models-card-head", wire="studio.actions(element, trigger, 'act')")
        card = gr.Markdown(elem_id="models-card-text")
    outputs = [listing, card_box, card_head, card]

    async def show(note: str = "") -> tuple[Any, ...]:
        try:
            models = await backend.models()
        except BackendProblem as problem:
            return alert(problem.sentence), gr.skip(), gr.skip(), gr.skip()
        return note + render_models(models), gr.skip(), gr.skip(), gr.skip()

    async def act(event: gr.EventData) -> tuple[Any, ...]:
        data = dict(event._data or {})
        model_id = str(data.get("id") or "")
        try:
            match data.get("action"):
                case "card":
                    text = await backend.card(model_id)
                    head = render_card_head(model_id, str(data.get("name") or ""))
                    return gr.skip(), gr.Column(visible=True), head, text
                case "delete":
                    await backend.delete_model(model_id)
                    return (await show())[0], gr.Column(visible=False), "", ""
        except BackendProblem as problem:
            return await show(alert(problem.sentence))
        return gr.skip(), gr.Column(visible=False), "", ""

    listen(listing.act, act, None, outputs)
    listen(card_head.act, act, None, outputs)
    return {"show": show, "inputs": [], "outputs": outputs}


def render_card_head(model_id: str, name: str) -> str:
    """The line above a model card."""
    close = button("Close the card", "close", look="icon", mark="close", id=model_id)
    page = escape(browser_url("models", model_id, "card", format="html"))
    link = f'<a class="link" href="{page}" target="_blank" rel="noopener">Print or save as PDF</a>'
    return f'<div class="title-row"><h2>Model card: {escape(name)}</h2><span>{link} {close}</span></div>'


def render_models(models: list[dict[str, Any]]) -> str:
    """The comparison of all models."""
    if not models:
        sentence = "Every finished training leaves its model here, with its test result and its card."
        return empty("No models yet", sentence, page="train", action="Go to Train", mark="models")
    lows = [_test(model, "auroc").get("low") for model in models]
    start = min([0.5, *(low for low in lows if low is not None)])
    start = 0.5 if start >= 0.5 else 0.0
    ends = (
        f'<span class="sr-only">Interval drawn</span><span class="ends"><small>{start:g}</small><small>1</small></span>'
    )
    body = table(
        [title.format(ends=ends) for title in HEAD],
        [_row(model, start) for model in models],
        caption="Trained models side by side",
        numeric=(2, 3, 5, 6),
    )
    hint = (
        "In brackets, and as a line, the 95 % interval. Where two intervals overlap widely, the models cannot be told "
        "apart on these test images. Compare only models that were tested on the same images."
    )
    notes = "".join(
        f'<p class="hint"><b>{escape(model["name"])}</b>, AUROC: {escape(_test(model, "auroc")["note"])}</p>'
        for model in models
        if _test(model, "auroc").get("note")
    )
    return f'<section class="card" data-state="ready">{body}<p class="hint">{hint}</p>{notes}</section>'


def _test(model: dict[str, Any], metric: str) -> dict[str, Any]:
    return ((model.get("metrics") or {}).get("test") or {}).get(metric) or {}


def _row(model: dict[str, Any], start: float) -> tuple[str, ...]:
    name, model_id = str(model["name"]), str(model["id"])
    auroc, balanced = _test(model, "auroc"), _test(model, "balanced_accuracy")
    test = (model.get("metrics") or {}).get("test") or {}
    drawn = ""
    if None not in (auroc.get("value"), auroc.get("low"), auroc.get("high")):
        label = f"AUROC {words.interval(auroc)}"
        drawn = whisker(auroc["value"], auroc["low"], auroc["high"], start=start, label=label)
    untrained = "" if model.get("pretrained", True) else ' <span class="badge badge-note">untrained backbone</span>'
    about = (
        f"<small>{escape(model.get('dataset_name') or 'deleted data set')} · {escape(backbone_name(model))}</small>"
        f"<small>{escape(words.moment(model.get('created')))}</small>"
    )
    tested = f"<small>{words.plural(test['n_images'], 'test image')}</small>" if test.get("n_images") else ""
    question = f"Delete the model “{name}” from this server? Download it first if you want to keep it."
    buttons = (
        button("Card", "card", look="quiet button-small", mark="card", id=model_id, name=name)
        + f'<a class="button button-icon" href="{escape(browser_url("models", model_id, "download"))}" download>'
        f"{icon('download')}<span>Download {escape(name)}</span></a>"
        + button(f"Delete {name}", "delete", look="icon", mark="trash", id=model_id, confirm=question)
    )
    return (
        f'<span class="model-name">{escape(name)}</span>{untrained}{about}',
        f'<i class="swatch swatch-{escape(model["method"])}"></i>{escape(words.method_name(model["method"]))}',
        words.count(model.get("trainable_parameters")),
        f"{_stacked(auroc)}{tested}",
        drawn,
        _stacked(balanced),
        words.duration(model.get("seconds")),
        f'<div class="row-buttons">{buttons}</div>',
    )


def _stacked(metric: dict[str, Any]) -> str:
    """A value with its interval in small type beside it."""
    if metric.get("value") is None:
        return "–"
    text = f"<b>{words.score(metric['value'])}</b>"
    if metric.get("low") is not None and metric.get("high") is not None:
        text += f" <small>[{words.score(metric['low'])}, {words.score(metric['high'])}]</small>"
    return text
