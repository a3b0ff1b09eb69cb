"""Where labels and patients come from: a form with a live preview, for data that is not laid out as expected."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.client import Backend, BackendProblem
from app.components import format as words
from app.components import sharing
from app.components.choice import Choice
from app.components.events import listen
from app.components.forms import cards, select, text
from app.components.html import alert, alerts, bar, button, escape, icon, panel, table, tile

WIRE = (
    "studio.form(element, trigger, {settled: 'look', changed: 'change', submitted: 'apply', typed: true}); "
    "studio.actions(element, trigger, 'act')"
)
SOURCES = (
    ("folders", "Folders", "The folder that an image lies in names its class."),
    ("table", "A table", "CSV or Excel: one row for each image, or for each patient's folder."),
    ("pattern", "File names", "A part of each name is the class, found by a pattern."),
    ("dicom", "DICOM header", "An attribute of the header is the class."),
)
DEPTHS = (
    ("", "As usual: class folders, under train, val and test or not"),
    ("1", "The top folder"),
    ("2", "The second folder from the top"),
    ("3", "The third folder from the top"),
    ("-1", "The folder that the image lies in"),
    ("-2", "The folder above that one"),
)
LABEL_TAGS = (
    "BodyPartExamined", "ViewPosition", "ImageLaterality", "Laterality", "Modality", "PatientSex", "SeriesDescription",
    "StudyDescription", "ProtocolName", "RequestedProcedureDescription", "AdmittingDiagnosesDescription",
    "ImageComments", "ImageType", "PatientOrientation", "PatientPosition", "SequenceName", "ScanningSequence",
    "ConvolutionKernel", "ContrastBolusAgent", "PresentationIntentType", "PhotometricInterpretation", "Manufacturer",
    "ManufacturerModelName",
)  # fmt: skip
COLUMNS = (
    ("file", "File", "The image's name or path, with or without .png and the like; or its folder."),
    ("label", "Class", "What the model shall tell apart."),
    ("patient", "Patient", "Keeps all images of a patient on one side. Shown and stored as a code only."),
    ("split", "Split", "Words such as train, val and test."),
)
SHOWN_REASONS = 8


def panels() -> tuple[gr.HTML, gr.HTML]:
    """Return the form and the preview below it, both empty until a data set needs them."""
    return panel(elem_id="data-mapping", wire=WIRE), panel(elem_id="data-mapping-preview")


def wanted(dataset: dict[str, Any] | None, choice: dict[str, Any]) -> bool:
    """Whether the form is to be shown: the server asks for it, or the person does."""
    if dataset is None or not sharing.may_change(dataset):
        return False
    return dataset["status"] == "mapping" or (dataset["status"] == "ready" and bool(choice.get("mapping")))


async def render(backend: Backend, dataset: dict[str, Any] | None, choice: dict[str, Any]) -> tuple[str, str]:
    """Return form and preview of a data set, or nothing where they are not wanted."""
    if dataset is None or not wanted(dataset, choice):
        return "", ""
    found = await backend.preview_mapping(dataset["id"], None)
    return render_form(dataset, found), render_preview(found)


def wire(backend: Backend, form: gr.HTML, shown: gr.HTML, chosen: gr.State, outputs: list[Any], show: Any) -> None:
    """Connect the form: a look at each pause in writing, columns anew for another table, one button to apply."""

    async def look(chosen: Choice[dict[str, Any]], event: gr.EventData) -> str:
        return await _look(backend, chosen.value, _values(event))

    async def change(chosen: Choice[dict[str, Any]], event: gr.EventData) -> tuple[Any, Any]:
        data, dataset_id = dict(event._data or {}), chosen.value["id"]
        if data.get("source") not in ("table", "sheet"):
            return gr.skip(), gr.skip()
        values = _values(event)
        asked = {"source": "table", "table": values.get("table")}
        if data["source"] == "sheet":
            asked["sheet"] = values.get("sheet")
        try:
            found = await backend.preview_mapping(dataset_id, asked)
            return render_form(await backend.dataset(dataset_id), found), render_preview(found)
        except BackendProblem as problem:
            return gr.skip(), alert(problem.sentence)

    async def apply(chosen: Choice[dict[str, Any]], event: gr.EventData) -> tuple[Any, ...]:
        try:
            await backend.set_mapping(chosen.value["id"], order_of(_values(event)))
        except BackendProblem as problem:
            # The form stays as it was filled in; what is wrong stands beneath its button.
            return (*(gr.skip() for _ in outputs[:-1]), alert(problem.sentence, title="Not applied."))
        chosen.value = {**chosen.value, "mapping": False, "cls": None, "offset": 0}
        return await show(chosen)

    async def act(chosen: Choice[dict[str, Any]], event: gr.EventData) -> tuple[Any, ...]:
        chosen.value = {**chosen.value, "mapping": False}
        return await show(chosen)

    listen(form.look, look, [chosen], [shown])
    listen(form.change, change, [chosen], [form, shown])
    listen(form.apply, apply, [chosen], outputs)
    listen(form.act, act, [chosen], outputs)


async def _look(backend: Backend, choice: dict[str, Any], values: dict[str, Any]) -> str:
    try:
        return render_preview(await backend.preview_mapping(choice["id"], order_of(values)))
    except BackendProblem as problem:
        return alert(problem.sentence)


def _values(event: gr.EventData) -> dict[str, Any]:
    return dict((event._data or {}).get("values") or {})


def order_of(values: dict[str, Any]) -> dict[str, Any]:
    """Return what a filled-in form asks of the server; fields of the sources that are not chosen are left out."""
    source = str(values.get("source") or "folders")
    order: dict[str, Any] = {"source": source}
    if source == "folders" and values.get("depth"):
        order["depth"] = int(values["depth"])
    if source == "table":
        order |= {key: values[key] for key in ("table", "sheet") if values.get(key)}
        order["columns"] = {key: values[f"column_{key}"] for key, _, _ in COLUMNS if values.get(f"column_{key}")}
    if values.get("pattern", "").strip() and source in ("folders", "pattern"):
        order["pattern"] = values["pattern"].strip()
    if source == "dicom" and values.get("label_tag"):
        order["label_tag"] = values["label_tag"]
    rename, leave_out = names_of(values.get("names", ""))
    return order | {"rename": rename, "leave_out": leave_out}


def names_of(text: str) -> tuple[dict[str, str], list[str]]:
    """Read lines such as ``0 = healthy``; a line without a new name leaves the class out."""
    rename, leave_out = {}, []
    for line in str(text).splitlines():
        old, equals, new = (piece.strip() for piece in line.partition("="))
        if equals and old and new:
            rename[old] = new
        elif old and equals:
            leave_out.append(old)
    return rename, leave_out


def render_head(dataset: dict[str, Any]) -> str:
    """What stands above the form: the data set's name, and why it is asked."""
    error = dataset.get("error") or {}
    if dataset["status"] == "mapping":
        why = error.get("title") or "The labels could not be told from the folders"
        seen = f" (seen: {error['seen']})" if error.get("seen") else ""
        remedy = "Say below where the labels stand; the images are kept."
        if not sharing.may_change(dataset):
            remedy = "Its owner can say where the labels stand."
        note = alert(f"{why}{seen}. {remedy}", kind="warning")
    else:
        note = ""
    return (
        f'<article data-dataset="{escape(dataset["id"])}" data-state="mapping"><h2 class="big">'
        f"{escape(dataset['name'])}</h2>{note}</article>"
    )


