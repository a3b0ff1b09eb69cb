"""People: sign in and out, one's own account and tokens, what is shared; for admins all accounts and the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from sqlalchemy import select

from backend.accounts import access
from backend.accounts.gate import COOKIE, cookie_of
from backend.accounts.people import LONGEST, People, as_role
from backend.acting import Principal, Role, acting
from backend.api.dependencies import PartsDep, SessionDep
from backend.api.schemas import PROBLEMS, Order
from backend.db import ApiToken, AuditEntry, Share, User
from backend.problems import RequestRefused, not_found

router = APIRouter(tags=["people"], responses=PROBLEMS)
SharedKind = Literal["dataset", "job", "model"]


class SignIn(Order):
    """A name and its password."""

    name: str = Field(max_length=200)
    password: str = Field(max_length=400)


class Me(BaseModel):
    """Who is signed in; ``id`` is null on a server without accounts."""

    id: str | None
    name: str
    role: Role
    scopes: list[str]


class AccountIn(Order):
    """A new account."""

    name: str = Field(max_length=200)
    password: str = Field(max_length=400)
    role: Role = "member"


class AccountChange(Order):
    """What changes of an account; what is left out stays."""

    role: Role | None = None
    disabled: bool | None = None
    password: str | None = Field(default=None, max_length=400)


class AccountOut(BaseModel):
    """An account."""

    id: str
    name: str
    role: Role
    disabled: bool
    created: datetime


class PersonOut(BaseModel):
    """An account as everybody sees it, to share something with."""

    id: str
    name: str


class PasswordChange(Order):
    """One's own new password."""

    old: str = Field(max_length=400)
    new: str = Field(max_length=400)


class TokenIn(Order):
    """A new token for a program."""

    label: str = Field(default="token", max_length=200)
    scopes: list[str] = Field(default=["read"], max_length=10)
    days: int = 90


class TokenOut(BaseModel):
    """A token without its secret."""

    id: str
    label: str
    scopes: list[str]
    created: datetime
    expires: datetime
    used: datetime | None


class NewToken(TokenOut):
    """A token just made; the secret is shown this once."""

    secret: str


class ShareIn(Order):
    """With whom, and how far."""

    user_id: str = Field(max_length=64)
    level: Literal["view", "edit"] = "view"


class ShareOut(BaseModel):
    """What somebody else may do with an object."""

    id: str
    user_id: str
    name: str
    level: str


class AuditOut(BaseModel):
    """A line of the audit log."""

    id: int
    at: datetime
    user_id: str | None
    user_name: str
    via: str
    action: str
    object_kind: str | None
    object_id: str | None
    status: int


@router.post("/session")
def sign_in(order: SignIn, request: Request, response: Response, parts: PartsDep) -> Me:
    """Sign in: the answer sets a cookie that scripts cannot read."""
    user = begin_session(request, response, parts.people, order.name, order.password)
    return Me(id=user.id, name=user.name, role=as_role(user.role), scopes=sorted(parts.people.scopes(user.role)))


@router.delete("/session", status_code=204)
def sign_out(request: Request, parts: PartsDep) -> Response:
    """Sign out; the session ends here too, and not only in the browser."""
    secret = cookie_of(request.headers)
    if secret is not None:
        parts.people.sign_out(secret)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path=request.scope.get("root_path") or "/")
    return response


@router.get("/me")
def get_me() -> Me:
    """Return who is signed in."""
    who = acting()
    return Me(id=who.user_id, name=who.name, role=who.role, scopes=sorted(who.scopes))


@router.put("/me/password", status_code=204)
def change_own_password(order: PasswordChange, request: Request, parts: PartsDep) -> Response:
    """Set one's own password; all sessions of the account end."""
    user_id = _own_id()
    parts.people.check_own(acting().name, order.old, address_of(request))
    parts.people.change(user_id, password=order.new)
    return Response(status_code=204)


@router.get("/me/tokens")
def list_tokens(parts: PartsDep) -> list[TokenOut]:
    """List one's own tokens."""
    return [_token(row) for row in parts.people.tokens(_own_id())]


@router.post("/me/tokens", status_code=201)
def create_token(order: TokenIn, parts: PartsDep) -> NewToken:
    """Make a token; its secret is in this answer and nowhere else."""
    if acting().via == "token":
        raise RequestRefused(
            403, "A token cannot make tokens", remedy="Sign in with name and password for that.", code="not-allowed"
        )
    secret, row = parts.people.issue(_own_id(), order.label, order.scopes, order.days)
    return NewToken(secret=secret, **_token(row).model_dump())


@router.delete("/me/tokens/{token_id}", status_code=204)
def delete_token(token_id: str, parts: PartsDep) -> Response:
    """Revoke a token of one's own."""
    parts.people.revoke(_own_id(), token_id)
    return Response(status_code=204)


@router.get("/people")
def list_people(parts: PartsDep) -> list[PersonOut]:
    """List names, to share with."""
    return [PersonOut(id=user.id, name=user.name) for user in parts.people.list() if not user.disabled]


@router.get("/accounts")
def list_accounts(parts: PartsDep) -> list[AccountOut]:
    """List all accounts. For admins."""
    access.require_admin()
    return [_account(user) for user in parts.people.list()]


@router.post("/accounts", status_code=201)
def create_account(order: AccountIn, request: Request, parts: PartsDep) -> AccountOut:
    """Make an account. For admins; the first account of a server is an admin, and from then on everybody signs in."""
    access.require_admin()
    user = parts.people.add(order.name, order.password, order.role)
    request.state.made = ("account", user.id)
    return _account(user)


