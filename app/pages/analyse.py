"""The page Analyse: at which scales of detail a model's update works, and in how many directions."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.client import Backend, BackendProblem, browser_url
from app.components import format as words
from app.components import forms, sharing
from app.components.choice import Choice
from app.components.classified import WITH_ADAPTER
from app.components.events import listen
from app.components.html import alert, escape, icon, next_step, page_head, panel
from app.pages.classify import model_words

READ_ENERGY = "The columns run from the coarse layout of the picture on the left to its finest edges on the right."
READ_SPECTRUM = "Far below the limit, a lower rank would do; at the limit, a higher one might help."


def build(backend: Backend) -> dict[str, Any]:
    """Lay the page out and wire it."""
    panel(page_head("Analyse", "See at which scale of detail the training worked, and how much of its room it used."))
    choice = panel(elem_id="analyse-choice", wire="studio.form(element, trigger, {changed: 'changed'})")
    figures = panel(elem_id="analyse-figures")
    picked = gr.State(Choice[dict[str, str]]({}))
    outputs = [choice, figures]

    async def view(picked: Choice[dict[str, str]]) -> tuple[Any, ...]:
        return await picked.draw(drawing)

    async def drawing(values: dict[str, str]) -> tuple[tuple[Any, ...], dict[str, str]]:
        try:
            models = [model for model in await backend.models() if model["method"] in WITH_ADAPTER]
            if not models:
                return ("", _nothing(await backend.me())), {}
            known = {model["id"]: model for model in models}
            model = known.get(values.get("model", ""), models[0])
            energy = await backend.subband_energy(model["id"])
            spectrum = await backend.singular_spectrum(model["id"])
            values = settle(values, model, known, energy, spectrum)
            readings = await _readings(backend, values)
            by_class = await _by_class(backend, model)
        except BackendProblem as problem:
            return (gr.skip(), alert(problem.sentence)), values
        shown = render_figures(values, known, energy, spectrum, readings, by_class)
        return (render_choice(models, values, energy, spectrum), shown), values

    async def changed(picked: Choice[dict[str, str]], event: gr.EventData) -> tuple[Any, ...]:
        picked.value = (event._data or {}).get("values") or {}
        return await view(picked)

    listen(choice.changed, changed, [picked], outputs)
    return {"show": view, "inputs": [picked], "outputs": outputs}


async def _readings(backend: Backend, values: dict[str, str]) -> tuple[str, str]:
    """What the two figures of this choice show, in the backend's words."""
    energy = await backend.subband_energy(values["model"], of=values["of"], cls=values["cls"] or None)
    spectrum = await backend.singular_spectrum(
        values["model"], layer=values["layer"] or None, compare=values["compare"] or None
    )
    return energy["reading"], spectrum["reading"]


async def _by_class(backend: Backend, model: dict[str, Any]) -> str:
    """The card of the scales that each class used; for a model where they were not measured, the reason."""
    try:
        data = await backend.class_scales(model["id"])
    except BackendProblem as problem:
        if problem.code != "not-measured":
            raise
        return alert(problem.sentence, kind="info")
    number = sum(entry["images"] for entry in data["per_class"].values())
    drawn = _figure(model, "class-scales", "Scales of detail that each class used", {}, reading=data["reading"])
    return _plot(
        "plot-classes", "Scales by class", "relevance of the update", drawn, (data["reading"],),
        f"Measured on {words.plural(number, 'test image')}, the first of each class.",
    )  # fmt: skip


def _nothing(me: dict[str, Any]) -> str:
    sentence = "The plots are made at the end of every training by WaRA, Tiny-WaRA or LoRA."
    return sharing.render_no_model(me, "No model to look into yet", sentence, mark="analyse")


def settle(
    values: dict[str, str],
    model: dict[str, Any],
    known: dict[str, dict[str, Any]],
    energy: dict[str, Any],
    spectrum: dict[str, Any],
) -> dict[str, str]:
    """Keep of the choice what the model has; the rest falls back to all classes, the update, all layers."""
    layers = [layer["name"] for layer in spectrum["layers"]]
    compare = values.get("compare", "")
    return {
        "model": model["id"],
        "of": values["of"] if values.get("of") in ("update", "tokens") else "update",
        "cls": values.get("cls", "") if values.get("cls") in energy["classes"] else "",
        "layer": values.get("layer", "") if values.get("layer") in layers else "",
        "compare": compare if compare in known and compare != model["id"] else "",
    }


