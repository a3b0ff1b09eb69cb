"""The page Models: trained models side by side, how good each is, their cards, downloads and removal."""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr

from app.client import Backend, BackendProblem, browser_url
from app.components import comparison as side_by_side
from app.components import confusion, operating, sharing
from app.components import format as words
from app.components.charts import whisker
from app.components.events import listen
from app.components.exports import render_exports
from app.components.html import alert, button, escape, icon, page_head, panel, stacked, table
from app.components.job import backbone_name
from app.components.results import (
    render_calibration,
    render_curves,
    render_doubts,
    render_head,
    render_next,
    render_subgroups,
)

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


# A list of fewer is looked over sooner than a word is typed.
SEARCHED_FROM = 6


def build(backend: Backend) -> dict[str, Any]:
    """Lay the page out and wire it."""
    act_on = "studio.actions(element, trigger, 'act'); studio.reveal(element)"
    panel(
        page_head(
            "Models", "What has been trained here or brought in, side by side, judged on images that no model had seen."
        )
    )
    listing = panel(elem_id="models-list", wire=f"{act_on}; studio.compare(element, trigger, 'act')")
    arrival = panel(render_arrival(), elem_id="models-bring-in", wire="studio.bringIn(element, trigger, 'came')")
    with gr.Column(elem_id="models-results", visible=False) as box:
        head = panel(elem_id="results-head", wire=act_on)
        curves = panel(elem_id="results-curves")
        with gr.Row(elem_classes="columns", visible=False) as operating_row:
            with gr.Column(elem_classes="side"):
                form = panel(elem_id="results-form", wire="studio.point(element, trigger, 'changed')")
            with gr.Column(elem_classes="main"):
                point = panel(elem_id="results-point", wire=act_on)
        matrix = panel(elem_id="results-confusion", wire=act_on)
        images = panel(elem_id="results-images", wire=act_on)
        rest = panel(elem_id="results-rest")
        exports = panel(elem_id="results-exports", wire="studio.exports(element)")
    comparison = panel(elem_id="models-comparison", wire=act_on)
    with gr.Column(elem_id="models-card", visible=False) as card_box:
        card_head = panel(elem_id="models-card-head", wire=act_on)
        card = gr.Markdown(elem_id="models-card-text")
    seen = gr.State({})
    outputs = [listing, box, head, curves, operating_row, form, point, matrix, images, rest, exports, comparison,
               card_box, card_head, card, seen]  # fmt: skip
    closed = {box: gr.Column(visible=False), head: "", images: "", exports: "", seen: {}}
    card_closed = {card_box: gr.Column(visible=False), card_head: "", card: ""}

    async def show() -> dict[Any, Any]:
        try:
            return {listing: render_models(await backend.models(), await backend.me())}
        except BackendProblem as problem:
            return {listing: alert(problem.sentence)}

    async def results(model_id: str) -> dict[Any, Any]:
        """All figures of a model, at the operating point in use."""
        token = secrets.token_hex(4)
        model, known = await backend.model(model_id), await backend.evaluation(model_id)
        shown = at_point(model, known, None, token)
        two = known["operating_point"] is not None
        form_now = operating.render_form(known, token) if two else ""
        return {box: gr.Column(visible=True), comparison: "", **card_closed, **shown,
                operating_row: gr.Row(visible=two), form: form_now, exports: _exports(model)}  # fmt: skip

    def at_point(model: dict[str, Any], known: dict[str, Any], criterion: str | None, token: str) -> dict[Any, Any]:
        """What depends on the operating point, or stands beside what does."""
        model_id = model["id"]
        two = known["operating_point"] is not None
        return {
            head: render_head(model, known, token),
            curves: render_curves(known, model_id),
            point: operating.render_point(known, model_id, criterion, change=sharing.may_change(model)) if two else "",
            matrix: confusion.render_confusion(known, model_id),
            images: "",
            rest: _rest(str(model["id"]), known),
            seen: {"id": model_id, "criterion": criterion, "token": token},
        }

    async def changed(event: gr.EventData, state: dict[str, Any]) -> dict[Any, Any]:
        """Another rule of the form: what would it do?"""
        model_id, criterion = state.get("id"), operating.read_criterion((event._data or {}).get("values") or {})
        if not model_id:
            return {seen: state}
        # Every answer differs from the one before, so that the form sees that it came.
        answer = f'<i hidden data-answer="{secrets.token_hex(4)}"></i>'
        try:
            known = await backend.evaluation(model_id, criterion=criterion)
        except BackendProblem as problem:
            return {point: alert(problem.sentence) + answer}
        # The page stays where it is: the token of the opening is kept.
        shown = at_point(await backend.model(model_id), known, criterion, state["token"])
        return shown | {point: shown[point] + answer}

    async def use(model_id: str, criterion: str | None) -> dict[Any, Any]:
        """Let the model answer by another operating point from now on."""
        await backend.use_operating_point(model_id, criterion)
        token = secrets.token_hex(4)
        model, known = await backend.model(model_id), await backend.evaluation(model_id)
        shown = at_point(model, known, None, token)
        return shown | {
            head: gr.skip(),
            form: operating.render_form(known, token),
            point: operating.render_point(known, model_id, None, token),
        }

    async def compare(ids: list[str]) -> dict[Any, Any]:
        models = {model["id"]: model for model in await backend.models()}
        chosen = [model for key, model in models.items() if key in ids]
        if sentence := side_by_side.choice_problem([model["id"] for model in chosen]):
            return {comparison: _told(sentence, "info")}
        known = [await backend.evaluation(model["id"]) for model in chosen]
        differences = [(model, await difference(chosen[0], model)) for model in chosen[1:]]
        costs = await backend.costs([model["id"] for model in chosen])
        html = side_by_side.render_comparison(chosen, known, differences, costs, secrets.token_hex(4))
        return {comparison: html, **closed, **card_closed}

    async def difference(first: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | str:
        try:
            return await backend.compare(first["id"], other["id"])
        except BackendProblem as problem:
            if not problem.code.startswith("comparison-"):
                raise
            return problem.sentence

    async def cell(state: dict[str, Any], chosen: dict[str, str]) -> dict[Any, Any]:
        known = await backend.evaluation(state["id"], criterion=state["criterion"])
        token = secrets.token_hex(4)
        return {
            matrix: confusion.render_confusion(known, state["id"], chosen),
            images: confusion.render_cell(known, state["id"], chosen, token),
        }

    async def act(event: gr.EventData, state: dict[str, Any]) -> dict[Any, Any]:
        data = dict(event._data or {})
        model_id = str(data.get("id") or "")
        try:
            match data.get("action"):
                case "results":
                    return await results(model_id)
                case "card":
                    text = await backend.card(model_id)
                    title = render_card_head(model_id, str(data.get("name") or ""), secrets.token_hex(4))
                    return {card_box: gr.Column(visible=True), card_head: title, card: text}
                case "delete":
                    await backend.delete_model(model_id)
                    return {**await show(), **closed, **card_closed, comparison: ""}
                case "compare":
                    return await compare([str(key) for key in data.get("ids") or []])
                case "cell" if state.get("id") == model_id:
                    return await cell(state, {key: str(data.get(key) or "") for key in ("label", "predicted")})
                case "close-cell":
                    known = await backend.evaluation(state["id"], criterion=state["criterion"])
                    return {matrix: confusion.render_confusion(known, state["id"]), images: ""}
                case "use-point":
                    return await use(model_id, str(data.get("criterion") or "") or None)
                case "reset-point":
                    return await use(model_id, None)
                case "close-results":
                    return closed
                case "close-comparison":
                    return {comparison: ""}
        except BackendProblem as problem:
            return {**await show(), comparison: _told(problem.sentence)}
        return card_closed

    async def came(_event: gr.EventData) -> dict[Any, Any]:
        """A model was brought in: it stands in the list."""
        return await show()

    listen(arrival.came, came, [], outputs)
    listen(form.changed, changed, [seen], outputs)
    for part in (listing, head, point, matrix, images, comparison, card_head):
        listen(part.act, act, [seen], outputs)
    return {"show": show, "inputs": [], "outputs": outputs}


def _told(sentence: str, kind: str = "error") -> str:
    """Why there is nothing to show; the page moves there."""
    return f'<div tabindex="-1" data-reveal="{secrets.token_hex(4)}">{alert(sentence, kind=kind)}</div>'


def _rest(model_id: str, known: dict[str, Any]) -> str:
    """What stands below the images of a cell."""
    return (
        f"<article>{confusion.render_errors(known)}{render_calibration(known, model_id)}{render_doubts(known)}"
        f"{render_subgroups(known)}</article>"
    )


def _exports(model: dict[str, Any]) -> str:
    """Files to take away, and what to do next; a change of the threshold leaves this part, and a file in the making."""
    return f"<article>{render_exports(model)}{render_next(model)}</article>"


def render_card_head(model_id: str, name: str, reveal: str = "") -> str:
    """The line above a model card; the page moves there once for each value of ``reveal``."""
    close = button("Close the card", "close-card", look="icon", mark="close", id=model_id)
    there = f' tabindex="-1" data-reveal="{escape(reveal)}"' if reveal else ""
    page = escape(browser_url("models", model_id, "card", format="html"))
    link = f'<a class="link" href="{page}" target="_blank" rel="noopener">Print or save as PDF</a>'
    side = f'<span class="title-side">{link}{close}</span>'
    return f'<div class="title-row"><h2{there}>Model card: {escape(name)}</h2>{side}</div>'


def render_arrival() -> str:
    """The field by which a model that was trained elsewhere is brought in."""
    return (
        '<details class="fold" id="bring-in"><summary>Bring in a model that was trained elsewhere</summary>'
        '<p class="hint">The zip that Download gave there, as it is. Weights, tables and figures are checked before '
        "any of it is kept, and the same backbone must be on this machine.</p>"
        '<div class="field"><label class="label" for="model-file">Model as a zip</label>'
        '<input type="file" id="model-file" data-part="model-file" accept=".zip,application/zip"></div>'
        '<button type="button" class="button button-quiet" data-part="bring-in">Bring in this model</button>'
        '<div class="meter" data-part="meter"><progress max="1" value="0" aria-label="Model"></progress>'
        '<div class="meter-line"><span data-part="text" role="status"></span></div>'
        '<p class="meter-alert" data-part="alert" role="alert"></p></div></details>'
    )


def render_models(models: list[dict[str, Any]], me: dict[str, Any]) -> str:
    """The comparison of all models."""
    if not models:
        sentence = "Every finished training leaves its model here, with its test result and its card."
        return sharing.render_no_model(me, "No models yet", sentence, mark="models")
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
    noted: dict[str, list[str]] = {}
    for model in models:
        if note := _test(model, "auroc").get("note"):
            noted.setdefault(note, []).append(f"<b>{escape(model['name'])}</b>")
    notes = "".join(f'<p class="hint">{", ".join(names)}: AUROC: {escape(note)}</p>' for note, names in noted.items())
    compared = ""
    if len(models) > 1:
        compared = (
            '<div class="compare-bar"><p class="hint">To see models side by side, check the boxes before their names.'
            '</p><button type="button" class="button button-quiet" data-part="compare">Compare the chosen models'
            "</button></div>"
        )
    found = _search(len(models)) if len(models) >= SEARCHED_FROM else ""
    below = f'{compared}<p class="hint">{hint}</p>{notes}'
    return f'<section class="card" data-state="ready">{found}{body}{below}</section>'


def _search(count: int) -> str:
    """A field that leaves the models of which it names all words; the page does it as one types."""
    return (
        '<div class="find"><label for="models-find">Find a model</label><input id="models-find" type="search" '
        'autocomplete="off" placeholder="Name, method, data set or date">'
        f'<span class="hint" role="status" data-part="found">{words.plural(count, "model")}</span></div>'
    )


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
    imported = model.get("imported")
    data = "" if imported else f"{escape(model.get('dataset_name') or 'deleted data set')} · "
    about = (
        f"<small>{data}{escape(backbone_name(model))}</small>"
        f"<small>{'imported on ' if imported else ''}{escape(words.moment(model.get('created')))}</small>"
    )
    tested = f"<small>{words.plural(test['n_images'], 'test image')}</small>" if test.get("n_images") else ""
    question = f"Delete the model “{name}” from this server? Download it first if you want to keep it."
    buttons = (
        button("Results", "results", look="primary button-small", mark="analyse", id=model_id, name=name)
        + button("Card", "card", look="quiet button-small", mark="card", id=model_id, name=name)
        + f'<a class="button button-icon" href="{escape(browser_url("models", model_id, "download"))}" download>'
        f"{icon('download')}<span>Download {escape(name)}</span></a>"
        + sharing.share_button("model", model)
    )
    if sharing.may_delete(model):
        buttons += button(f"Delete {name}", "delete", look="icon", mark="trash", id=model_id, confirm=question)
    untrained += sharing.owner_badge(model)
    return (
        f'<label class="pick"><input type="checkbox" name="compare" value="{escape(model_id)}"><span>'
        f'<span class="sr-only">Compare </span><span class="model-name">{escape(name)}</span>{untrained}{about}</span>'
        "</label>",
        f'<i class="swatch swatch-{escape(model["method"])}"></i>{escape(words.method_name(model["method"]))}',
        words.count(model.get("trainable_parameters")),
        f"{stacked(auroc)}{tested}",
        drawn,
        stacked(balanced),
        words.duration(model.get("seconds")),
        f'<div class="row-buttons">{buttons}</div>',
    )
