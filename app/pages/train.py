"""The page Train: choose, start, watch, cancel; a running training is found again from any browser."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr

from app.client import Backend, BackendProblem
from app.components import format as words
from app.components import forms, sharing, train_options
from app.components.choice import Choice
from app.components.estimate import MEASURING, render_estimate, render_unknown
from app.components.events import listen
from app.components.html import alert, empty, escape, page_head, panel
from app.components.job_list import render_jobs, watched_of

ADAPTERS = "wara tiny-wara lora"
SUBBANDS = "wara tiny-wara"
WAVELETS = (
    ("", "haar (usual)"),
    ("haar", "haar"),
    ("db2", "db2"),
    ("db4", "db4"),
    ("sym4", "sym4"),
    ("coif1", "coif1"),
    ("bior2.2", "bior2.2"),
    ("bior4.4", "bior4.4"),
)
GAINS = (
    ("", "one a scale (usual)"),
    ("subband", "one a scale"),
    ("subband-rank", "one a scale and rank"),
    ("none", "none (as LoRA)"),
)
TARGETS = (
    ("", "usual for the method"),
    ("qkv", "before attention (qkv)"),
    ("proj", "behind attention (proj)"),
)
READOUTS = (
    ("", "usual for the method"),
    ("auto", "from the lower layers"),
    ("none", "none"),
)
ACTIVATIONS = (("", "none (usual)"), ("none", "none"), ("gelu", "GELU"), ("soft-threshold", "soft threshold"))
FITS = (("", "fit on black (usual)"), ("pad", "fit on black"), ("crop", "cut the centre"), ("stretch", "stretch"))
AUGMENTS = (("", "slightly (usual)"), ("light", "slightly"), ("none", "not at all"))
DEVICES = (
    ("", "found by itself"),
    ("cpu", "processor (CPU)"),
    ("cuda", "graphics card (CUDA)"),
    ("mps", "Apple (MPS)"),
)
ORDER_FIELDS = ("dataset_id", "method", "backbone", "preset", "name")
HUB_NAME = "hub_name"
FLAGS = ("class_balanced",)
WORDS = ("wavelet", "gains", "target", "readout", "activation", "fit", "augment", "device", *train_options.WORDS)


def build(backend: Backend) -> dict[str, Any]:
    """Lay the page out and wire it; returns ``show`` and ``look`` with their outputs for the frame."""
    panel(page_head("Train", "Teach a pretrained network your classes. It goes on when you close this page."))
    watched = gr.State(Choice[str | None](None))
    with gr.Row(elem_classes="columns wide-side"):
        with gr.Column(elem_classes="side"):
            form = panel(
                elem_id="train-form",
                wire="studio.form(element, trigger, {submitted: 'start', settled: 'settled'});"
                "studio.weights(element, trigger, 'weights_added')",
            )
            expected = panel(elem_id="train-estimate")
            answer = panel(elem_id="train-answer")
        with gr.Column(elem_classes="main"):
            job = panel(elem_id="train-job", wire="studio.actions(element, trigger, 'act')")
            listing = panel(elem_id="train-list", wire="studio.actions(element, trigger, 'act')")
    live = [job, listing]

    async def look(watching: Choice[str | None]) -> tuple[list[dict[str, Any]], tuple[str, str]]:
        """All trainings, and what of them is shown."""

        async def drawing(chosen: str | None) -> tuple[Any, str | None]:
            jobs = await backend.jobs()
            chosen = watched_of(jobs, chosen)
            done = next((job["model_id"] for job in jobs if job["id"] == chosen), None)
            try:
                model = await backend.model(done) if done else None
            except BackendProblem:
                model = None  # deleted meanwhile; the training itself can still be shown
            return (jobs, render_jobs(jobs, chosen, model)), chosen

        return await watching.draw(drawing)

    async def jobs_view(watching: Choice[str | None]) -> tuple[str, str]:
        try:
            return (await look(watching))[1]
        except BackendProblem as problem:
            return alert(problem.sentence), ""

    async def show(watching: Choice[str | None]) -> tuple[Any, ...]:
        try:
            # Backbones take seconds right after the server's start; what changes is asked for after them, so that of
            # two answers under way the later never shows the older state.
            backbones = await backend.backbones()
            datasets = await backend.datasets()
            writes = sharing.may_write(await backend.me())
        except BackendProblem as problem:
            return alert(problem.sentence), "", ""
        form_now = render_form(datasets, backbones) if writes else render_looks_only()
        return *(await jobs_view(watching)), form_now

    async def start(watching: Choice[str | None], event: gr.EventData) -> tuple[Any, ...]:
        try:
            made = await backend.start_job(read_order((event._data or {}).get("values") or {}))
        except BackendProblem as problem:
            return *(await jobs_view(watching)), alert(problem.sentence)
        watching.value = made["id"]
        return *(await jobs_view(watching)), ""

    async def act(watching: Choice[str | None], event: gr.EventData) -> tuple[Any, ...]:
        data = dict(event._data or {})
        note = ""
        try:
            match data.get("action"):
                case "cancel":
                    await backend.cancel_job(str(data.get("id")))
                case "pause":
                    await backend.pause_job(str(data.get("id")))
                case "resume":
                    await backend.resume_job(str(data.get("id")))
                case "first" | "up" as to:
                    await backend.move_job(str(data.get("id")), str(to))
                case "delete":
                    await backend.delete_job(str(data.get("id")))
                case "watch":
                    watching.value = data.get("id")
        except BackendProblem as problem:
            note = alert(problem.sentence)
        return *(await jobs_view(watching)), note

    async def measuring(event: gr.EventData) -> str:
        return MEASURING if read_order((event._data or {}).get("values") or {}).get("dataset_id") else ""

    async def estimate(event: gr.EventData) -> str:
        order = read_order((event._data or {}).get("values") or {})
        if not order.get("dataset_id"):
            return ""
        try:
            return render_estimate(await backend.estimate(order))
        except BackendProblem as problem:
            return render_unknown(problem.sentence)

    async def weights_added(watching: Choice[str | None]) -> tuple[Any, ...]:
        return await show(watching)

    listen(form.settled, measuring, [], [expected])
    listen(form.settled, estimate, [], [expected])
    listen(form.start, start, [watched], [*live, answer])
    listen(form.weights_added, weights_added, [watched], [*live, form])
    listen(job.act, act, [watched], [*live, answer])
    listen(listing.act, act, [watched], [*live, answer])
    return {"show": show, "inputs": [watched], "outputs": [*live, form], "live": live, "look": look}


def read_order(values: dict[str, str]) -> dict[str, Any]:
    """Turn the form's text into the order that the API takes. Empty fields are left to the preset.

    Numbers that are none are sent as they were typed, so that the server's own check answers. A network named by
    hand goes before the one of the list.
    """
    order: dict[str, Any] = {key: values[key].strip() for key in ORDER_FIELDS if values.get(key, "").strip()}
    if values.get(HUB_NAME, "").strip():
        order["backbone"] = values[HUB_NAME].strip()
    recipe: dict[str, Any] = {}
    for key, typed in values.items():
        if key in (*ORDER_FIELDS, HUB_NAME) or not typed.strip():
            continue
        if key in FLAGS:
            recipe[key] = True
        elif key in WORDS:
            recipe[key] = typed.strip()
        else:
            recipe[key] = _as_number(typed.strip())
    return {**order, "recipe": recipe}


def _as_number(typed: str) -> int | float | str:
    """The number that was typed, or the text itself; also of inf and nan, for which JSON has no number."""
    try:
        return int(typed)
    except ValueError:
        pass  # no whole number
    try:
        number = float(typed)
    except ValueError:
        return typed
    return number if math.isfinite(number) else typed


def render_form(datasets: list[dict[str, Any]], backbones: list[dict[str, Any]]) -> str:
    """The order for a training: images, method, backbone, effort, and the rest folded away."""
    ready = [dataset for dataset in datasets if dataset["status"] == "ready"]
    if not ready:
        sentence = "A training needs images in at least two classes."
        missing = empty("Add images first", sentence, page="data", action="Go to Data", mark="folder")
        return f'<section class="card">{missing}</section>'
    options = [(dataset["id"], f"{dataset['name']} ({words.plural(dataset['images'], 'image')})") for dataset in ready]
    methods = [(key, title, line) for key, (title, line) in words.METHODS.items()]
    presets = [(key, title, line) for key, (title, line) in words.PRESETS.items()]
    return (
        '<form class="card order" novalidate>'
        + forms.select("dataset_id", "Images", options, hint="A data set of the page Data.")
        + forms.cards("method", "Method", methods, value="wara", swatch=True)
        + _backbone_field(backbones)
        + forms.cards("preset", "Effort", presets, value="quick", columns=3)
        + forms.text(
            "name",
            "Name",
            placeholder="made from the images and the method",
            term="optional",
            hint="What this training and its model are called in lists.",
        )
        + _advanced(ready)
        + '<button class="button button-primary button-wide" type="submit" id="train-start">Start training</button>'
        + "</form>"
    )


def render_looks_only() -> str:
    """What stands in the form's place for an account that starts no training."""
    head = "<h2>Training is not open to your account</h2>"
    return f'<section class="card">{head}<p>{escape(sharing.LOOKS_ONLY)}</p></section>'