def render_choice(
    models: list[dict[str, Any]], values: dict[str, str], energy: dict[str, Any], spectrum: dict[str, Any]
) -> str:
    """What to look at: the model, another one beside it, class, tokens or update, layer."""
    others = [("", "nothing")]
    others += [(model["id"], model_words(model)) for model in models if model["id"] != values["model"]]
    layers = [("", "all layers"), *((layer["name"], layer["name"]) for layer in spectrum["layers"])]
    classes = [("", "all classes"), *((name, name) for name in energy["classes"])]
    sides = [("update", "the update"), ("tokens", "the tokens (what the layer sees)")]
    return (
        '<form class="card toolbar" novalidate>'
        + forms.select(
            "model",
            "Model",
            [(m["id"], model_words(m)) for m in models],
            value=values["model"],
            hint="The training to look into; the newest stands first.",
            ident="analyse-model",
        )
        + forms.select(
            "compare", "Compare with", others, value=values["compare"], hint="A second training, drawn beside it."
        )
        + forms.select("of", "Energy of", sides, value=values["of"], hint="What training adds, or what it works on.")
        + forms.select("cls", "Class", classes, value=values["cls"], hint="Measured on images of this class.")
        + forms.select(
            "layer", "Layer", layers, value=values["layer"], term="spectrum", hint="All at once, or one in detail."
        )
        + "</form>"
    )


def render_figures(
    values: dict[str, str],
    known: dict[str, dict[str, Any]],
    energy: dict[str, Any],
    spectrum: dict[str, Any],
    readings: tuple[str, str],
    by_class: str = "",
) -> str:
    """The plots, each with its data and how to read it; the second model's beside it."""
    side = "the update" if values["of"] == "update" else "the tokens"
    of_class = f", class {values['cls']}" if values["cls"] else ", all classes"
    shown = [key for key in (values["model"], values["compare"]) if key]
    what = {"of": values["of"], "cls": values["cls"]}
    plots = "".join(_figure(known[key], "subband-energy", f"Subband energy of {side}{of_class}", what) for key in shown)
    layer = f"layer {values['layer']}" if values["layer"] else "all layers"
    options = {"layer": values["layer"], "compare": values["compare"]}
    other = known[values["compare"]]["name"] if values["compare"] else ""
    drawn = _figure(known[values["model"]], "singular-spectrum", f"Singular spectrum, {layer}", options, other)
    return (
        "<article>"
        + _plot("plot-energy", "Scales of detail", "subband energy", plots, (readings[0], READ_ENERGY), _basis(energy))
        + by_class
        + _plot("plot-spectrum", "Directions used", "singular spectrum", drawn, (readings[1], READ_SPECTRUM), "")
        + next_step("Its result, card and files stand on the page Models.", "Go to Models", "models")
        + "</article>"
    )


def _plot(elem_id: str, title: str, term: str, figures: str, reading: tuple[str, ...], facts: str) -> str:
    """A card: the figures, and beside them how to read them."""
    lines = "".join(f"<p>{escape(line)}</p>" for line in reading)
    lines += f'<p class="hint">{escape(facts)}</p>' if facts else ""
    return (
        f'<section class="card plot" id="{elem_id}"><div><h2>{title} <small>{term}</small></h2>'
        f'<div class="figures">{figures}</div></div>'
        f"<aside><h3>How to read it</h3>{lines}</aside></section>"
    )


def _figure(
    model: dict[str, Any], kind: str, title: str, options: dict[str, str], beside: str = "", *, reading: str = ""
) -> str:
    """A figure drawn for the light and for the dark page; only the one that is shown is fetched.

    ``beside`` is the name of a second model that the same figure shows, ``reading`` what the figure says, for whoever
    does not see it.
    """
    name = model["name"] + (f" and {beside}" if beside else "")
    address = ("models", model["id"], "analysis")
    text = escape(f"{title}: {name}. {reading}" if reading else f"{title}: {name}")
    images = "".join(
        f'<img class="only-{theme}" loading="lazy" alt="{text}"'
        f' src="{escape(browser_url(*address, kind + ".png", theme=theme, **options))}">'
        for theme in ("light", "dark")
    )
    picture = escape(browser_url(*address, kind + ".png", theme="light", **options))
    data = escape(browser_url(*address, kind))
    return (
        f"<figure><figcaption><b>{escape(name)}</b><span>"
        f'<a class="link" href="{picture}" download="{kind}.png">{icon("download")}Figure</a>'
        f'<a class="link" href="{data}" download="{kind}.json">{icon("download")}Data</a></span></figcaption>'
        f"{images}</figure>"
    )


def _basis(energy: dict[str, Any]) -> str:
    """Over how many images, and with which wavelet, the shares were measured."""
    counts = energy.get("n_images") or {}
    number = counts.get("overall", counts.get("all")) if isinstance(counts, dict) else counts
    images = f"Measured on {words.plural(int(number), 'image')}" if number else "Measured"
    return f"{images} with the {energy['wavelet']} wavelet at {words.plural(int(energy['levels']), 'level')}."
