"""Accounts: made, changed, signed in and out; who a cookie or a token stands for."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from backend.accounts import credentials
from backend.accounts.throttle import Throttle
from backend.acting import ROLES, SCOPES, Principal, Role
from backend.db import ApiToken, Backbone, Database, Dataset, Job, LoginSession, Model, User
from backend.db.models import now
from backend.problems import RequestRefused, not_found
from wara.errors import InputError

IDLE = timedelta(hours=12)
LONGEST = timedelta(days=7)
TOKEN_PREFIX = "wara_"
MOST_TOKEN_DAYS = 366
_MOST_NAME = 80
# The first account is made by a command, beside a server that may run; every request asking would cost too much.
_ASK_AGAIN_S = 1.0
# A session's last use is written down at most so often.
_SEEN_EVERY = timedelta(minutes=1)
# What a role may do at most, whatever a token says.
_ROLE_SCOPES = {
    "admin": frozenset(SCOPES),
    "member": frozenset({"read", "predict", "write"}),
    "viewer": frozenset({"read", "predict"}),
}


class People:
    """The accounts of a server.

    Args:
        database: where they are rows.
        throttle: slows down whoever guesses passwords.
    """

    def __init__(self, database: Database, throttle: Throttle | None = None) -> None:
        self._database = database
        self._throttle = throttle or Throttle()
        self._lock = threading.Lock()
        self._known = False
        self._asked = -_ASK_AGAIN_S

    def exist(self) -> bool:
        """Tell whether there are accounts, as of a moment ago; once there are, the last admin cannot go."""
        if not self._known and time.monotonic() - self._asked >= _ASK_AGAIN_S:
            with self._database.session() as session:
                self._known = session.scalar(select(User.id).limit(1)) is not None
            self._asked = time.monotonic()
        return self._known

    @property
    def asks(self) -> bool:
        """Whether `exist` would ask the database now."""
        return not self._known and time.monotonic() - self._asked >= _ASK_AGAIN_S

    def list(self) -> Sequence[User]:
        """Return all accounts by name."""
        with self._database.session() as session:
            return session.scalars(select(User).order_by(User.key)).all()

    def add(self, name: str, password: str, role: str) -> User:
        """Make an account. The first one must be an admin, and owns what was here before there were accounts.

        Raises:
            InputError: a name that is taken or cannot be one, a weak password, an unknown role.
        """
        name = _checked_name(name)
        _checked_role(role)
        credentials.check_password(password, name)
        hashed = credentials.hash_password(password)
        with self._lock, self._database.session() as session:
            first = session.scalar(select(User.id).limit(1)) is None
            if first and role != "admin":
                raise InputError(
                    "The first account must be an admin", seen=role, remedy="Give it the role admin.",
                    code="first-account",
                )  # fmt: skip
            if session.scalar(select(User.id).where(User.key == name.casefold())) is not None:
                raise RequestRefused(
                    409, "There is an account of this name", seen=name, remedy="Choose another name.",
                    code="account-exists",
                )  # fmt: skip
            user = User(name=name, key=name.casefold(), password_hash=hashed, role=role)
            session.add(user)
            session.flush()
            if first:
                for kind in (Dataset, Job, Model, Backbone):
                    session.execute(update(kind).where(kind.owner_id.is_(None)).values(owner_id=user.id))
        self._known = True
        return user

    def change(
        self, user_id: str, *, role: str | None = None, disabled: bool | None = None, password: str | None = None
    ) -> User:
        """Change an account; a new password, a lower role or being disabled ends its sessions.

        Raises:
            RequestRefused: 404, or 409 where no admin would be left.
            InputError: an unknown role or a weak password.
        """
        if role is not None:
            _checked_role(role)
        with self._lock, self._database.session() as session:
            user = _found(session, user_id)
            if password is not None:
                credentials.check_password(password, user.name)
                user.password_hash = credentials.hash_password(password)
            if (role not in (None, "admin") or disabled) and _only_admin(session, user):
                raise _last_admin(user.name)
            user.role = role or user.role
            user.disabled = user.disabled if disabled is None else disabled
            session.execute(delete(LoginSession).where(LoginSession.user_id == user_id))
        return user

    def remove(self, user_id: str) -> None:
        """Delete an account with its sessions, tokens and shares; what it owns goes to no one but the admins.

        Raises:
            RequestRefused: 404, or 409 for the last admin.
        """
        with self._lock, self._database.session() as session:
            user = _found(session, user_id)
            if _only_admin(session, user):
                raise _last_admin(user.name)
            session.delete(user)

    def sign_in(self, name: str, password: str, address: str) -> tuple[str, User]:
        """Check a password; return the cookie's secret and the account.

        Raises:
            RequestRefused: 401, the same for an unknown name, a wrong password and a disabled account; 429 with
                ``retry_after`` after too many wrong ones.
        """
        key = name.strip().casefold()[:_MOST_NAME]
        wait = self._throttle.wait_s(key, address)
        if wait > 0:
            seconds = max(1, round(wait))
            raise RequestRefused(
                429, "Too many wrong passwords", seen=f"{seconds} s to wait",
                remedy="Wait, then try again; an admin can set a new password.", code="too-many-tries",
                retry_after=seconds,
            )  # fmt: skip
        with self._database.session() as session:
            user = session.scalars(select(User).where(User.key == key)).one_or_none()
        if not credentials.matches(password, None if user is None else user.password_hash) or user is None:
            self._throttle.failed(key, address)
            raise _wrong_password()
        if user.disabled:
            raise _wrong_password()
        self._throttle.succeeded(key)
        secret = credentials.new_secret()
        with self._database.session() as session:
            session.execute(delete(LoginSession).where(LoginSession.created < now() - LONGEST))
            session.add(LoginSession(digest=credentials.digest(secret), user_id=user.id))
        return secret, user

    def check_own(self, name: str, password: str, address: str) -> None:
        """Check the password of whoever is signed in, as `sign_in` does, without beginning a session.

        Raises:
            RequestRefused: as `sign_in`.
        """
        secret, _ = self.sign_in(name, password, address)
        self.sign_out(secret)

    @staticmethod
    def scopes(role: str) -> frozenset[str]:
        """Return what a role may do."""
        return _ROLE_SCOPES[role]

    def sign_out(self, secret: str) -> None:
        """End a session; one that is not there is no error."""
        with self._database.session() as session:
            session.execute(delete(LoginSession).where(LoginSession.digest == credentials.digest(secret)))

    def of_session(self, secret: str) -> Principal | None:
        """Return who a cookie's secret stands for; None when it is unknown, too old, or its account disabled."""
        moment = now()
        with self._database.session() as session:
            found = session.get(LoginSession, credentials.digest(secret))
            if found is None:
                return None
            user = session.get(User, found.user_id)
            if moment - found.seen > IDLE or moment - found.created > LONGEST or user is None or user.disabled:
                session.delete(found)
                return None
            if moment - found.seen > _SEEN_EVERY:
                found.seen = moment
            return _principal(user, frozenset(SCOPES), "session")

    def of_token(self, token: str) -> Principal | None:
        """Return who a token stands for, with its scopes; None when it is unknown, expired, or its account disabled."""
        moment = now()
        with self._database.session() as session:
            found = session.scalars(select(ApiToken).where(ApiToken.digest == credentials.digest(token))).one_or_none()
            user = None if found is None else session.get(User, found.user_id)
            if found is None or user is None or user.disabled or found.expires <= moment:
                return None
            if found.used is None or moment - found.used > _SEEN_EVERY:
                found.used = moment
            return _principal(user, frozenset(map(str, found.scopes)), "token")

    def tokens(self, user_id: str) -> Sequence[ApiToken]:
        """Return an account's tokens, newest first."""
        with self._database.session() as session:
            query = select(ApiToken).where(ApiToken.user_id == user_id).order_by(ApiToken.created.desc())
            return session.scalars(query).all()

    def issue(self, user_id: str, label: str, scopes: Sequence[str], days: int) -> tuple[str, ApiToken]:
        """Make a token; return its secret, which is shown this once, and its row.

        Raises:
            InputError: unknown scopes, ones that the role does not allow, or a time that cannot be.
        """
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise InputError(
                "These scopes cannot be given", seen=", ".join(unknown) or "none",
                remedy=f"Choose of {', '.join(SCOPES)}.", code="token-scope",
            )  # fmt: skip
        if not 1 <= days <= MOST_TOKEN_DAYS:
            raise InputError(
                "A token cannot hold for so long", seen=f"{days} days", remedy=f"Choose 1 to {MOST_TOKEN_DAYS} days.",
                code="token-days",
            )  # fmt: skip
        secret = TOKEN_PREFIX + credentials.new_secret()
        with self._database.session() as session:
            user = _found(session, user_id)
            beyond = sorted(set(scopes) - _ROLE_SCOPES[user.role])
            if beyond:
                raise InputError(
                    "The role of this account does not allow these scopes", seen=", ".join(beyond),
                    remedy=f"A {user.role} can have {', '.join(sorted(_ROLE_SCOPES[user.role]))}.", code="token-scope",
                )  # fmt: skip
            row = ApiToken(
                user_id=user_id, label=" ".join(label.split())[:80] or "token", digest=credentials.digest(secret),
                scopes=sorted(set(scopes)), expires=_in_days(days),
            )  # fmt: skip
            session.add(row)
        return secret, row

    def revoke(self, user_id: str, token_id: str) -> None:
        """Delete a token of an account.

        Raises:
            RequestRefused: 404.
        """
        with self._database.session() as session:
            found = session.get(ApiToken, token_id)
            if found is None or found.user_id != user_id:
                raise not_found("token", token_id)
            session.delete(found)


