"""Turn a patient's ID into a name that groups images and cannot be turned back: a hash under this machine's key."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path

from wara.errors import InputError
from wara.home import home

KEY_NAME = "patient-key"
_KEY_BYTES = 32


def pseudonym(patient_id: str) -> str | None:
    """Return 12 hexadecimal digits for a patient ID, the same on this machine every time; None for an empty ID.

    A plain hash of a hospital number is found again by trying all numbers; the key of 256 bits prevents that
    (BLAKE2 keyed mode, RFC 7693). Deleting the key cuts the link for good.

    Raises:
        InputError: the key can be neither read nor made.
    """
    cleaned = patient_id.strip(" \0\t\r\n")
    if not cleaned:
        return None
    return hashlib.blake2b(cleaned.encode(), key=_key(home()), digest_size=6).hexdigest()


@lru_cache(maxsize=8)
def _key(folder: Path) -> bytes:
    path = folder / KEY_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise InputError(
            "The key that hides patient IDs cannot be read or made",
            seen=f"{path}: {error.strerror}",
            remedy="Let this account write there, or set WARA_HOME to a folder that it may write.",
            code="patient-key",
        ) from error
    if len(key) != _KEY_BYTES:
        raise InputError(
            "The key that hides patient IDs is damaged",
            seen=f"{path}: {len(key)} bytes instead of {_KEY_BYTES}",
            remedy="Restore it from a backup, or delete it: a new one is made, and patients get new names.",
            code="patient-key",
        )
    return key


def _make_key(path: Path) -> None:
    # Written whole beside and then linked: of two processes that start at once both use the first one's key.
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{KEY_NAME}-")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        Path(draft).unlink()
