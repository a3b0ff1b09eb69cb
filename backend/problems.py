"""Errors as ``application/problem+json`` (RFC 9457): what was wrong, the value seen, what to do."""

from __future__ import annotations

import errno
import json
import logging
import secrets
import traceback
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from wara.errors import InputError

MEDIA_TYPE = "application/problem+json"
_SHOWN_PATH = 200
FULL_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})

log = logging.getLogger("backend")


class RequestRefused(InputError):
    """A request that cannot be served, with its HTTP status.

    Args:
        status: the HTTP status, 4xx, 503 or 507.
        what: what was wrong, as in ``InputError``.
        remedy: what to do.
        seen: the value seen.
        code: a stable short name.
        extra: further members of the problem, e.g. ``existing="3f2a"``.
    """

    def __init__(
        self,
        status: int,
        what: str,
        *,
        remedy: str,
        seen: object = None,
        code: str = "invalid-input",
        **extra: Any,
    ) -> None:
        super().__init__(what, remedy=remedy, seen=seen, code=code)
        self.status = status
        self.extra = extra


def not_found(kind: str, identifier: str) -> RequestRefused:
    """Return the 404 for a resource, e.g. ``not_found("data set", "3f2a")``."""
    return RequestRefused(
        404,
        f"There is no {kind} with this id",
        seen=identifier[:64],
        remedy="It may have been deleted; list what is there and choose from that.",
        code=f"{kind.replace(' ', '-')}-not-found",
    )


def disk_full(free_mb: float | None = None, needed_mb: float | None = None) -> RequestRefused:
    """Return the 507 for a disk that has too little room."""
    seen = None if free_mb is None else f"{free_mb:,.0f} MB free, at least {needed_mb:,.0f} MB needed"
    return RequestRefused(
        507,
        "There is not enough disk space left in the data folder",
        seen=seen,
        remedy="Delete data sets or models that are no longer needed, or move WARA_DATA_DIR to a larger disk.",
        code="disk-full",
    )


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error says that the disk (or the user's quota) is full."""
    return isinstance(error, OSError) and error.errno in FULL_DISK_ERRNOS


def as_problem(error: InputError, status: int | None = None) -> dict[str, Any]:
    """Return an error as the members of a problem document, JSON-able."""
    code = getattr(error, "status", 422) if status is None else status
    return {
        "type": f"about:blank#{error.code}",
        "title": error.what,
        "status": code,
        "detail": error.sentence(),
        "code": error.code,
        "seen": error.seen,
        "remedy": error.remedy,
        **getattr(error, "extra", {}),
    }


class _ProblemResponse(JSONResponse):
    def render(self, content: Any) -> bytes:
        # The value seen may hold half a surrogate pair, which no UTF-8 can carry.
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def problem_response(problem: dict[str, Any], headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a problem document as a response with its own status."""
    if "retry_after" in problem:
        headers = {**(headers or {}), "Retry-After": str(problem["retry_after"])}
    return _ProblemResponse(problem, status_code=problem["status"], media_type=MEDIA_TYPE, headers=headers)


def unexpected(error: BaseException) -> dict[str, Any]:
    """Log an error that nobody foresaw under an id, and return a problem that shows the id and no trace."""
    identifier = secrets.token_hex(4)
    log.error("Unexpected error %s\n%s", identifier, explain(error))
    return as_problem(
        RequestRefused(
            500,
            "The server met an error that it did not expect",
            seen=f"error id {identifier}",
            remedy="Try once more; if it comes again, report it with this id, which the server's log explains.",
            code="server-error",
            error_id=identifier,
        )
    )


def explain(error: BaseException) -> str:
    """Return an error with its frames and causes for a log, without the file names that some messages hold."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = "" if cause is None else f"{explain(cause)}\nwhich led to\n"
    if isinstance(error, OSError):
        said = f" ({errno.errorcode.get(error.errno or 0, error.errno)})"
    elif isinstance(error, InputError):
        said = f": {error.what} ({error.code})"
    else:
        said = f": {error}"
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{before}{frames}{type(error).__module__}.{type(error).__qualname__}{said}"


def problem_of(error: Exception) -> dict[str, Any]:
    """Return any exception as a problem document; unforeseen ones are logged under an id."""
    if isinstance(error, InputError):
        return as_problem(error)
    if isinstance(error, RequestValidationError):
        return as_problem(_validation(error))
    if isinstance(error, HTTPException):
        return as_problem(_http(error))
    if is_disk_full(error):
        return as_problem(disk_full())
    return unexpected(error)


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException):
            return problem_response(as_problem(_http(error, request)), dict(error.headers or {}))
        return problem_response(problem_of(error))

    for kind in (InputError, RequestValidationError, HTTPException, OSError):
        app.add_exception_handler(kind, answer)


def _validation(error: RequestValidationError) -> RequestRefused:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    seen = first.get("input")
    shown = repr(seen)[:80] if isinstance(seen, str | int | float | bool) else None
    if first["type"] == "missing":
        return RequestRefused(
            422,
            f"The request lacks the field '{where}'",
            remedy=f"Send '{where}' as /api/docs describes it.",
            code="field-missing",
        )
    if first["type"] == "json_invalid":
        return RequestRefused(
            422,
            "The request is not valid JSON",
            seen=f"an error at character {first['loc'][-1]}",
            remedy="Send one JSON object with the fields that /api/docs lists.",
            code="json-invalid",
        )
    if first["type"] == "extra_forbidden":
        return RequestRefused(
            422,
            f"The request holds a field that is not known, '{where[:80]}'",
            seen=shown,
            remedy="Leave it out; /api/docs lists the fields.",
            code="field-invalid",
        )
    return RequestRefused(
        422,
        f"The field '{where}' cannot be used: {first['msg'][:1].lower()}{first['msg'][1:]}"
        if where
        else f"The request cannot be read: {first['msg']}",
        seen=shown,
        remedy="Correct the value; /api/docs lists what each field takes.",
        code="field-invalid",
    )


def _http(error: HTTPException, request: Request | None = None) -> RequestRefused:
    """Return an error of the framework as a refusal; with the request also the address seen, as it was asked for."""
    phrase = HTTPStatus(error.status_code).phrase
    known = {
        404: ("There is nothing at this address", "Check the address; /api/docs lists all of them.", "not-found"),
        405: ("This address does not take this method", _allowed(error), "method-not-allowed"),
        413: ("The request is too large", "Send less at once, or raise WARA_MAX_UPLOAD_MB.", "upload-too-large"),
    }
    what, remedy, code = known.get(
        error.status_code, (str(error.detail) or phrase, "See /api/docs.", phrase.lower().replace(" ", "-"))
    )
    path = "" if request is None else str(request.scope["path"])[:_SHOWN_PATH]
    seen = None if request is None else {404: path, 405: f"{request.method} {path}"}.get(error.status_code)
    return RequestRefused(error.status_code, what, seen=seen, remedy=remedy, code=code)


def _allowed(error: HTTPException) -> str:
    methods = (error.headers or {}).get("Allow", "")
    if not methods:
        return "See /api/docs for what it takes."
    return f"Use {methods.replace(', ', ' or ')}; /api/docs says more."
