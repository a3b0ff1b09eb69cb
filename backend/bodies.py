"""How large a request may be whose body is read whole: counted while it comes, so that nobody can fill the memory."""

from __future__ import annotations

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.problems import RequestRefused, as_problem, problem_response
from backend.tus.protocol import CHUNK_TYPE
from backend.uploads import MAX_DRAINED_BYTES

KIBIBYTE = 1024
# Names, passwords and tokens: anybody may send here, before it is known who asks.
SMALL_BODY = 64 * KIBIBYTE
SMALL_PATHS = frozenset({"/login", "/logout", "/api/v1/session", "/api/v1/me"})
SMALL_FOLDER = "/api/v1/me/"
# Largest are the lists of a batch's files: as many as it takes (`backend.batches.MAX_FILES`), of 300 bytes each.
LARGEST_BODY = 64 * KIBIBYTE * KIBIBYTE
# Their routes take them piece by piece onto the disk, with limits of their own.
STREAMED_TYPES = ("multipart/", CHUNK_TYPE)


class BodyLimit:
    """Answers 413 to a body that would be read into memory and is too large for its address."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(scope, receive)
        answered = False

        async def send_on(message: Message) -> None:
            nonlocal answered
            if body.too_large and not answered:
                return  # what the application says of a body that ends early
            answered = True
            await send(message)

        if not body.too_large:
            await self.app(scope, body.receive, send_on)
        if body.too_large and not answered:
            await body.let_pass()
            await problem_response(as_problem(_refusal(body.limit)))(scope, receive, send)


class _Body:
    """A request's body on its way.

    Attributes:
        limit: bytes that may come; None for any number.
        too_large: whether more are announced, or have come.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        path = get_route_path(scope)
        small = path in SMALL_PATHS or path.startswith(SMALL_FOLDER)
        streamed = headers.get("content-type", "").lower().startswith(STREAMED_TYPES)
        self.limit = SMALL_BODY if small else None if streamed else LARGEST_BODY
        announced = headers.get("content-length", "")
        self.too_large = self.limit is not None and announced.isdecimal() and int(announced) > self.limit
        self._scope, self._receive = scope, receive
        self._come, self._whole = 0, False

    async def receive(self) -> Message:
        """Give the next message of the request.

        Raises:
            HTTPException: 413: with it more would have come than may.
        """
        if self.limit is None and getattr(self._scope.get("route"), "body_field", None) is not None:
            self.limit = LARGEST_BODY  # whatever the type says, this route reads all of it first
        message = await self._next()
        if self.limit is not None and self._come > self.limit:
            self.too_large = True
            raise HTTPException(413)
        return message

    async def let_pass(self) -> None:
        """Take what is still to come, and keep none of it: a sender reads the answer when all is sent."""
        come = self._come
        while not self._whole and self._come - come <= MAX_DRAINED_BYTES:
            await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._come += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        return message


def _refusal(limit: int | None) -> RequestRefused:
    return RequestRefused(
        413, "The request is larger than this address takes", seen=f"more than {(limit or 0) // KIBIBYTE:,} KiB",
        remedy="Send less at once; files are uploaded as a form (multipart/form-data).", code="body-too-large",
    )  # fmt: skip
