"""The gate before pages, API and every other route: who is asking, and whether they may come in at all."""

from __future__ import annotations

import logging
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote

from starlette._utils import get_route_path
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.accounts.audit import Audit
from backend.accounts.people import People
from backend.acting import LOCAL, NOBODY, Principal, act_as
from backend.problems import RequestRefused, as_problem, problem_response

COOKIE = "wara_session"
LOGIN = "/login"
API_ROOT = "/api"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# What anybody may ask for: signing in, whether the server lives, and the style of the sign-in page.
OPEN_PATHS = frozenset({LOGIN, "/api/v1/session", "/api/v1/health/live", "/api/v1/health/ready", "/favicon.ico"})
OPEN_FOLDERS = ("/studio/",)
# Asked by a page several times a minute, or without effect: these would bury what matters in the audit log.
_NOT_AUDITED = frozenset({"preview_dataset_mapping", "estimate_job", "append_bytes", "override_method", "find_places"})
_NOT_AUDITED_ALONE = frozenset({"predict", "explain", "add_files", "add_batch_files"})
# Reading that carries something out of the house.
_AUDITED_READS = frozenset({"download_model", "export_model", "export_audit", "get_table", "get_patient_table"})
_KINDS = ("dataset", "job", "model", "backbone", "token", "account", "share", "batch")

log = logging.getLogger("backend.accounts")


class Gate:
    """Finds out who asks, turns away whoever is nobody, and writes down what was done.

    Without accounts everybody is the one local person: such a server listens on loopback only (see `backend.main`).
    Pages, Gradio's own routes and files, websockets and the API all pass here; there is no other way in.

    Args:
        app: what stands behind the gate.
        people: the accounts.
        audit: where it is written down.
    """

    def __init__(self, app: ASGIApp, people: People, audit: Audit) -> None:
        self.app = app
        self._people = people
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or turn it away."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        known = await run_in_threadpool(self._people.exist) if self._people.asks else self._people.exist()
        if not known:
            principal: Principal | None = LOCAL
        else:
            principal = await run_in_threadpool(self._who, headers)
        path = get_route_path(scope) or "/"  # as the router sees it
        if principal is None and not _is_open(path):
            await _turn_away(scope, receive, send, path, headers)
            return
        if principal is not None and principal.via == "session" and _lacks_origin(scope, headers):
            await problem_response(as_problem(_no_origin()))(scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = principal
        act_as(principal or NOBODY)
        await self._serve(scope, receive, send, principal)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, principal: Principal | None) -> None:
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self.app(scope, receive, send_on)
        if principal is None or scope["type"] != "http":
            return
        action = getattr(scope.get("endpoint"), "__name__", "")
        if _is_audited(scope["method"], get_route_path(scope), action, status, principal):
            kind, identifier = _object(scope)
            await run_in_threadpool(
                self._audit.record, action, status, kind=kind, identifier=identifier, principal=principal
            )

    def _who(self, headers: Headers) -> Principal | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return self._people.of_token(token.strip())
        secret = cookie_of(headers)
        return None if secret is None else self._people.of_session(secret)


def cookie_of(headers: Headers) -> str | None:
    """Return the session's secret from a request's cookies."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or (path.startswith(OPEN_FOLDERS) and ".." not in path)


def _lacks_origin(scope: Scope, headers: Headers) -> bool:
    """Whether a change comes with a cookie and without a word of where from, as only something odd sends it.

    A foreign origin was refused before, by `backend.guard.RequestGuard`.
    """
    if scope["type"] == "http" and scope["method"] in SAFE:
        return False
    return "origin" not in headers and headers.get("sec-fetch-site") not in ("same-origin", "none")


async def _turn_away(scope: Scope, receive: Receive, send: Send, path: str, headers: Headers) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    page = scope["method"] == "GET" and not path.startswith(API_ROOT) and "text/html" in headers.get("accept", "")
    if page:
        where = f"{scope.get('root_path', '')}{LOGIN}?next={quote(path, safe='/')}"
        await RedirectResponse(where, status_code=303)(scope, receive, send)
        return
    refusal = RequestRefused(
        401, "Nobody is signed in", remedy="Sign in at /login, or send a token as Authorization: Bearer.",
        code="sign-in-needed",
    )  # fmt: skip
    await problem_response(as_problem(refusal), {"WWW-Authenticate": "Bearer"})(scope, receive, send)


def _no_origin() -> RequestRefused:
    return RequestRefused(
        403, "A change came with a cookie but without saying from which page", seen="no Origin header",
        remedy="Use the pages, or a token as Authorization: Bearer for programs.", code="origin-missing",
    )  # fmt: skip


def _is_audited(method: str, path: str, action: str, status: int, principal: Principal) -> bool:
    if not path.startswith(API_ROOT) or not action or action in _NOT_AUDITED:
        return False
    if principal.user_id is None and action in _NOT_AUDITED_ALONE:
        return False
    return method not in SAFE or action in _AUDITED_READS or status == 403


def _object(scope: Scope) -> tuple[str | None, str | None]:
    made = scope.get("state", {}).get("made")  # what a route made, whose id is in no path
    if made is not None:
        kind, identifier = made
        return str(kind), str(identifier)
    params = scope.get("path_params", {})
    for kind in _KINDS:
        if f"{kind}_id" in params:
            return kind, str(params[f"{kind}_id"])
    return None, None
