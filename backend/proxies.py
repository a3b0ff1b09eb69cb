"""What a proxy in front of the server says of a request is believed of trusted proxies alone."""

from __future__ import annotations

from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from backend.settings import Settings

_SAID_BY_PROXIES = (b"x-forwarded-", b"forwarded", b"x-real-ip")


class FromProxies:
    """Takes the asker's address and scheme from trusted proxies, and puts every path under the root path.

    Such words of anybody else are dropped, and so is the host that even a trusted proxy may only have passed on: it
    must leave the Host header as it came. Whether the proxy has cut off the root path or not makes no difference.

    Args:
        app: what stands behind.
        settings: which proxies are trusted, and the root path.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.root = settings.root_path
        # uvicorn's own reading of these headers, from the right end, past trusted hops only.
        believing = ProxyHeadersMiddleware(cast(Any, self._without_words), trusted_hosts=list(settings.proxies))
        self.trusted = believing.trusted_hosts
        self.believing = cast(ASGIApp, believing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if self.root:
            scope["root_path"] = self.root
            if scope["path"] != self.root and not scope["path"].startswith(f"{self.root}/"):
                scope["path"] = f"{self.root}{scope['path']}"
        client = scope.get("client")
        trusted = client is not None and client[0] in self.trusted
        await (self.believing if trusted else self._without_words)(scope, receive, send)

    async def _without_words(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["headers"] = [
            (name, value) for name, value in scope["headers"] if not name.lower().startswith(_SAID_BY_PROXIES)
        ]
        await self.app(scope, receive, send)
