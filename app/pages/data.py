"""The page Data: bring images in, see what they are, how they are split and what stands in the way."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.client import Backend, BackendProblem
from app.components import format as words
from app.components import mapping, masking, sharing
from app.components.arrival import ARRIVAL, render_receiving
from app.components.choice import Choice
from app.components.dataset import SHOWN_AT_ONCE, render_dataset
from app.components.events import listen
from app.components.html import alert, button, empty, escape, icon, page_head, panel

WORKING = ("receiving", "checking")
GONE = "The data set that was shown here is no longer here, or no longer shared with you."

UPLOAD = f"""
<section class="card upload" aria-label="Add images">
  <div class="zone" data-part="zone">
    {icon("upload")}
    <h2>Add images</h2>
    <p>Drop a folder or a zip here, or choose one. One sub-folder for each class; its name becomes the class.</p>
    <div class="zone-buttons">
      <label class="button button-primary">{icon("folder")}<span>Choose a folder</span>
        <input class="sr-only" type="file" webkitdirectory multiple data-part="folder" id="upload-folder"></label>
      <label class="button button-quiet">{icon("archive")}<span>Choose a zip</span>
        <input class="sr-only" type="file" accept=".zip,application/zip" data-part="zip" id="upload-zip"></label>
    </div>
    <p class="hint">PNG, JPEG, TIFF, WebP, BMP and DICOM.</p>
  </div>
  <div class="demo">
    <p class="hint" id="data-demo-hint">No images at hand? 300 drawn ones in three classes show every step; they are
      of nobody.</p>
    <button type="button" class="button button-quiet" data-action="demo" id="data-demo"
      aria-describedby="data-demo-hint">{icon("image")}<span>Try the demo</span></button>
  </div>
  {ARRIVAL}
  <details class="fold"><summary>Other ways to lay out the folder</summary>
    <pre class="layout" role="region" tabindex="0" aria-label="Folder layouts">images/            images/
  normal/            train/  val/  test/
    a.png              normal/ …
  pneumonia/           pneumonia/ …
    b.png</pre>
    <p class="hint" id="upload-labels-hint">Folders named train, val and test are kept as the split. A table
      <code>labels.csv</code> or <code>.xlsx</code> in the folder (columns file, label, if known patient and split) is
      found by itself. With other columns, or labels in file names or DICOM headers, you are asked where they are.</p>
    <div class="field"><label for="upload-labels">Name of the table, if it is another
      <small>CSV or Excel</small></label>
      <input id="upload-labels" name="labels" type="text" autocomplete="off" placeholder="labels.csv"
        aria-describedby="upload-labels-hint"></div>
    <label class="check" for="upload-ask"><input id="upload-ask" name="ask" type="checkbox"
      aria-describedby="upload-ask-hint"><span>Ask me where the classes are</span></label>
    <p class="hint" id="upload-ask-hint">Tick this if classes or patients stand in DICOM headers or in the names of
      files: much of that is removed when the images are checked.</p>
  </details>
  <details class="fold"><summary>What is kept of the patients</summary>
    <p class="hint">Once it is known where the classes stand, the images are checked. Names, dates, numbers and notes
      are then taken out of files, tables and file names, and what you sent is deleted. A patient’s number becomes a
      code that only this server can make; it keeps all images of one patient on one side of the split.</p>
    <label class="check" for="upload-characteristics"><input id="upload-characteristics" name="characteristics"
      type="checkbox" aria-describedby="upload-characteristics-hint"><span>Keep sex and age</span></label>
    <p class="hint" id="upload-characteristics-hint">For results by sex and age, from the table of labels, or from DICOM
      headers where the table does not tell. Ages are kept in bands of five years, 90 and more together. Leave it off
      unless you may use them.</p>
  </details>
