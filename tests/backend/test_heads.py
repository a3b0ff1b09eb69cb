"""HEAD: the head of the answer that GET would give, and nothing behind it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from backend.main import create_app
from tests.backend.support import API, Server, Studio, settings_for

# They say when or to which request they answered.
_OWN = {"date", "x-request-id"}


def heads_of(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in _OWN}


@pytest.mark.parametrize(
    "path", [f"{API}/health", f"{API}/datasets", f"{API}/models/none", "/api/nothing", "/api/openapi.json", "/api/docs"]
)
def test_a_head_is_answered_as_its_get_without_a_body(studio: Studio, path: str) -> None:
    got, asked = studio.http.get(path), studio.http.head(path)
    assert asked.status_code == got.status_code
    assert heads_of(asked) == heads_of(got)
    assert got.content and not asked.content


def test_a_head_of_a_download_says_how_large_it_is(trained: tuple[Studio, dict[str, Any]]) -> None:
    studio, job = trained
    card = f"{API}/models/{job['model_id']}/card"
    asked = studio.http.head(card)
    assert asked.status_code == 200 and not asked.content
    assert int(asked.headers["content-length"]) == len(studio.http.get(card).content)


def test_a_head_of_what_takes_no_get_is_refused(studio: Studio) -> None:
    assert studio.http.head(f"{API}/session").status_code == 405


def test_a_head_of_a_stream_without_an_end_ends(trained: tuple[Studio, dict[str, Any]]) -> None:
    studio, job = trained
    answers: list[httpx.Response] = []
    path = f"{API}/jobs/{job['id']}/events"
    thread = threading.Thread(target=lambda: answers.append(studio.http.head(path)), daemon=True)
    thread.start()
    thread.join(30)
    assert answers and answers[0].status_code == 200 and not answers[0].content


def test_a_head_needs_the_rights_of_its_get(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data", admin_password="correct horse battery staple")
    with TestClient(create_app(settings), base_url="http://127.0.0.1:7860") as client:
        assert client.head(f"{API}/datasets").status_code == 401
        assert client.head("/metrics").status_code == client.get("/metrics").status_code


def test_a_real_server_keeps_the_connection_after_a_head(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    try:
        client = server.start().http
        for _ in range(2):
            assert client.head(f"{API}/health").status_code == 200
            assert client.get(f"{API}/health").json()
    finally:
        server.stop(signal.SIGTERM)
