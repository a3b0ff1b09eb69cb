"""Who may see and change what: one rule, asked before every route of the API."""

from __future__ import annotations

from typing import Any, cast

from fastapi import Request
from sqlalchemy import ColumnElement, event, or_, select, true
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from backend.acting import Principal, acting
from backend.db import Backbone, Dataset, Job, Model, Share, User
from backend.problems import RequestRefused, not_found

Owned = Dataset | Job | Model
KINDS: dict[str, type[Dataset] | type[Job] | type[Model]] = {"dataset": Dataset, "job": Job, "model": Model}
WORDS = {"dataset": "data set", "job": "job", "model": "model", "backbone": "backbone"}
LEVELS = ("view", "edit")
# What else may stand in a path, and whose check is in the route itself or not needed: a route whose path names
# something that is in neither list is refused to everybody, so that a new kind of object cannot be forgotten.
PARTS = frozenset({
    "index", "number", "name", "file", "kind", "object_id", "share_id", "token_id", "account_id", "upload_id",
    "batch_id",
})  # fmt: skip
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# Routes that answer a question about what was sent with it, and change nothing, by the name of their function.
_PREDICTING = frozenset({
    "predict", "explain", "create_batch", "create_zip_batch", "find_places", "add_batch_files", "cancel_batch",
    "delete_batch",
})  # fmt: skip
_ASKING = _PREDICTING | {"preview_dataset_mapping", "estimate_job"}
# The answers of one's own batches, for a program that may only classify.
_ANSWERS = frozenset({"list_batches", "get_batch", "get_rows", "get_patients", "get_table", "get_patient_table"})
# What everybody may do to their own account.
_OWN = frozenset({"sign_in", "sign_out", "change_own_password", "create_token", "delete_token", "live", "ready"})


def authorise(request: Request) -> None:
    """Raise unless whoever asks may do what the route does to the objects in its path.

    A safe method needs to see them, any other to change them, and deleting to own them. What may not be seen is
    answered as what is not there.

    Raises:
        RequestRefused: 403 for a role or scope that does not reach, 404 for what may not be seen.
        RuntimeError: the path names a kind of object that is not known here; also on a server without accounts.
    """
    principal = acting()
    unknown = request.path_params.keys() - {f"{kind}_id" for kind in KINDS} - PARTS
    if unknown:
        raise RuntimeError(f"No rule says who may see {', '.join(sorted(unknown))}")
    if principal.user_id is None:
        return
    name = getattr(request.scope.get("endpoint"), "__name__", "")
    asking = request.method in SAFE or name in _ASKING
    if name not in _OWN:
        scope = "predict" if name in _PREDICTING else "read" if asking else "write"
        _require_scope(principal, scope, *(["predict"] if name in _ANSWERS else []))
    if principal.is_admin:
        return
    level = "view" if asking else "own" if request.method == "DELETE" and _names_whole(request) else "edit"
    parts = request.app.state.parts
    named = [(kind, request.path_params.get(f"{kind}_id")) for kind in KINDS]
    if "upload_id" in request.path_params:
        named.append(("dataset", parts.uploads.store.load(request.path_params["upload_id"]).dataset_id))
    if "batch_id" in request.path_params:
        parts.batches.get(request.path_params["batch_id"])
    for kind, identifier in named:
        if identifier is not None:
            with parts.database.session() as session:
                require(session, kind, str(identifier), level)


def require(session: Session, kind: str, identifier: str, level: str = "view") -> Any:
    """Return the row of an object that whoever asks may see (or ``"edit"``, or ``"own"``).

    Raises:
        RequestRefused: 404 when it is not there or may not be seen, 403 when it may be seen only.
    """
    row = cast("Owned | None", session.get(KINDS[kind], identifier))
    held = None if row is None else held_level(session, acting(), kind, row)
    if row is None or held is None:
        raise not_found(WORDS[kind], identifier)
    if (level == "own" and held != "own") or (level == "edit" and held == "view"):
        raise RequestRefused(
            403, f"This {WORDS[kind]} belongs to somebody else", seen=f"shared with you to {held}",
            remedy="Ask its owner or an admin.", code="not-yours",
        )  # fmt: skip
    return row


