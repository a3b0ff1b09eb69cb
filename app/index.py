"""The first HTML that a browser gets: the project's style and script are in it, so nothing flashes or comes late."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio's page describes Gradio to sites that show previews of links; it is not what this page is.
_PREVIEW = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*?/>\s*', re.DOTALL)
_DESCRIPTION = b'<meta name="description" content="Fine-tune vision transformers on medical images. Research tool.">'


class IndexPage:
    """Wraps Gradio's application and changes the one HTML page that it serves, nothing else.

    Args:
        app: Gradio's application.
        head: what to put at the start of ``<head>``.
    """

    def __init__(self, app: ASGIApp, head: str) -> None:
        self.app = app
        self.head = head.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; only ``GET /`` is collected whole and changed."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else None
        if path not in ("", "/") or scope.get("method") != "GET":
            await self.app(scope, receive, send)
            return
        start: list[Message] = []
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.append(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            page = self.change(bytes(body))
            headers = [(key, value) for key, value in start[0]["headers"] if key.lower() != b"content-length"]
            headers.append((b"content-length", str(len(page)).encode()))
            await send({**start[0], "headers": headers})
            await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, collect)

    def change(self, page: bytes) -> bytes:
        """Take the previews out of a page and put the project's own head in."""
        page = _PREVIEW.sub(b"", page)
        return page.replace(b"</head>", b"<title>WaRA Studio</title>" + _DESCRIPTION + self.head + b"</head>", 1)