def _backbone_field(backbones: list[dict[str, Any]]) -> str:
    groups: dict[str, list[tuple[str, str, bool]]] = {"Pretrained": [], "Untrained": [], "Not available here": []}
    for item in backbones:
        label = item.get("label") or item["name"]
        if not item.get("available"):
            groups["Not available here"].append((item["id"], label, False))
        else:
            groups["Pretrained" if item.get("pretrained") else "Untrained"].append((item["id"], label, True))
    shown = [(title, options) for title, options in groups.items() if options]
    return (
        forms.grouped_select(
            "backbone",
            "Pretrained network",
            shown,
            hint="What the training starts from: a network that can see already.",
        ).replace("</label>", " <small>backbone</small></label>", 1)
        + '<details class="fold" id="weights"><summary>Add a weights file</summary>'
        '<div class="field"><label for="weights-name">Architecture <small>its name in timm</small></label>'
        '<input id="weights-name" data-part="weights-name" type="text" autocomplete="off"'
        ' placeholder="deit_tiny_patch16_224" aria-describedby="weights-hint">'
        '<span class="hint" id="weights-hint">For a network of your own that is not in the list.</span></div>'
        '<div class="field"><label for="weights-file">File <small>.safetensors or .pth</small></label>'
        '<input id="weights-file" data-part="weights-file" type="file" accept=".safetensors,.pth,.pt,.bin"></div>'
        '<button type="button" class="button button-quiet" data-part="send-weights">Add the file</button>'
        '<div class="meter" data-part="meter"><progress max="1" value="0" aria-label="Weights file"></progress>'
        '<div class="meter-line"><span data-part="text" role="status"></span></div>'
        '<p class="meter-alert" data-part="alert" role="alert"></p></div></details>' + _hub_field(backbones)
    )