def _principal(user: User, scopes: frozenset[str], via: Literal["session", "token"]) -> Principal:
    return Principal(user.id, user.name, as_role(user.role), scopes & _ROLE_SCOPES[user.role], via)


def as_role(text: str) -> Role:
    """Return a role as its type; what is none has the fewest rights."""
    return next((role for role in ROLES if role == text), "viewer")


def _in_days(days: int) -> datetime:
    return now() + timedelta(days=days)


def _found(session: Session, user_id: str) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise not_found("account", user_id)
    return user


def _only_admin(session: Session, user: User) -> bool:
    if user.role != "admin" or user.disabled:
        return False
    others = select(func.count()).where(User.role == "admin", ~User.disabled, User.id != user.id)
    return not session.scalar(others)


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    # As it is looked up: a letter such as ß is two there.
    if not name or len(name.casefold()) > _MOST_NAME or not name.isprintable():
        raise InputError(
            "This cannot be the name of an account", seen=name[:_MOST_NAME] or "nothing",
            remedy=f"Give one line of 1 to {_MOST_NAME} printable characters; some, such as ß, count twice.",
            code="account-name",
        )  # fmt: skip
    return name


def _checked_role(role: str) -> None:
    if role not in ROLES:
        raise InputError("There is no such role", seen=role, remedy=f"Choose one of {', '.join(ROLES)}.", code="role")


def _last_admin(name: str) -> RequestRefused:
    return RequestRefused(
        409, "This is the only admin", seen=name, remedy="Make another account an admin first.", code="last-admin"
    )


def _wrong_password() -> RequestRefused:
    return RequestRefused(
        401, "Name and password do not fit together", remedy="Check both; an admin can set a new password.",
        code="wrong-password",
    )  # fmt: skip
