"""The pages stand under the same sign-in: every route of Gradio, its files and its queue, and what they show."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.backend.support import API, Server

PASSWORD = "correct horse battery staple"
OPEN = {"/favicon.ico"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with its pages, an admin of the name admin and a member of the name ben."""
    folder = tmp_path_factory.mktemp("pages")
    server = Server(folder / "data", WARA_FRONT_END="true", WARA_ADMIN_PASSWORD=PASSWORD)
    studio = server.start()
    try:
        found = str(studio.http.base_url).rstrip("/")
        with browser(found, "admin") as admin:
            order = {"name": "ben", "password": PASSWORD, "role": "member"}
            assert admin.post(f"{API}/accounts", json=order).status_code == 201
            assert admin.post(f"{API}/datasets/demo").status_code == 201
        yield found
    finally:
        server.stop(signal.SIGTERM)


@contextmanager
def browser(address: str, name: str | None = None) -> Iterator[httpx.Client]:
    """A browser, in which somebody is signed in if a name is given."""
    with httpx.Client(base_url=address, trust_env=False, timeout=60, headers={"origin": address}) as client:
        if name is not None:
            entered = client.post(f"{API}/session", json={"name": name, "password": PASSWORD})
            assert entered.status_code == 200, entered.text
        yield client


# In a process of its own: Gradio leaves event loops and sockets behind.
_LIST_ROUTES = """
import json
import gradio as gr
from fastapi import FastAPI

def walk(routes):
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from walk(inner.routes)
        elif getattr(route, "path", None):
            yield from ((method, route.path) for method in getattr(route, "methods", None) or ["GET"])

with gr.Blocks() as blocks:
    pass
mounted = gr.mount_gradio_app(FastAPI(), blocks, path="/", ssr_mode=False, pwa=False, mcp_server=False)
print(json.dumps(sorted(set(walk(mounted.routes[-1].app.routes)))))
"""


def gradio_routes() -> list[tuple[str, str]]:
    """Every method and path of Gradio's own application, as it is mounted."""
    done = subprocess.run([sys.executable, "-c", _LIST_ROUTES], capture_output=True, text=True, check=True)
    return [(method, path) for method, path in json.loads(done.stdout.splitlines()[-1])]


def test_no_route_of_gradio_answers_whoever_is_nobody(address: str) -> None:
    routes = gradio_routes()
    assert len(routes) > 60 and ("GET", "/gradio_api/file={path_or_url:path}") in routes
    with browser(address) as nobody:
        for method, path in routes:
            if path in OPEN:
                continue
            filled = re.sub(r"{[^}]*}", "etc", path).replace("file=etc", "file=/etc/passwd")
            answer = nobody.request(method, filled)
            assert answer.status_code == 401, (method, filled, answer.status_code)


@pytest.mark.parametrize(
    "path", ["/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd", "/gradio_api/file=data/wara.db",
             "/gradio_api/file/etc/passwd", "/static/..%2f..%2f..%2fetc/passwd", "/studio/..%2f..%2fpyproject.toml"],
)  # fmt: skip
def test_no_file_of_the_machine_is_served_to_whoever_is_signed_in_either(address: str, path: str) -> None:
    with browser(address, "ben") as ben:
        answer = ben.get(path)
        assert answer.status_code in (403, 404) and "root:" not in answer.text and "[tool." not in answer.text


def test_what_a_page_shows_is_what_its_person_may_see(address: str) -> None:
    """The handlers of the pages ask the API in the name of whoever looks: two people, two answers."""
    shown = {name: loaded(address, name) for name in ("admin", "ben")}
    assert "Demo (synthetic images)" in shown["admin"] and "Demo (synthetic images)" not in shown["ben"]
    assert "No images yet" in shown["ben"]
    assert "What was done" in shown["admin"] and "What was done" not in shown["ben"]


def test_a_handler_cannot_be_run_by_a_page_of_another_site_or_with_a_stolen_page_session(address: str) -> None:
    with browser(address, "ben") as ben:
        order = {"fn_index": 0, "data": [], "session_hash": "shared"}
        foreign = ben.post("/gradio_api/run/predict", json=order, headers={"origin": "https://evil.example"})
        assert foreign.status_code == 403
        unsaid = httpx.post(f"{address}/gradio_api/run/predict", json=order, cookies=dict(ben.cookies), trust_env=False)
        assert unsaid.status_code == 403
    # The same session of a page, used by two people, answers each with their own.
    assert "Demo (synthetic images)" in loaded(address, "admin", session="shared")
    assert "Demo (synthetic images)" not in loaded(address, "ben", session="shared")


def loaded(address: str, name: str, session: str | None = None) -> str:
    """All that the pages show when somebody opens them."""
    with browser(address, name) as client:
        config = client.get("/config").json()
        texts = []
        for entry in config["dependencies"]:
            if ["load" in str(target[1]) for target in entry["targets"]] == [True]:
                state = [None] * len(entry["inputs"])
                order = {"fn_index": entry["id"], "data": state, "session_hash": session or name}
                answer = client.post("/gradio_api/run/predict", json=order)
                assert answer.status_code == 200, answer.text
                texts.append(answer.text)
        assert len(texts) >= 6
        return "\n".join(texts)
