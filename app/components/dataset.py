"""A data set that is ready, as HTML: its numbers, its classes and sides, its images, and what was passed over."""

from __future__ import annotations

from typing import Any

from app.components import format as words
from app.components import mapping, sharing
from app.components.findings import render_decisions, render_findings
from app.components.html import alerts, bar, button, escape, icon, table, tile

SHOWN_AT_ONCE = 24
SPLIT_SOURCES = {
    "given": "This split came with the data and is kept.",
    "made": "The split was made here; where patients are known, all images of one stay on one side.",
    "completed": "The given split is kept; the side that it lacked was taken out of its training images.",
}


def render_dataset(
    dataset: dict[str, Any], report: dict[str, Any], images: dict[str, Any], choice: dict[str, Any]
) -> str:
    """Everything about one data set that is ready."""
    change = sharing.may_change(dataset)
    parts = [
        '<div class="title-row">',
        f'<h2 class="big">{escape(dataset["name"])}</h2>',
        f'<span class="title-side">{sharing.share_button("dataset", dataset)}'
        f'<a class="button button-primary" data-needs="write" href="#train"'
        f' data-wish="train-form:dataset_id={escape(dataset["id"])}">'
        f"{icon('train')}<span>Train on these images</span></a></span></div>",
        render_tiles(dataset, report),
        render_decisions(dataset["id"], report, change=change),
        render_findings(dataset["id"], report, change=change),
        alerts(report.get("notes") or []),
        render_classes(report["classes"], report),
        mapping.change_button(dataset),
        render_images(dataset, images, choice),
        render_passed_over(report),
    ]
    return f'<article data-dataset="{escape(dataset["id"])}" data-state="ready">{"".join(parts)}</article>'


def render_tiles(dataset: dict[str, Any], report: dict[str, Any]) -> str:
    """The few numbers that say what the data set is."""
    patients = report.get("patients")
    tiles = [
        tile(words.count(report["images"]), "images"),
        tile(words.count(len(dataset["classes"])), "classes"),
        tile(words.count(patients) if patients else "–", "patients", "" if patients else "not known"),
        tile(words.count(report["passed_over"]["count"]), "passed over"),
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def render_classes(classes: list[dict[str, Any]], report: dict[str, Any]) -> str:
    """Images of each class with bars, and on which side of the split they stand; patients below."""
    sides = {side: report["splits"][side] for side in ("train", "val", "test") if side in report["splits"]}
    total = sum(item["count"] for item in classes)
    most = max((item["count"] for item in classes), default=0) or 1
    rows = [
        [
            escape(item["name"]),
            bar(item["count"] / most, label=f"{words.percent(item['count'] / (total or 1))} of the images"),
            words.percent(item["count"] / (total or 1)),
            words.count(item["count"]),
            *(words.count(side["classes"].get(item["name"], 0)) for side in sides.values()),
        ]
        for item in classes
    ]
    rows.append(
        ["<b>All images</b>", "", "", f"<b>{words.count(total)}</b>"]
        + [f"<b>{words.count(side['images'])}</b>" for side in sides.values()]
    )
    if report.get("patients"):
        rows.append(
            ["Patients", "", "", words.count(report["patients"])]
            + [words.count(side.get("patients")) for side in sides.values()]
        )
    head = ("Class", "", "Share", "Images", *(words.side_name(side) for side in sides))
    body = table(head, rows, caption="Images of each class and side", numeric=tuple(range(2, len(head))))
    hint = (
        "The model learns from the training images, is chosen on the validation images and is judged once on the "
        f"test images. {SPLIT_SOURCES.get(report.get('split_source') or '', '')}"
    )
    return (
        f'<section class="card" id="data-classes"><h3>Classes and split</h3>{body}<p class="hint">{hint}</p></section>'
    )


def render_images(dataset: dict[str, Any], images: dict[str, Any], choice: dict[str, Any]) -> str:
    """The sample grid on dark ground, with a filter by class."""
    chips = [_chip("All", "", choice["cls"] is None)]
    chips += [_chip(item["name"], item["name"], choice["cls"] == item["name"]) for item in dataset["classes"]]
    figures = "".join(
        f'<figure><img src="{escape(item["url"])}" alt="Image of class {escape(item["label"])}" loading="lazy">'
        f"<figcaption><b>{escape(item['label'])}</b><span>{escape(words.side_name(item.get('split') or ''))}</span>"
        "</figcaption></figure>"
        for item in images["items"]
    )
    total, offset = images["total"], choice["offset"]
    last = min(offset + SHOWN_AT_ONCE, total)
    back = button("Earlier", "page", look="quiet button-small", offset=str(max(0, offset - SHOWN_AT_ONCE)))
    on = button("Next", "page", look="quiet button-small", offset=str(offset + SHOWN_AT_ONCE))
    place = f"{words.count(offset + 1)} to {words.count(last)} of {words.count(total)}" if total else "None"
    return (
        f'<section class="card" id="data-images"><div class="title-row"><h3>Images</h3>'
        f'<div class="chips" role="group" aria-label="Show the class">{"".join(chips)}</div></div>'
        f'<div class="lightbox">{figures}</div>'
        f'<div class="pager"><span>{place}</span>{back if offset else ""}{on if last < total else ""}</div></section>'
    )


def _chip(label: str, cls: str, on: bool) -> str:
    pressed = "true" if on else "false"
    return (
        f'<button type="button" class="chip" data-action="filter" data-cls="{escape(cls)}"'
        f' aria-pressed="{pressed}">{escape(label)}</button>'
    )


def render_passed_over(report: dict[str, Any]) -> str:
    """Files that were not used, each with its reason."""
    passed = report.get("passed_over") or {}
    files = passed.get("list") or []
    if not files:
        return ""
    rows = [(escape(item["file"]), escape(item["reason"])) for item in files[:200]]
    body = table(("File", "Reason"), rows, caption="Files that were passed over")
    number = passed.get("count", len(files))
    more = f'<p class="hint">The first 200 of {words.count(number)} are shown.</p>' if number > 200 else ""
    return (
        f'<section class="card" id="data-passed-over"><h3>Passed over</h3>'
        f"<p>{words.plural(number, 'file was', 'files were')} not used:</p>{body}{more}</section>"
    )
