"""What stands before every request: host and origin checks, safe headers, one log line, no raw error."""

from __future__ import annotations

import logging
import time
from urllib.parse import urlsplit

from starlette._utils import get_route_path
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.addresses import serve_under
from backend.bodies import BodyLimit
from backend.logs import request_id, take_id
from backend.metrics import Metrics
from backend.policies import API_HEADERS, CLOSED, HEADERS
from backend.problems import RequestRefused, as_problem, problem_of, problem_response
from backend.settings import WILDCARD_HOSTS, Settings

API_ROOT = "/api"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
access_log = logging.getLogger("backend.access")


class RequestGuard:
    """Refuses foreign hosts (DNS rebinding) and cross-origin writes, and adds safe headers, for pages and API alike.

    A page of another site can make a browser send requests to 127.0.0.1, and a name of its own can be made to
    resolve there; the Host and Origin headers, which scripts cannot forge, tell both apart. Bodies are limited behind
    it, see `backend.bodies`.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = BodyLimit(app)
        # Without accounts the name is what keeps a foreign page out, so there it is always checked.
        self.check_host = settings.on_loopback or settings.published_on_loopback or bool(settings.extra_hosts)
        self.hosts = LOOPBACK_NAMES | settings.extra_hosts
        if not settings.on_loopback and settings.host not in WILDCARD_HOSTS:
            self.hosts = self.hosts | {settings.host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 403."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Content-Security-Policy", CLOSED)
            await send(message)

        serve_under(scope.get("root_path", ""))
        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send_on)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await problem_response(as_problem(refusal))(scope, receive, send_on)

    def _refusal(self, scope: Scope) -> RequestRefused | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.check_host and _host_name(host) not in self.hosts:
            return RequestRefused(
                403,
                "The server does not answer under this name",
                seen=host[:80],
                remedy="Open it as http://127.0.0.1 with its port, or add the name to WARA_ALLOWED_HOSTS.",
                code="host-refused",
            )
        if scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS:
            origin = headers.get("origin")
            foreign = origin is not None and _origin_host(origin) != host.lower()
            if foreign or headers.get("sec-fetch-site") == "cross-site":
                return RequestRefused(
                    403,
                    "A page of another site tried to change something here",
                    seen=(origin or "cross-site")[:80],
                    remedy="Open WaRA Studio's own page and do it there.",
                    code="cross-origin-refused",
                )
        return None


class ApiShell:
    """Adds headers to the API's answers, logs one line each, and turns unforeseen errors into a problem.

    The line names the route's pattern, never the address itself or its query, so that no file or class name of an
    upload reaches a log. Every answer carries its request's id, under which the log has it.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not get_route_path(scope).startswith(API_ROOT):
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        identifier = take_id(Headers(scope=scope).get("x-request-id"))
        mark = request_id.set(identifier)

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = identifier
                for name, value in API_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            problem = problem_of(error)
            if status:  # the answer is under way: end it, so that the client sees that it is not whole
                raise
            await problem_response(problem)(scope, receive, send_on)
        finally:
            pattern = getattr(scope.get("route"), "path", "(no such route)")
            seconds = time.perf_counter() - began
            self.metrics.request(scope["method"], pattern, status, seconds)
            fields = {"method": scope["method"], "route": pattern, "status": status}
            access_log.info(
                "%s %s %d %.0f ms", *fields.values(), 1000 * seconds,
                extra=fields | {"milliseconds": round(1000 * seconds)},
            )  # fmt: skip
            request_id.reset(mark)


def _origin_host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # no address at all, such as "http://["
        return None


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
