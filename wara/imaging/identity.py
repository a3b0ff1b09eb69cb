"""Turn a patient's ID into a name that groups images and cannot be turned back: a hash under this machine's key."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
import uuid
from functools import lru_cache
from pathlib import Path

from wara.errors import InputError
from wara.home import home

KEY_NAME = "patient-key"
# What a de-identified file says as its PatientID, before the hash: it is read back as it is, not hashed once more.
CODED = "WARA-"
_CODED = re.compile(rf"{CODED}([0-9a-f]{{12}})")
UID_ROOT = "2.25."
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
    coded = _CODED.fullmatch(cleaned)
    if coded:
        return coded[1]
    return hashlib.blake2b(cleaned.encode(), key=_key(home()), digest_size=6).hexdigest()


def keyed_digest(text: str, purpose: bytes) -> bytes:
    """Return 16 bytes for a text under this machine's key, other ones for each purpose (at most 16 bytes long).

    Raises:
        InputError: the key can be neither read nor made.
    """
    data = text.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(data, key=_key(home()), digest_size=16, person=purpose).digest()


def keyed_uid(uid: str) -> str:
    """Return a UID that stands for another one, the same on this machine every time (root 2.25, PS3.5 B.2).

    Raises:
        InputError: the key can be neither read nor made.
    """
    digest = keyed_digest(uid.strip(" \0"), b"uid")
    return f"{UID_ROOT}{uuid.UUID(bytes=digest, version=4).int}"


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
