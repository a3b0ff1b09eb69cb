"""The client gives answers as they are and every failure as one sentence."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from app.client import Backend, BackendProblem, browser_url

DATASETS = {"items": [{"id": "a", "created": "1"}, {"id": "b", "created": "2"}]}
PROBLEM = {"title": "T", "detail": "The rank is 0. Use 8.", "code": "rank"}
ANSWERS: dict[str, tuple[int, str, str]] = {
    "/api/v1/datasets": (200, "application/json", json.dumps(DATASETS)),
    "/api/v1/demo": (200, "application/json", json.dumps({"classes": ["a"], "images": []})),
    "/api/v1/datasets/demo": (201, "application/json", json.dumps({"id": "d"})),
    "/api/v1/models": (422, "application/problem+json", json.dumps(PROBLEM)),
    "/api/v1/jobs": (502, "text/html", "<html>Bad gateway, nginx</html>"),
    "/api/v1/health": (200, "text/html", "<html>Another program</html>"),
    "/api/v1/backbones": (307, "text/html", ""),
    "/api/v1/models/%2E%2E/card": (200, "text/markdown", "# Dots"),
    "/api/v1/models/..%2Fhealth/card": (200, "text/markdown", "# Card"),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, kind, body = ANSWERS[self.path]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def ask(address: str, call: str, *arguments: Any) -> Any:
    async def run() -> Any:
        backend = Backend(address)
        try:
            return await getattr(backend, call)(*arguments)
        finally:
            await backend.close()

    return asyncio.run(run())


@pytest.mark.parametrize("ending", ["", "/", "/api/v1", "/api/v1/"])
def test_the_address_may_name_the_api_or_not(address: str, ending: str) -> None:
    assert [item["id"] for item in ask(address + ending, "datasets")] == ["b", "a"]


def test_the_demo_is_asked_for_by_its_own_address(address: str) -> None:
    assert ask(address, "add_demo") == {"id": "d"}
    assert ask(address, "demo")["classes"] == ["a"]


def test_a_refusal_is_its_own_sentence(address: str) -> None:
    with pytest.raises(BackendProblem) as caught:
        ask(address, "models")
    assert (caught.value.sentence, caught.value.status, caught.value.code) == ("The rank is 0. Use 8.", 422, "rank")


def test_an_answer_of_another_kind_shows_nothing_of_its_text(address: str) -> None:
    with pytest.raises(BackendProblem) as caught:
        ask(address, "jobs")
    assert "nginx" not in caught.value.sentence and "502" in caught.value.sentence


@pytest.mark.parametrize("call", ["health", "backbones"])
def test_what_is_no_answer_of_this_interface_is_said_in_words(address: str, call: str) -> None:
    with pytest.raises(BackendProblem) as caught:
        ask(address, call)
    assert "Another program" not in caught.value.sentence and caught.value.sentence.endswith(".")


def test_no_server_at_all_is_said_in_words(address: str) -> None:
    with pytest.raises(BackendProblem, match="does not answer"):
        ask("http://127.0.0.1:9", "datasets")


def test_an_identifier_cannot_lead_to_another_resource(address: str) -> None:
    assert ask(address, "card", "../health") == "# Card"
    assert ask(address, "card", "..") == "# Dots"
    assert browser_url("models", "../x", "download", theme="dark", cls="a&b", layer="") == (
        "api/v1/models/..%2Fx/download?theme=dark&cls=a%26b"
    )