def _hub_field(backbones: list[dict[str, Any]]) -> str:
    """A network by its name, where the server may fetch one: the list holds only a few of those that the hub has."""
    if not any(item.get("source") == "hub" for item in backbones):
        return ""
    field = forms.text(
        HUB_NAME,
        "Name",
        term="of a vision transformer in timm",
        placeholder="vit_small_patch16_224",
        hint="Fetched once from the model hub, then kept. While this is filled in, it goes before the choice above.",
    )
    summary = "<summary>Use another network by its timm name</summary>"
    return f'<details class="fold" id="hub-network">{summary}{field}</details>'


def _advanced(datasets: list[dict[str, Any]]) -> str:
    number, select = forms.number, forms.select
    adapter = number(
        "rank",
        "Rank",
        placeholder="8 (Tiny-WaRA 16)",
        hint="How much the adapter can learn. More suits more images.",
    ) + number(
        "alpha",
        "Strength",
        term="alpha",
        step="any",
        placeholder="twice the rank",
        hint="How far the adapter may move the network.",
    ) + number(
        "last_blocks",
        "Only the last layers",
        term="last blocks",
        placeholder="usual for the method",
        hint="Fewer train faster, most of all with a fixed number of looks (below).",
    ) + select(
        "target",
        "Where",
        TARGETS,
        term="target",
        hint="The layer that the adapter goes into: Tiny-WaRA usually behind attention, others before it.",
    ) + select(
        "readout",
        "Second opinion",
        READOUTS,
        term="readout",
        hint="WaRA usually also answers by how much detail of each size the lower layers see. Its adapter is then in "
        "the upper layers alone, which trains faster.",
    )
    subbands = (
        select("wavelet", "Wavelet", WAVELETS, hint="How the picture is taken apart into scales. haar is the fastest.")
        + number("levels", "Scales", term="levels", placeholder="2", hint="How many steps from fine to coarse.")
        + select("gains", "Weights", GAINS, term="gains", hint="A learned weight for each scale, or none.")
        + select("activation", "Activation", ACTIVATIONS, hint="A bend in the adapter; rarely needed.")
    )
    training = (
        number("epochs", "Passes", term="epochs", hint="How often it sees every training image, at most.")
        + number("patience", "Stop early after", term="patience", hint="Passes without getting better.")
        + number("batch_size", "Images at a time", term="batch size", hint="Fewer need less memory.")
        + number(
            "learning_rate",
            "Step size",
            term="learning rate",
            step="any",
            hint="Larger learns faster, too large goes astray.",
        )
        + number("weight_decay", "Weight decay", step="any", hint="Keeps weights small, against learning by heart.")
        + number("seed", "Seed", placeholder="0", hint="Fixes chance: split, order and start. The same gives the same.")
        + select("fit", "Not square", FITS, term="fit", hint="What happens to an image that is not square.")
        + select("augment", "Variation", AUGMENTS, term="augmentation", hint="Shifts and turns it a little each time.")
        + number(
            "views",
            "Looks",
            term="views",
            placeholder="a new one each pass",
            hint="So many variations of each image, used in turn. The part that does not learn then runs once a look.",
        )
        + select("device", "Device", DEVICES, hint="Where it computes.")
    )
    balanced = forms.check(
        "class_balanced",
        "Weigh rare classes up",
        hint="Use it when one class is much larger.",
        term="class-balanced loss",
    )
    return (
        '<details class="fold" id="advanced"><summary>Advanced</summary>'
        f'<fieldset class="grid-2" data-methods="{ADAPTERS}"><legend>Adapter</legend>{adapter}</fieldset>'
        f'<fieldset class="grid-2" data-methods="{SUBBANDS}"><legend>Scales of detail</legend>{subbands}</fieldset>'
        f"{train_options.render_dicom(datasets)}{train_options.render_answers(datasets)}"
        f'<fieldset class="grid-2"><legend>Training</legend>{training}</fieldset>{balanced}</details>'
    )
