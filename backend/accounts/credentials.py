"""Passwords as argon2id hashes, and secrets of sessions and tokens as digests; neither can be read back."""

from __future__ import annotations

import hashlib
import secrets
import threading
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from wara.errors import InputError

LEAST_CHARACTERS = 10
MOST_CHARACTERS = 200
LEAST_TELLING = 4
# Each hash takes 64 MiB while it is computed; a crowd at the door must not take the machine's memory.
_room = threading.Semaphore(2)
_hasher = PasswordHasher()


def check_password(password: str, name: str) -> None:
    """Raise for a password that is too easy to guess.

    Raises:
        InputError: too short, too long, the account's own name, or one character again and again.
    """
    what = None
    if len(password) < LEAST_CHARACTERS:
        what, seen = "The password is too short", f"{len(password)} characters"
    elif len(password) > MOST_CHARACTERS:
        what, seen = "The password is too long", f"{len(password)} characters"
    elif _repeats(name, password) or len(set(password)) < 4:
        what, seen = "The password is too easy to guess", "the account's name, or very few different characters"
    if what is not None:
        raise InputError(
            what, seen=seen,
            remedy=f"Choose one of {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters, e.g. four unrelated words.",
            code="password-weak",
        )  # fmt: skip


def _repeats(name: str, password: str) -> bool:
    """Whether a password holds the account's name; of fewer letters nearly every sentence has some by chance."""
    return len(name) >= LEAST_TELLING and name.casefold() in password.casefold()


def hash_password(password: str) -> str:
    """Return an argon2id hash with its own salt and the library's present parameters."""
    with _room:
        return _hasher.hash(password)


def matches(password: str, stored: str | None) -> bool:
    """Tell whether a password is the stored one; takes as long where there is no account of that name."""
    with _room:
        try:
            return _hasher.verify(stored or _nobody(), password[: MOST_CHARACTERS + 1]) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def new_secret() -> str:
    """Return a secret of 256 bits, fit for a cookie or a header."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Return what is stored of a secret; 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=1)
def _nobody() -> str:
    return _hasher.hash(new_secret())
