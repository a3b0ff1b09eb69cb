"""Puts the pages together and mounts them at ``/`` of the server."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from app.client import Backend, BackendProblem
from app.components import format as words
from app.components.choice import Choice
from app.components.events import listen
from app.components.html import ASSETS, alert, escape, icon, logo, panel
from app.components.job import render_chip
from app.index import IndexPage
from app.pages import account, analyse, classify, data, models, train

PAGES = {"data": ("Data", data), "train": ("Train", train), "classify": ("Classify", classify)}
PAGES |= {"analyse": ("Analyse", analyse), "models": ("Models", models)}
STATIC = "/studio"
SCRIPTS = (
    "vendor/tus.min.js", "studio.js", "upload.js", "mask.js", "classify.js", "results.js", "exports.js", "account.js",
)  # fmt: skip
STYLES = ("style.css", "results.css", "account.css")


def mount(
    fastapi_app: FastAPI, api_url: str, *, root_path: str = "", certificate: str | Path | None = None
) -> FastAPI:
    """Mount the pages at ``/`` of the server; routes registered before keep working.

    Args:
        fastapi_app: the server, with its API already registered.
        api_url: where the pages reach the API, e.g. ``"http://127.0.0.1:7860"`` (``/api/v1`` may be left out).
        root_path: the path at which a proxy shows the server, e.g. ``"/studio"``.
        certificate: the server's own, where it speaks https.

    Returns:
        The same server.
    """
    fastapi_app.mount(STATIC, StaticFiles(directory=ASSETS), name="studio")
    blocks = build(Backend(api_url, certificate))
    gr.mount_gradio_app(
        fastapi_app,
        blocks,
        path="/",
        root_path=root_path or None,
        theme=theme(),
        run_history=False,
        footer_links=[],
        show_error=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        # Files go to the API alone; Gradio's own upload route has nothing to take.
        max_file_size="1kb",
        favicon_path=str(ASSETS / "favicon.svg"),
    )
    pages = fastapi_app.routes[-1]
    pages.app = IndexPage(pages.app, head=head())  # type: ignore[attr-defined]  # the mount just made
    return fastapi_app


def theme() -> gr.themes.Base:
    """Gradio's plain theme with the page's type family; the style sheet brings the files of it."""
    return gr.themes.Base(
        font=["IBM Plex Sans", "system-ui", "sans-serif"], font_mono=["ui-monospace", "Consolas", "monospace"]
    )


def head() -> str:
    """Style sheets and scripts of the page; an address changes with its content, so no old copy is used."""

    def address(name: str) -> str:
        stamp = hashlib.sha256((ASSETS / name).read_bytes()).hexdigest()[:12]
        return f".{STATIC}/{name}?v={stamp}"

    scripts = "".join(f'<script src="{address(name)}"></script>' for name in SCRIPTS)
    return "".join(f'<link rel="stylesheet" href="{address(name)}">' for name in STYLES) + scripts


def build(backend: Backend) -> gr.Blocks:
    """Build the header, the five pages and the footer."""
    with gr.Blocks(title="WaRA Studio", fill_width=True, analytics_enabled=False) as blocks:
        header = panel(
            render_header(None, []),
            elem_id="studio-header",
            wire="studio.header(element, trigger, ['show_data', 'show_train', 'show_classify', 'show_analyse',"
            " 'show_models', 'show_account'])",
        )
        notice = panel(elem_id="studio-notice")
        parts: dict[str, dict[str, Any]] = {}
        for key, (_, page) in PAGES.items():
            with gr.Column(elem_id=f"page-{key}", elem_classes="page"):
                parts[key] = page.build(backend)
        with gr.Column(elem_id="page-account", elem_classes="page"):
            parts["account"] = account.build(backend)
        panel(render_footer(), elem_id="studio-footer")
        about = gr.State(None)
        pulse = gr.Timer(2.0)

        async def greet() -> tuple[Any, ...]:
            try:
                health = await backend.health() | {"me": await backend.me()}
                jobs = await backend.jobs()
            except BackendProblem as problem:
                return render_header(None, []), alert(problem.sentence), None
            sentence = health.get("notice")
            bar = alert(sentence, kind="info") if sentence else ""
            return render_header(health, jobs), bar, health

        async def beat(health: dict[str, Any] | None, watching: Choice[str | None]) -> tuple[Any, ...]:
            if health is None or health.get("device") is None:  # right after the start
                return *(await greet()), gr.skip(), gr.skip()
            try:
                jobs, shown = await parts["train"]["look"](watching)
            except BackendProblem as problem:
                return render_header(None, []), alert(problem.sentence), None, gr.skip(), gr.skip()
            return render_header(health, jobs), gr.skip(), health, *shown

        listen(blocks.load, greet, None, [header, notice, about])
        watched = parts["train"]["inputs"]
        listen(pulse.tick, beat, [about, *watched], [header, notice, about, *parts["train"]["live"]], repeats=True)
        for key, part in parts.items():
            listen(blocks.load, part["show"], part["inputs"], part["outputs"])
            listen(getattr(header, f"show_{key}"), part["show"], part["inputs"], part["outputs"])
    return blocks


def render_header(health: dict[str, Any] | None, jobs: list[dict[str, Any]]) -> str:
    """Mark, pages, what runs now, the device, light or dark."""
    links = "".join(f'<a href="#{key}">{icon(_mark(key))}<span>{title}</span></a>' for key, (title, _) in PAGES.items())
    device = ""
    if health:
        free = words.size(health.get("disk_free_mb"))
        name = escape((health.get("device") or {}).get("name") or "")
        device = f'<span class="device" title="{free} of disk space free">{name}</span>'
        device += _render_person(health.get("me"))
    return (
        '<button type="button" class="skip" data-part="skip">Skip to the page</button><div class="bar-inner">'
        f'<a class="brand" href="#data">{logo()}<span>WaRA Studio</span></a><nav aria-label="Pages">{links}</nav>'
        f'<div class="status">{render_chip(jobs)}{device}<button type="button" class="button button-icon"'
        f' data-part="theme">{icon("sun")}{icon("moon")}<span>Light or dark</span></button></div></div>'
    )


def _render_person(me: dict[str, Any] | None) -> str:
    """Who is signed in, with the way out; nothing on a server without accounts."""
    if not me or not me.get("id"):
        return ""
    return (
        f'<a class="link person" href="#account" data-may="{escape(" ".join(me["scopes"]))}">{escape(me["name"])}</a>'
        '<form method="post" action="logout"><button type="submit" class="button button-quiet button-small">Sign out'
        "</button></form>"
    )


def _mark(page: str) -> str:
    return "folder" if page == "data" else page


def render_footer() -> str:
    """The standing note, and where the API is described."""
    return (
        "<footer><p><strong>Research tool, not a medical device.</strong> Images stay on this server.</p>"
        '<p><a class="link" href="#account">Accounts</a> · <a class="link" href="api/docs">API</a></p></footer>'
    )
