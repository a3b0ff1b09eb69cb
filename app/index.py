"""The first HTML that a browser gets: the project's style and script are in it, so nothing flashes or comes late."""

from __future__ import annotations

import base64
import hashlib
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio's page describes Gradio to sites that show previews of links; it is not what this page is.
_PREVIEW = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*?/>\s*', re.DOTALL)
_DESCRIPTION = b'<meta name="description" content="Fine-tune vision transformers on medical images. Research tool.">'


_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


def _policy(page: bytes) -> str:
    """What the page may do: scripts of this server and the ones written in it, by their digests; nothing from outside.

    Gradio sets styles on elements and makes functions of the lines that wire events, hence the two words "unsafe".
    """
    scripts = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(page)
    )
    return (
        f"default-src 'none'; script-src 'self' 'unsafe-eval' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; manifest-src 'self'; "
        "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    )


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
            if message["type"] != "http.response.body":
                await send(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            page = self.change(bytes(body))
            headers = [(key, value) for key, value in start[0]["headers"] if key.lower() != b"content-length"]
            headers.append((b"content-security-policy", _policy(page).encode()))
            headers.append((b"cache-control", b"no-store"))
            headers.append((b"content-length", str(len(page)).encode()))
            await send({**start[0], "headers": headers})
            await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, collect)

    def change(self, page: bytes) -> bytes:
        """Take the previews out of a page and put the project's own head in."""
        page = _PREVIEW.sub(b"", page)
        return page.replace(b"</head>", b"<title>WaRA Studio</title>" + _DESCRIPTION + self.head + b"</head>", 1)
