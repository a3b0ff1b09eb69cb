"""Who a request acts for: set by the gate, read wherever something is owned, shown or written down."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

Role = Literal["admin", "member", "viewer"]
ROLES: tuple[Role, ...] = ("admin", "member", "viewer")
# What a token may do; a session may do whatever its person's role allows.
SCOPES = ("read", "predict", "write", "admin")


@dataclass(frozen=True)
class Principal:
    """A person, or a program with a person's token.

    Attributes:
        user_id: the account; None for the one person of a server without accounts, and for the server itself.
        name: the account's name.
        role: ``"admin"`` sees and does all, ``"member"`` has data of their own and what is shared with them,
            ``"viewer"`` looks at what is shared with them and classifies with it.
        scopes: what the way of signing in allows, a subset of `SCOPES`.
        via: ``"session"``, ``"token"`` or ``"open"`` (no accounts).
    """

    user_id: str | None
    name: str
    role: Role
    scopes: frozenset[str] = frozenset(SCOPES)
    via: Literal["session", "token", "open"] = "open"

    @property
    def is_admin(self) -> bool:
        """Whether everything may be seen and done."""
        return self.role == "admin"


# The one person of a server that only this machine reaches, and the server at its own work.
LOCAL = Principal(None, "local", "admin")

# Somebody who has not signed in yet, on the way to the few routes that are open to all.
NOBODY = Principal("", "nobody", "viewer", frozenset(), "session")

_acting: ContextVar[Principal] = ContextVar("acting", default=LOCAL)


def acting() -> Principal:
    """Return who the running request acts for; outside of requests the server itself."""
    return _acting.get()


def act_as(principal: Principal) -> None:
    """Say who the running request acts for; it ends with the request's own context."""
    _acting.set(principal)


def owner_id() -> str | None:
    """Return the account that owns what is made now."""
    return acting().user_id