def held_level(session: Session, principal: Principal, kind: str, row: Owned) -> str | None:
    """Return ``"own"``, ``"edit"``, ``"view"`` or None: how far somebody's rights to an object reach."""
    if principal.is_admin:
        return "own"
    if row.owner_id == principal.user_id:
        return "own"
    found = session.scalar(
        select(Share.level).where(
            Share.kind == kind, Share.object_id == row.id, Share.user_id == principal.user_id
        )
    )
    # Whoever only looks cannot be let in further by a share.
    return "view" if found == "edit" and principal.role == "viewer" else found


def standing(session: Session, kind: str, row: Owned) -> dict[str, str | None]:
    """Return what answers say of it: how far one's rights reach, and whose it is where it is another's.

    Both are None on a server without accounts.
    """
    principal = acting()
    if principal.user_id is None:
        return {"access": None, "owner": None}
    if row.owner_id == principal.user_id:
        return {"access": "own", "owner": None}
    owner = None if row.owner_id is None else session.get(User, row.owner_id)
    return {
        "access": held_level(session, principal, kind, row),
        "owner": "a deleted account" if owner is None else owner.name,
    }


def visible(kind: str) -> ColumnElement[bool]:
    """Return the condition of a query for what whoever asks may see."""
    principal = acting()
    table = KINDS[kind]
    if principal.is_admin:
        return true()
    shared = select(Share.object_id).where(Share.kind == kind, Share.user_id == principal.user_id)
    return or_(table.owner_id == principal.user_id, table.id.in_(shared))


def limit(session: Session) -> Session:
    """Let a session load only what whoever asks may see, whatever its queries forget to ask for."""
    if not acting().is_admin:
        event.listen(session, "do_orm_execute", _only_visible)
    return session


def _only_visible(state: ORMExecuteState) -> None:
    if state.is_select and not state.is_column_load:
        rules = [with_loader_criteria(table, visible(kind)) for kind, table in KINDS.items()]
        state.statement = state.statement.options(*rules)


def require_admin() -> None:
    """Raise for anybody but an admin.

    Raises:
        RequestRefused: 403.
    """
    principal = acting()
    if not principal.is_admin:
        raise _refused("Only an admin can do this", principal.role)
    _require_scope(principal, "admin")


def require_own_backbone(row: Backbone) -> None:
    """Raise unless whoever asks brought these weights; anybody may use them, since they hold nothing of patients.

    Raises:
        RequestRefused: 403.
    """
    principal = acting()
    if not principal.is_admin and row.owner_id != principal.user_id:
        raise _refused("These weights were brought by somebody else", principal.name)


def share(session: Session, kind: str, identifier: str, user_id: str, level: str) -> Share:
    """Let somebody see an object, or also change it; a second time replaces the first.

    Raises:
        RequestRefused: 404 for the object or the account, 403 when it is not one's own.
    """
    require(session, kind, identifier, "own")
    if session.get(User, user_id) is None:
        raise not_found("account", user_id)
    found = session.scalars(
        select(Share).where(Share.kind == kind, Share.object_id == identifier, Share.user_id == user_id)
    ).one_or_none()
    if found is None:
        found = Share(kind=kind, object_id=identifier, user_id=user_id, level=level)
        session.add(found)
    found.level = level
    session.flush()
    return found


def _names_whole(request: Request) -> bool:
    """Whether the path ends with the object's own id, and not with a part of it."""
    last = request.url.path.rstrip("/").rpartition("/")[2]
    return last in (str(request.path_params.get(f"{kind}_id")) for kind in KINDS)


def _require_scope(principal: Principal, *scopes: str) -> None:
    if principal.scopes.isdisjoint(scopes):
        what = "This token is not for that" if principal.via == "token" else "Your account may look, not change"
        raise RequestRefused(
            403, what, seen=f"needs {' or '.join(scopes)}, has {', '.join(sorted(principal.scopes))}",
            remedy="Ask an admin for another role, or make a token with this scope.", code="not-allowed",
        )  # fmt: skip


def _refused(what: str, seen: str) -> RequestRefused:
    return RequestRefused(403, what, seen=seen, remedy="Ask an admin.", code="not-allowed")
