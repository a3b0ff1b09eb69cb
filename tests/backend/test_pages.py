"""The pages at the edge: served beside the API, without changing its answers, or left out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backend.support import API, Server, assert_problem, serve, settings_for


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    # A process of its own: Gradio leaves event loops open in the one it is imported into.
    server = Server(tmp_path_factory.mktemp("pages") / "data", WARA_FRONT_END="true")
    server.folder.mkdir()
    yield server.start().http
    server.stop(signal.SIGTERM)


def test_the_page_and_the_api_answer_side_by_side(http: Any) -> None:
    page = http.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert page.headers["x-frame-options"] == "DENY" and page.headers["referrer-policy"] == "same-origin"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert http.get(f"{API}/datasets").json() == {"items": []}
    assert http.get("/api/docs").status_code == 200


@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("GET", "/api/v1/nothing", 404, "not-found"), ("POST", "/api/docs", 405, "method-not-allowed"),
    ("GET", "/api/nothing", 404, "not-found"), ("PUT", f"{API}/health", 405, "method-not-allowed"),
    ("DELETE", f"{API}/jobs/none", 404, "job-not-found"),
])  # fmt: skip
def test_errors_of_the_api_keep_their_form(http: Any, method: str, path: str, status: int, code: str) -> None:
    assert_problem(http.request(method, path), status, code)


def test_the_page_too_answers_this_machine_alone(http: Any) -> None:
    assert_problem(http.get("/", headers={"host": "evil.example"}), 403, "host-refused")
    foreign = http.post("/gradio_api/queue/join", json={}, headers={"origin": "https://evil.example"})
    assert_problem(foreign, 403, "cross-origin-refused")


def test_the_pages_can_be_left_out(tmp_path: Path) -> None:
    with serve(settings_for(tmp_path)) as client:
        assert client.get("/").status_code == 404
        assert client.get(f"{API}/health").json()["status"] == "ok"