def change_button(dataset: dict[str, Any]) -> str:
    """The button by which a person asks for the form; nothing for whoever may not change the data set."""
    if not sharing.may_change(dataset):
        return ""
    change = button("Change where labels come from", "map", look="quiet button-small", id=dataset["id"])
    return f'<div class="mapping-end">{change}</div>'


def render_form(dataset: dict[str, Any], found: dict[str, Any]) -> str:
    """The form, filled in with what is set or guessed."""
    mapping = found["mapping"]
    back = "" if dataset["status"] == "mapping" else button("Leave it as it is", "unmap")
    dropped = '<p class="hint">Decisions about findings so far are dropped with the labels.</p>' if back else ""
    names = "\n".join([f"{old} = {new}" for old, new in mapping.get("rename", {}).items()]
                      + [f"{old} =" for old in mapping.get("leave_out", [])])  # fmt: skip
    return (
        f'<section class="card mapping" aria-label="Where labels come from"><h3>Where do the labels come from?</h3>'
        f"<form novalidate>{cards('source', 'Labels come from', SOURCES, value=mapping['source'], columns=2)}"
        f"{_folder_fields(mapping)}{_table_fields(found)}{_pattern_field(mapping)}{_tag_field(mapping)}"
        '<details class="fold"><summary>Rename classes, or leave some out</summary>'
        '<div class="field"><label for="f-names">Names <small>one a line</small></label>'
        f'<textarea id="f-names" name="names" rows="4" aria-describedby="h-names" spellcheck="false">{escape(names)}'
        '</textarea><span class="hint" id="h-names">As it stands in the data, an equals sign, the name to use: '
        "<code>0 = healthy</code>. With nothing after the equals sign the class is left out.</span></div></details>"
        f'{dropped}<div class="mapping-end"><button type="submit" class="button button-primary">{icon("check")}'
        f"<span>Use these labels</span></button>{back}</div></form></section>"
    )