</section>
"""

UPLOAD_WIRE = "studio.upload(element, trigger, 'uploaded'); studio.actions(element, trigger, 'demo')"
DETAIL_WIRE = "studio.actions(element, trigger, 'act'); studio.masks(element, trigger, 'act')"


def build(backend: Backend) -> dict[str, Any]:
    """Lay the page out and wire it; returns ``show``, its arguments and outputs for the frame."""
    panel(page_head("Data", "Bring in images, one folder for each class, and see what you have before training."))
    chosen = gr.State(Choice(anew(None)))
    ticking = gr.Timer(1.0, active=False)
    with gr.Row(elem_classes="columns"):
        with gr.Column(elem_classes="side"):
            upload = panel(UPLOAD, elem_id="data-upload", wire=UPLOAD_WIRE)
            listing = panel(elem_id="data-list", wire="studio.actions(element, trigger, 'act')")
        with gr.Column(elem_classes="main"):
            detail = panel(elem_id="data-detail", wire=DETAIL_WIRE)
            form, preview = mapping.panels()
    outputs = [listing, detail, ticking, form, preview]

    async def show(
        chosen: Choice[dict[str, Any]], note: str = "", *, keep_form: bool = False, acted: bool = False
    ) -> tuple[Any, ...]:
        return await chosen.draw(lambda choice: drawing(choice, note, keep_form=keep_form, acted=acted))

    async def drawing(
        choice: dict[str, Any], note: str, *, keep_form: bool, acted: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            datasets = await backend.datasets()
        except BackendProblem as problem:
            return (alert(problem.sentence), "", gr.Timer(active=True), "", ""), {**choice, "drawn": None}
        known = {dataset["id"]: dataset for dataset in datasets}
        if choice["id"] not in known:
            if acted and choice["id"]:
                note += alert(GONE, kind="info")
            choice = anew(datasets[0]["id"] if datasets else None)
        working = any(dataset["status"] in WORKING for dataset in datasets)
        dataset = known.get(choice["id"])
        asked: tuple[Any, Any] = ("", "")
        try:
            body: Any = gr.skip()
            if not keep_form or choice.get("drawn") is None:  # else somebody is drawing on it
                tool = await masking.render(backend, dataset, choice)
                choice = {**choice, "drawn": choice["id"] if tool else None}
                body = note + (tool or await _detail(backend, dataset, choice))
            if keep_form and mapping.wanted(dataset, choice) and choice.get("asked") == choice["id"]:
                asked = gr.skip(), gr.skip()  # somebody is filling it in
            else:
                asked = await mapping.render(backend, dataset, choice)
                choice = {**choice, "asked": choice["id"] if asked[0] else None}
        except BackendProblem as problem:
            body, choice = note + alert(problem.sentence), {**choice, "drawn": None}
        return (render_list(datasets, choice["id"]), body, gr.Timer(active=working), *asked), choice

    async def show_again(chosen: Choice[dict[str, Any]]) -> tuple[Any, ...]:
        return await show(chosen, keep_form=True)

    async def act(chosen: Choice[dict[str, Any]], event: gr.EventData) -> tuple[Any, ...]:
        data = dict(event._data or {})
        note, choice = "", chosen.value
        match data.get("action"):
            case "select":
                chosen.value = anew(data.get("id"))
            case "filter":
                chosen.value = {**choice, "cls": data.get("cls") or None, "offset": 0}
            case "page":
                chosen.value = {**choice, "offset": max(0, int(data.get("offset") or 0))}
            case "mask":
                chosen.value = {**choice, "masking": data.get("id")}
            case "masked":
                chosen.value = {**choice, "masking": None, "offset": 0}
                note = masking.render_done(data)
            case "map":
                chosen.value = {**choice, "mapping": True}
            case "delete":
                try:
                    await backend.delete_dataset(str(data.get("id")))
                    if chosen.value["id"] == data.get("id"):
                        chosen.value = {**chosen.value, "id": None}
                except BackendProblem as problem:
                    note = alert(problem.sentence)
            case "fix" | "undo":
                note = await _decide(backend, data)
                chosen.value = {**chosen.value, "offset": 0}
        return await show(chosen, note, acted=True)

    async def uploaded(chosen: Choice[dict[str, Any]], event: gr.EventData) -> tuple[Any, ...]:
        new = (event._data or {}).get("id")
        if new:
            chosen.value = anew(new)
        return await show(chosen)

    async def announce_demo() -> str:
        return render_drawing()

    async def add_demo(chosen: Choice[dict[str, Any]]) -> tuple[Any, ...]:
        try:
            made = await backend.add_demo()
        except BackendProblem as problem:
            return await show(chosen, alert(problem.sentence))
        chosen.value = anew(made["id"])
        return await show(chosen)

    announced = listen(upload.demo, announce_demo, None, [detail])
    listen(announced.then, add_demo, [chosen], outputs)
    listen(upload.uploaded, uploaded, [chosen], outputs)
    listen(listing.act, act, [chosen], outputs)
    listen(detail.act, act, [chosen], outputs)
    mapping.wire(backend, form, preview, chosen, outputs, show)
    listen(ticking.tick, show_again, [chosen], outputs, repeats=True)
    return {"show": show_again, "inputs": [chosen], "outputs": outputs}


def anew(dataset_id: str | None) -> dict[str, Any]:
    """What is chosen when a data set is opened: all its classes, from the first image on."""
    return {"id": dataset_id, "cls": None, "offset": 0}


async def _decide(backend: Backend, data: dict[str, Any]) -> str:
    """Fix a finding or take a decision back; returns what is to be said when that is refused."""
    try:
        if data["action"] == "fix":
            await backend.decide(str(data.get("id")), str(data.get("finding")), str(data.get("fix")))
        else:
            await backend.undo_decision(str(data.get("id")), str(data.get("number")))
    except BackendProblem as problem:
        return alert(problem.sentence)
    return ""


async def _detail(backend: Backend, dataset: dict[str, Any] | None, choice: dict[str, Any]) -> str:
    if dataset is None:
        if not sharing.may_write(await backend.me()):
            return empty("No images yet", sharing.LOOKS_ONLY, mark="folder")
        return empty(
            "No images yet",
            "Choose the folder that holds one sub-folder of images for each class, or try the demo. "
            "Nothing leaves this server: the images are stored and read here only.",
            mark="folder",
        )
    if dataset["status"] == "receiving":
        return render_receiving(dataset, await backend.arrived(dataset["id"]))
    if dataset["status"] in WORKING:
        return render_checking(dataset)
    if dataset["status"] == "failed":
        return render_failed(dataset)
    if dataset["status"] == "mapping" or mapping.wanted(dataset, choice):
        return mapping.render_head(dataset)
    report = await backend.report(dataset["id"])
    images = await backend.images(dataset["id"], cls=choice["cls"], limit=SHOWN_AT_ONCE, offset=choice["offset"])
    return render_dataset(dataset, report, images, choice)


def render_list(datasets: list[dict[str, Any]], selected: str | None) -> str:
    """The list of data sets, the selected one marked."""
    if not datasets:
        return ""
    rows = []
    for dataset in datasets:
        current = ' aria-current="true"' if dataset["id"] == selected else ""
        name = escape(dataset["name"])
        remove = button(
            f"Delete {dataset['name']}",
            "delete",
            look="icon",
            mark="trash",
            id=dataset["id"],
            confirm=f"Delete the data set “{dataset['name']}” and its images from this server? "
            "Models trained on it stay.",
        )
        remove = remove if sharing.may_delete(dataset) else ""
        rows.append(
            f'<li{current}><button type="button" class="row-button" data-action="select"'
            f' data-id="{escape(dataset["id"])}">'
            f"<b>{name}{sharing.owner_badge(dataset)}</b><span>{escape(_summary(dataset))}</span></button>{remove}</li>"
        )
    return f'<section class="card list"><h2>Data sets</h2><ul>{"".join(rows)}</ul></section>'


def _summary(dataset: dict[str, Any]) -> str:
    if dataset["status"] == "receiving":
        return "Being sent"
    if dataset["status"] == "checking":
        return "Being checked"
    if dataset["status"] == "failed":
        return "Cannot be used"
    if dataset["status"] == "mapping":
        return f"{words.plural(dataset['images'], 'image')}, labels not known yet"
    classes = len(dataset.get("classes") or [])
    return f"{words.plural(dataset['images'], 'image')}, {words.plural(classes, 'class', 'classes')}"


def render_drawing() -> str:
    """What is shown while the server draws the demo's images."""
    line = "Drawing 300 synthetic images, which takes some seconds"
    return (
        '<section class="card waiting" data-state="drawing"><h2>Demo</h2>'
        f'<p role="status">{line} …</p><progress max="1" aria-label="{line}"></progress></section>'
    )


