"""The routes of the sign-in page at ``/login`` and of signing out at ``/logout``."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, RedirectResponse, Response

from backend.accounts.gate import COOKIE, LOGIN, cookie_of
from backend.accounts.login_page import own_path, render_login
from backend.accounts.people import People
from backend.api.accounts import begin_session
from backend.problems import RequestRefused

# Nothing of this page may be kept, shown in a frame, or load anything.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
}


def install(app: FastAPI) -> None:
    """Serve the sign-in page."""

    @app.get(LOGIN, include_in_schema=False)
    def show(request: Request) -> Response:
        target = own_path(request.query_params.get("next"))
        if not _people(request).exist() or request.state.principal is not None:
            return RedirectResponse(_at(request, target), 303)
        return HTMLResponse(render_login(target), headers=_HEADERS)

    @app.post(LOGIN, include_in_schema=False)
    async def enter(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=10) as form:
            fields = {key: value for key, value in form.items() if not isinstance(value, UploadFile)}
        target, name = own_path(fields.get("next")), fields.get("name", "")[:200]
        response = RedirectResponse(_at(request, target), 303)
        try:
            await run_in_threadpool(
                begin_session, request, response, _people(request), name, fields.get("password", "")[:400]
            )
        except RequestRefused as refusal:
            page = render_login(target, name=name[:80], problem=refusal.sentence())
            again = {"Retry-After": str(refusal.extra["retry_after"])} if "retry_after" in refusal.extra else {}
            return HTMLResponse(page, status_code=refusal.status, headers=_HEADERS | again)
        return response

    @app.post("/logout", include_in_schema=False)
    def leave(request: Request) -> Response:
        secret = cookie_of(request.headers)
        if secret is not None:
            _people(request).sign_out(secret)
        response = RedirectResponse(_at(request, LOGIN), 303)
        response.delete_cookie(COOKIE, path=request.scope.get("root_path") or "/")
        return response


def _people(request: Request) -> People:
    people: People = request.app.state.parts.people
    return people


def _at(request: Request, path: str) -> str:
    return f"{request.scope.get('root_path', '')}{path}"
