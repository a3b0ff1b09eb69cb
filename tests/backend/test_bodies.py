"""How much a request may bring that is read whole: little where anybody may send, and never the server's memory."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from backend import bodies
from backend.bodies import SMALL_BODY
from tests.backend.support import API, Server, Studio, as_form, assert_problem, study

MEBIBYTE = 1024 * 1024
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
MULTIPART = {"content-type": "multipart/form-data; boundary=x"}


def pieces(count: int, size: int = 16 * 1024) -> Iterator[bytes]:
    """A body whose size is not announced."""
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("headers", [JSON, FORM, MULTIPART, {"content-type": "application/offset+octet-stream"}, {}])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", f"{API}/session"), ("POST", "/login"), ("POST", f"{API}/me/tokens"), ("PUT", f"{API}/me/password")],
)
def test_where_names_and_passwords_go_little_is_taken_whatever_type_it_says(
    studio: Studio, method: str, path: str, headers: dict[str, str]
) -> None:
    told = studio.http.request(method, path, content=bytes(SMALL_BODY + 1), headers=headers)
    problem = assert_problem(told, 413, "body-too-large")
    assert problem["seen"] == "more than 64 KiB"
    assert told.headers["x-frame-options"] == "DENY"
    untold = studio.http.request(method, path, content=pieces(5), headers=headers)
    if path == "/login" and headers not in (FORM, MULTIPART):
        assert untold.status_code == 409  # what is no form is not read at all
    else:
        assert_problem(untold, 413, "body-too-large")


def test_what_is_just_small_enough_is_read(studio: Studio) -> None:
    body = b'{"name": "a", "password": "b"}'.ljust(SMALL_BODY)
    assert_problem(studio.http.post(f"{API}/session", content=body, headers=JSON), 409, "no-accounts")


@pytest.mark.parametrize("headers", [JSON, MULTIPART, {"content-type": "text/plain"}])
def test_an_order_has_a_limit_whatever_type_it_says(
    studio: Studio, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "LARGEST_BODY", MEBIBYTE)
    answer = studio.http.post(f"{API}/jobs", content=pieces(2, MEBIBYTE), headers=headers)
    assert_problem(answer, 413, "body-too-large")


def test_files_are_not_held_to_the_limit_of_orders(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LARGEST_BODY", 1024)
    assert studio.http.post(f"{API}/datasets", files=as_form(study(5))).status_code == 201


def test_nobody_fills_the_memory_of_a_server_with_accounts(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", WARA_ADMIN_PASSWORD="correct horse battery staple")
    server.folder.mkdir()
    try:
        studio = server.start()
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        for path, headers in ((f"{API}/session", JSON), ("/login", FORM), (f"{API}/session", MULTIPART)):
            answer = studio.http.post(path, content=pieces(128, MEBIBYTE), headers=headers)
            assert_problem(answer, 413, "body-too-large")
        assert process.memory_info().rss - before < 64 * MEBIBYTE
    finally:
        server.stop(signal.SIGKILL)