@router.patch("/accounts/{account_id}")
def change_account(account_id: str, order: AccountChange, parts: PartsDep) -> AccountOut:
    """Change an account's role, password, or whether it can be used; its sessions end. For admins."""
    access.require_admin()
    user = parts.people.change(account_id, role=order.role, disabled=order.disabled, password=order.password)
    return _account(user)


@router.delete("/accounts/{account_id}", status_code=204)
def delete_account(account_id: str, parts: PartsDep) -> Response:
    """Delete an account; what it owned stays, for admins to see and to share. For admins."""
    access.require_admin()
    parts.people.remove(account_id)
    return Response(status_code=204)


@router.get("/shares/{kind}/{object_id}")
def list_shares(kind: SharedKind, object_id: str, session: SessionDep) -> list[ShareOut]:
    """List with whom an object of one's own is shared."""
    access.require(session, kind, object_id, "own")
    rows = session.execute(
        select(Share, User.name).join(User, User.id == Share.user_id)
        .where(Share.kind == kind, Share.object_id == object_id).order_by(User.key)
    )  # fmt: skip
    return [ShareOut(id=row.id, user_id=row.user_id, name=name, level=row.level) for row, name in rows]


@router.put("/shares/{kind}/{object_id}")
def share(kind: SharedKind, object_id: str, order: ShareIn, request: Request, session: SessionDep) -> ShareOut:
    """Let somebody see an object of one's own, or also change it."""
    row = access.share(session, kind, object_id, order.user_id, order.level)
    request.state.made = (kind, object_id)
    return ShareOut(id=row.id, user_id=row.user_id, name=session.get_one(User, row.user_id).name, level=row.level)


@router.delete("/shares/{kind}/{object_id}/{share_id}", status_code=204)
def unshare(kind: SharedKind, object_id: str, share_id: str, request: Request, session: SessionDep) -> Response:
    """Take a share back."""
    access.require(session, kind, object_id, "own")
    found = session.get(Share, share_id)
    if found is None or (found.kind, found.object_id) != (kind, object_id):
        raise not_found("share", share_id)
    session.delete(found)
    request.state.made = (kind, object_id)
    return Response(status_code=204)


@router.get("/audit")
def list_audit(
    parts: PartsDep,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[AuditOut]:
    """List what was done, newest first. For admins."""
    access.require_admin()
    return [_entry(row) for row in parts.audit.page(before=before, limit=limit)]


def _written_out(since: str) -> str:
    """Take a moment as ISO 8601 alone: a bare number would be taken for seconds since 1970."""
    try:
        date.fromisoformat(since[:10])
    except ValueError:
        raise ValueError("give a day or a moment, e.g. 2026-11-26 or 2026-11-26T09:00:00Z") from None
    return since


def _in_utc(since: datetime | None) -> datetime | None:
    """Return a moment in UTC, as the log is kept; at either end of the calendar that is no moment any more."""
    try:
        return None if since is None else since.astimezone(UTC)
    except (OverflowError, ValueError, OSError):
        raise ValueError("give a day or a moment from the years 2 to 9998") from None


@router.get("/audit.csv", response_class=StreamingResponse, responses={200: {"content": {"text/csv": {}}}})
def export_audit(
    parts: PartsDep,
    since: Annotated[datetime | None, BeforeValidator(_written_out), AfterValidator(_in_utc)] = None,
) -> StreamingResponse:
    """Download the audit log as CSV, oldest first. For admins."""
    access.require_admin()
    name = {"Content-Disposition": 'attachment; filename="audit.csv"'}
    return StreamingResponse(parts.audit.export(since), media_type="text/csv; charset=utf-8", headers=name)


def begin_session(request: Request, response: Response, people: People, name: str, password: str) -> User:
    """Check a password and put the session's cookie into a response; both outcomes are written to the audit log.

    Raises:
        RequestRefused: 401 or 429, as `People.sign_in`; 409 on a server without accounts.
    """
    if not people.exist():
        raise RequestRefused(
            409, "This server has no accounts", remedy="Nothing is needed to use it from this machine.",
            code="no-accounts",
        )  # fmt: skip
    audit = request.app.state.parts.audit
    try:
        secret, user = people.sign_in(name, password, address_of(request))
    except RequestRefused as refusal:
        # Not the name that was tried: people type their password there.
        audit.record("sign_in_refused", refusal.status)
        raise
    who = Principal(user.id, user.name, as_role(user.role), via="session")
    audit.record("sign_in", 200, kind="account", identifier=user.id, principal=who)
    response.set_cookie(
        COOKIE,
        secret,
        max_age=int(LONGEST.total_seconds()),
        path=request.scope.get("root_path") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return user


def address_of(request: Request) -> str:
    """Return where a request comes from; behind a trusted proxy that is the proxy's word."""
    return request.client.host if request.client else ""


def _own_id() -> str:
    who = acting()
    if who.user_id is None:
        raise RequestRefused(
            409, "This server has no accounts", remedy="Make one first: python -m backend users add NAME.",
            code="no-accounts",
        )  # fmt: skip
    return who.user_id


def _account(user: User) -> AccountOut:
    return AccountOut(
        id=user.id, name=user.name, role=as_role(user.role), disabled=user.disabled, created=user.created
    )


def _token(row: ApiToken) -> TokenOut:
    scopes: Sequence[object] = row.scopes
    return TokenOut(
        id=row.id, label=row.label, scopes=[str(scope) for scope in scopes], created=row.created, expires=row.expires,
        used=row.used,
    )  # fmt: skip


def _entry(row: AuditEntry) -> AuditOut:
    return AuditOut(
        id=row.id, at=row.at, user_id=row.user_id, user_name=row.user_name, via=row.via, action=row.action,
        object_kind=row.object_kind, object_id=row.object_id, status=row.status,
    )  # fmt: skip
