"""A server with accounts, and clients that are signed in to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from backend.api.dependencies import Parts
from tests.backend.support import API, Studio, serve, settings_for

ORIGIN = {"origin": "http://127.0.0.1:7860"}
PASSWORD = "correct horse battery staple"


class Ward:
    """A running server with an admin, three members and a viewer, each with a browser of their own."""

    def __init__(self, client: TestClient) -> None:
        self.app: Any = client.app
        self.parts: Parts = self.app.state.parts
        self.anonymous = client
        roles = {"ada": "admin", "ben": "member", "cleo": "member", "dora": "member", "vera": "viewer"}
        self.ids = {name: self.parts.people.add(name, PASSWORD, role).id for name, role in roles.items()}

    def browser(self, name: str) -> TestClient:
        """A browser in which somebody is signed in."""
        client = TestClient(self.app, base_url="http://127.0.0.1:7860", headers=ORIGIN)
        answer = client.post(f"{API}/session", json={"name": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return client

    def studio(self, name: str) -> Studio:
        return Studio(self.browser(name))

    def program(self, name: str, *scopes: str) -> TestClient:
        """A program with a token of somebody's."""
        secret, _ = self.parts.people.issue(self.ids[name], "test", scopes, 1)
        return TestClient(self.app, base_url="http://127.0.0.1:7860", headers={"authorization": f"Bearer {secret}"})


@contextmanager
def ward(folder: Path) -> Iterator[Ward]:
    with serve(settings_for(folder)) as client:
        yield Ward(client)
