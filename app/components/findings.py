"""Findings of the data report as cards with their images and fixes, and the decisions taken, each with its undo."""

from __future__ import annotations

from typing import Any

from app.components import format as words
from app.components.html import button, escape

SHOWN_OPENLY = 2
TITLES = {
    "leaks": "Patients on two sides",
    "copies": "Exact copies",
    "near-copies": "Nearly equal images",
    "text": "Text in the picture",
    "drift": "Sides that differ",
    "small-classes": "Small classes",
    "unreadable": "Files that were not used",
}
SEVERITIES = {"serious": "Serious", "warning": "Warning", "note": "Note"}
DONE = {"drop": "left out", "move": "moved to one side", "group": "treated as one patient", "accept": "looked at"}


def render_findings(dataset_id: str, report: dict[str, Any], *, change: bool = True) -> str:
    """One card a finding; files that were not used have a section of their own on the page.

    Without ``change`` there are no buttons: whoever looks may not decide about this data set.
    """
    shown = [finding for finding in report.get("findings") or [] if finding["kind"] != "unreadable"]
    return "".join(_card(dataset_id, finding, change) for finding in shown)


def render_decisions(dataset_id: str, report: dict[str, Any], *, change: bool = True) -> str:
    """What was decided, in order, each with a button that takes it back (with ``change``); nothing when nothing was."""
    decisions, masks = report.get("decisions") or [], report.get("masks") or []
    if not decisions and not masks:
        return ""
    # What was covered stands among the decisions too, but says more of itself in its own list.
    taken = [(number, decision) for number, decision in enumerate(decisions) if decision["fix"] != "mask"]
    rows = "".join(_decision(dataset_id, number, decision, change) for number, decision in taken)
    rows += "".join(map(_mask, masks))
    hints = []
    if taken:
        hints.append("Training goes by the decisions and keeps them with the model; they leave the files as they are.")
    if masks:
        hints.append("What was covered was overwritten in the stored files, and cannot be brought back.")
    return (
        f'<section class="card" id="data-decisions"><h3>Decisions</h3><ul class="decisions">{rows}</ul>'
        f'<p class="hint">{" ".join(hints)}</p></section>'
    )


def _card(dataset_id: str, finding: dict[str, Any], change: bool) -> str:
    groups = finding["groups"]
    rest = finding["group_count"] - len(groups)
    # What no button mends is shown on request only.
    openly = SHOWN_OPENLY if finding["fixes"] else 0
    folded = "".join(map(_group, groups[openly:]))
    if folded:
        more = f'<p class="hint">and {words.count(rest)} more</p>' if rest else ""
        number = words.count(finding["group_count"] - openly)
        summary = f"Show {'more' if openly else 'the images'} ({number})"
        folded = f'<details class="fold"><summary>{summary}</summary>{folded}{more}</details>'
    fixes = _masking(dataset_id) if finding["kind"] == "text" else ""
    fixes += "".join(_fix(dataset_id, finding["id"], fix) for fix in finding["fixes"])
    fixes = f'<ul class="fixes">{fixes}</ul>' if fixes and change else ""
    severity = finding["severity"]
    return (
        f'<section class="card finding" data-finding="{escape(finding["id"])}" data-severity="{escape(severity)}">'
        f'<h3>{escape(TITLES.get(finding["kind"], finding["kind"]))} <span class="severity">'
        f"{escape(SEVERITIES.get(severity, severity))}</span></h3><p>{escape(finding['sentence'])}</p>"
        f"{''.join(map(_group, groups[:openly]))}{folded}"
        f"{fixes}</section>"
    )


def _group(group: dict[str, Any]) -> str:
    figures = "".join(_figure(image) for image in group["images"] if image.get("url"))
    more = group["image_count"] - len(group["images"])
    note = group["note"] + (f", and {words.plural(more, 'more image')}" if more > 0 else "")
    return f'<div class="finding-group"><p class="hint">{escape(note)}</p><div class="lightbox">{figures}</div></div>'


def _figure(image: dict[str, Any]) -> str:
    file, label = escape(image["file"]), escape(image["label"])
    return (
        f'<figure><img src="{escape(image["url"])}" alt="{file}, class {label}" title="{file}" loading="lazy">'
        f"<figcaption><b>{label}</b><span>{escape(words.side_name(image.get('split') or ''))}</span>"
        "</figcaption></figure>"
    )


def _fix(dataset_id: str, finding: str, fix: dict[str, Any]) -> str:
    press = button(fix["label"], "fix", look="quiet button-small", id=dataset_id, finding=finding, fix=fix["fix"])
    return f'<li>{press}<span class="hint">{escape(fix["sentence"])}</span></li>'


def _masking(dataset_id: str) -> str:
    press = button("Look and cover", "mask", look="primary button-small", id=dataset_id)
    sentence = "Shows each image large; what you mark is blackened in the stored file."
    return f'<li>{press}<span class="hint">{sentence}</span></li>'


def _mask(entry: dict[str, Any]) -> str:
    places = words.plural(len(entry["rectangles"]), "place")
    text = f"Text in the picture: {words.plural(entry['images'], 'image')} covered in {places}"
    when = escape(words.moment(entry["when"]))
    return f'<li><span>{escape(text)} <small class="hint">{when}</small></span></li>'


def _decision(dataset_id: str, number: int, decision: dict[str, Any], change: bool) -> str:
    kind = next((kind for kind in sorted(TITLES, key=len, reverse=True) if decision["finding"].startswith(kind)), "")
    images = words.plural(decision["images"], "image")
    text = f"{TITLES.get(kind, decision['finding'])}: {images} {DONE.get(decision['fix'], decision['fix'])}"
    undo = button("Undo", "undo", look="quiet button-small", id=dataset_id, number=str(number))
    undo = undo if change else ""
    when = escape(words.moment(decision["when"]))
    return f'<li><span>{escape(text)} <small class="hint">{when}</small></span>{undo}</li>'
