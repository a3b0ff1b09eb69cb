"""HTML that pages are made of: escaping, icons, alerts, tables, empty states, panels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from html import escape as _escape
from pathlib import Path
from typing import Any

import gradio as gr

from app.components import format as words

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def escape(text: object) -> str:
    """Make any text safe inside HTML text and quoted attributes."""
    return _escape(str(text), quote=True)


@cache
def icon(name: str) -> str:
    """Return one of the project's icons as inline SVG, hidden from screen readers (text stands beside it)."""
    svg = (ASSETS / "icons" / f"{name}.svg").read_text("utf-8").strip()
    return svg.replace("<svg ", '<svg class="icon" aria-hidden="true" focusable="false" ', 1)


@cache
def logo() -> str:
    """Return the mark of the product as inline SVG."""
    return (ASSETS / "logo.svg").read_text("utf-8").strip().replace("<svg ", '<svg class="logo" aria-hidden="true" ', 1)


def page_head(title: str, lead: str) -> str:
    """Title of a page with one sentence that says what it is for."""
    return f'<header class="page-head"><h1 tabindex="-1">{escape(title)}</h1><p>{escape(lead)}</p></header>'


def alert(sentence: str, *, kind: str = "error", title: str | None = None) -> str:
    """A message box: ``kind`` is ``error``, ``warning`` or ``info``."""
    mark = icon("info" if kind == "info" else "alert")
    role = "alert" if kind == "error" else "status"
    head = f"<strong>{escape(title)}</strong> " if title else ""
    return f'<div class="alert alert-{kind}" role="{role}">{mark}<p>{head}{escape(sentence)}</p></div>'


def alerts(sentences: Sequence[str], *, kind: str = "warning") -> str:
    """Several messages in one box; nothing when there are none."""
    if len(sentences) < 2:
        return "".join(alert(sentence, kind=kind) for sentence in sentences)
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<div class="alert alert-{kind}" role="status">{icon("alert")}<ul>{items}</ul></div>'


def empty(title: str, sentence: str, *, page: str | None = None, action: str = "", mark: str = "image") -> str:
    """An empty state: what is missing and the one next step, as a link to ``page`` when there is one."""
    link = f'<a class="button button-primary" href="#{page}">{escape(action)}</a>' if page else ""
    return (
        f'<div class="empty"><div class="empty-mark">{icon(mark)}</div>'
        f"<h2>{escape(title)}</h2><p>{escape(sentence)}</p>{link}</div>"
    )


def next_step(sentence: str, action: str, page: str, wish: str = "") -> str:
    """A line that names the next step and leads there; ``wish`` is a choice for a form of that page."""
    wished = f' data-wish="{escape(wish)}"' if wish else ""
    return (
        f'<div class="next">{icon("arrow")}<p><strong>Next.</strong> {escape(sentence)}</p>'
        f'<a class="button button-quiet" href="#{page}"{wished}>{escape(action)}</a></div>'
    )


def button(label: str, action: str, *, look: str = "quiet", mark: str | None = None, **data: str | None) -> str:
    """A button that sends ``action`` with its data to Python; ``confirm`` asks first in a dialog."""
    attributes = "".join(
        f' data-{key.replace("_", "-")}="{escape(value)}"' for key, value in data.items() if value is not None
    )
    picture = icon(mark) if mark else ""
    return (
        f'<button type="button" class="button button-{look}" data-action="{escape(action)}"{attributes}>'
        f"{picture}<span>{escape(label)}</span></button>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, numeric: Sequence[int] = ()) -> str:
    """A table. ``head`` and ``rows`` hold finished HTML; the columns in ``numeric`` are set to the right."""

    def cell(tag: str, column: int, content: str, scope: str = "") -> str:
        css = ' class="num"' if column in numeric else ""
        return f"<{tag}{css}{scope}>{content}</{tag}>"

    top = "".join(cell("th", column, content, ' scope="col"') for column, content in enumerate(head))
    body = "".join(
        "<tr>"
        + "".join(
            cell("th", 0, content, ' scope="row"') if column == 0 else cell("td", column, content)
            for column, content in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="table-wrap"><table><caption class="sr-only">{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def bar(fraction: float, *, label: str, css: str = "") -> str:
    """A horizontal bar of ``fraction`` (0 to 1); ``label`` is what a screen reader says."""
    width = 100 * min(max(fraction, 0.0), 1.0)
    return f'<span class="bar {css}" role="img" aria-label="{escape(label)}"><i style="width:{width:.1f}%"></i></span>'


def tile(value: str, label: str, note: str = "") -> str:
    """One figure with its name, and a small note beneath."""
    small = f"<small>{escape(note)}</small>" if note else ""
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span>{small}</div>'


def stacked(metric: dict[str, Any] | None) -> str:
    """A value with its interval in small type beside it, as finished HTML; a dash where it is not defined."""
    if not metric or metric.get("value") is None:
        return "–"
    text = f"<b>{words.score(metric['value'])}</b>"
    if metric.get("low") is not None and metric.get("high") is not None:
        text += f" <small>[{words.score(metric['low'])}, {words.score(metric['high'])}]</small>"
    return text


def panel(value: str = "", *, elem_id: str | None = None, wire: str | None = None) -> gr.HTML:
    """A part of a page: HTML made in Python, with an optional line of script that wires its events."""
    return gr.HTML(value, elem_id=elem_id, js_on_load=wire, apply_default_css=False, padding=False, container=False)
