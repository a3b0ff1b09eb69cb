"""HEAD wherever there is GET: the same answer without its body, for programs that only ask whether it is there."""

from __future__ import annotations

from starlette._utils import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.guard import API_ROOT

# tus answers HEAD in its own way: how much of an upload has come.
_OTHERS = f"{API_ROOT}/v1/uploads"


class HeadAsGet:
    """Asks the application with GET where HEAD came, and lets only the head of its answer through (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, changed if it is a HEAD of the API or of the figures for Prometheus."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or not _ours(get_route_path(scope)):
            await self.app(scope, receive, send)
            return
        begun = False

        async def send_head(message: Message) -> None:
            nonlocal begun
            if begun:
                return
            await send(message)
            if message["type"] == "http.response.start":
                begun = True
                await send({"type": "http.response.body", "body": b""})

        async def receive_none() -> Message:
            # An answer without an end, such as a job's events, ends when nobody listens.
            return {"type": "http.disconnect"} if begun else await receive()

        await self.app({**scope, "method": "GET"}, receive_none, send_head)


def _ours(path: str) -> bool:
    return path == "/metrics" or (path.startswith(f"{API_ROOT}/") and not path.startswith(_OTHERS))