def render_checking(dataset: dict[str, Any]) -> str:
    """What is shown while images arrive or are read."""
    progress = dataset.get("progress") or {}
    done, total = progress.get("done") or 0, progress.get("total") or 0
    line = "Receiving the files" if dataset["status"] == "receiving" else "Reading every image once"
    far = f": {words.count(done)} of {words.count(total)}" if total else ""
    share = f' value="{done / total:.4f}"' if total else ""
    return (
        f'<section class="card waiting" data-state="{escape(dataset["status"])}"><h2>{escape(dataset["name"])}</h2>'
        f'<p role="status">{line}{far}</p><progress max="1"{share} aria-label="{line}"></progress></section>'
    )


def render_failed(dataset: dict[str, Any]) -> str:
    """A data set that cannot be used, and why."""
    error = dataset.get("error") or {}
    sentence = error.get("detail") or error.get("title") or "The images could not be read. Upload them again."
    remove = button(
        "Delete it", "delete", mark="trash", id=dataset["id"], confirm=f"Delete the data set “{dataset['name']}”?"
    )
    return (
        f'<section class="card"><h2>{escape(dataset["name"])}</h2>{alert(sentence, title="It cannot be used.")}'
        f"<p>Change the folder as described, then choose it again.</p>{remove}</section>"
    )
