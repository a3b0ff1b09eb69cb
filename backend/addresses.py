"""Addresses that answers give out: they begin with the path under which a proxy shows the server, if it does."""

from __future__ import annotations

from contextvars import ContextVar

API = "/api/v1"

_root: ContextVar[str] = ContextVar("root", default="")


def serve_under(root_path: str) -> None:
    """Say under which path the running request came; it ends with the request's own context."""
    _root.set(root_path)


def address(path: str) -> str:
    """Return the address of something of the API, e.g. of ``"demo/images/a.png"``, as the asker can use it."""
    return f"{_root.get()}{API}/{path}"