def _folder_fields(mapping: dict[str, Any]) -> str:
    depth = str(mapping.get("depth") or "")
    control = select("depth", "Folder that names the class", DEPTHS, value=depth,
                     hint="Counted below the folder that was chosen.")  # fmt: skip
    return f'<div data-for="folders">{control}</div>'


def _table_fields(found: dict[str, Any]) -> str:
    names = found["tables"]
    if not names:
        return (
            '<div data-for="table"><p class="hint">There is no table among these files. Put a CSV or Excel file into '
            "the folder, and choose the folder again.</p></div>"
        )
    shown = found.get("table") or {}
    mapping = found["mapping"]
    current = mapping.get("table") or shown.get("name") or ""
    options = [(name, name) for name in names]
    if current not in names:
        options.insert(0, ("", "Choose a table"))
    rows = f"{words.plural(shown['rows'], 'row')}." if shown else "The tables that came with the images."
    parts = [select("table", "Table", options, value=current, hint=rows)]
    if len(shown.get("sheets") or []) > 1:
        sheets = [(name, name) for name in shown["sheets"]]
        parts.append(select("sheet", "Sheet", sheets, value=shown["sheet"] or "", hint="Of this workbook."))
    columns = mapping.get("columns") or {}
    choices = [(column["name"], _column_text(column)) for column in shown.get("columns") or [] if column["name"]]
    for key, label, hint in COLUMNS:
        none = ("", "Choose a column" if key in ("file", "label") else "None")
        term = "" if key in ("file", "label") else "if there is one"
        parts.append(select(f"column_{key}", label, [none, *choices], value=columns.get(key, ""), hint=hint, term=term))
    guessed = "".join(f"<li>{escape(sentence)}</li>" for sentence in found["guessed"])
    note = f'<div class="alert alert-info" role="status">{icon("info")}<ul>{guessed}</ul></div>' if guessed else ""
    return f'<div data-for="table">{note}<div class="grid-2">{"".join(parts)}</div></div>'


def _column_text(column: dict[str, Any]) -> str:
    if column["samples"]:
        return f"{column['name']}: {', '.join(column['samples'])}"
    return f"{column['name']} ({words.plural(column['distinct'], 'value')}, not shown)"


def _pattern_field(mapping: dict[str, Any]) -> str:
    control = text(
        "pattern",
        "Pattern",
        placeholder=r"(?P<patient>\d+)_(?P<label>[a-z]+)",
        hint="A regular expression with named groups: label, patient and split are used, others are shown. "
        "It is looked for in the file's name, or in the whole path if it holds a slash.",
        term="regular expression",
    )
    value = escape(mapping.get("pattern") or "")
    control = control.replace('name="pattern"', f'name="pattern" value="{value}" spellcheck="false"', 1)
    control = control.replace('maxlength="200"', 'maxlength="300"', 1)
    optional = '<p class="hint" data-for="folders">Optional here: a pattern can find the patient in the names.</p>'
    return f'<div data-for="pattern folders" class="mapping-pattern">{optional}{control}</div>'


def _tag_field(mapping: dict[str, Any]) -> str:
    options = [("", "Choose an attribute"), *((tag, tag) for tag in LABEL_TAGS)]
    control = select(
        "label_tag",
        "Attribute",
        options,
        value=mapping.get("label_tag") or "",
        hint="Only attributes that describe the image; patients come from the header by themselves, as codes.",
        term="DICOM keyword",
    )
    return f'<div data-for="dicom">{control}</div>'


def render_preview(found: dict[str, Any]) -> str:
    """What the form would give: counts, classes, examples, and what does not fit with the reasons."""
    problem = found.get("problem")
    if problem:
        seen = f" (seen: {problem['seen']})" if problem.get("seen") else ""
        body = alert(f"{problem['title']}{seen}. {problem['remedy']}", kind="warning")
        return f'<section class="card" data-preview="problem" aria-label="Preview"><h3>Preview</h3>{body}</section>'
    patients = found["patients"]
    tiles = [
        tile(words.count(found["used"]), "images with a class"),
        tile(words.count(found["label_count"]), "classes"),
        tile(words.count(patients) if patients else "–", "patients", "" if patients else "not known"),
        tile(words.count(found["unused"]["count"]), "do not fit"),
    ]
    part = ""
    if found["counted"] < found["images"]:
        part = (
            f'<p class="hint">Counted over the first {words.count(found["counted"])} of '
            f"{words.count(found['images'])} images; all are read when it is applied.</p>"
        )
    return (
        '<section class="card" data-preview="ready" aria-label="Preview"><h3>Preview</h3>'
        f'<div class="tiles" role="status">{"".join(tiles)}</div>{part}{alerts(found["warnings"])}'
        f"{_classes(found)}{_unused(found)}{_rows(found)}</section>"
    )


def _classes(found: dict[str, Any]) -> str:
    if not found["labels"]:
        return ""
    most = max(entry["count"] for entry in found["labels"])
    rows = [
        (
            escape(entry["name"]),
            bar(entry["count"] / most, label=f"{entry['count']} images"),
            words.count(entry["count"]),
        )
        for entry in found["labels"]
    ]
    more = found["label_count"] - len(rows)
    note = f'<p class="hint">And {words.plural(more, "more class", "more classes")}.</p>' if more > 0 else ""
    return table(("Class", "", "Images"), rows, caption="Images of each class", numeric=(2,)) + note


def _unused(found: dict[str, Any]) -> str:
    rows = [
        (escape(entry["reason"]), words.count(entry["count"]), f"<code>{escape(entry['example'])}</code>")
        for entry in found["unused"]["reasons"][:SHOWN_REASONS]
    ]
    if found["rows_without_file"]:
        rows.append(("rows of the table without an image", words.count(found["rows_without_file"]), ""))
    if not rows:
        return ""
    body = table(("Does not fit", "Files", "For example"), rows, caption="What does not fit, and why", numeric=(1,))
    return f'<div id="mapping-unused">{body}</div>'


def _rows(found: dict[str, Any]) -> str:
    groups = list(dict.fromkeys(name for row in found["rows"] for name in row["groups"]))
    rows = [
        (
            f"<code>{escape(row['file'])}</code>",
            escape(row["label"] or ("–" if not row["reason"] else row["reason"])),
            f"<code>{escape(row['patient'])}</code>" if row["patient"] else "–",
            escape(words.side_name(row["split"])) if row["split"] else "–",
            *(escape(row["groups"].get(name, "–")) for name in groups),
        )
        for row in found["rows"]
    ]
    head = ("File", "Class", "Patient (coded)", "Split", *(escape(name) for name in groups))
    return f'<div id="mapping-rows">{table(head, rows, caption="The first files")}</div>' if rows else ""
