"""What a terminal is told of whatever keeps the server or a command from its work: settings, files, the database."""

from __future__ import annotations

import sqlite3
from typing import get_args

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails
from sqlalchemy.exc import DBAPIError

from backend.db.engine import unusable
from backend.settings import Settings
from backend.storage import DATABASE_FILE
from wara.errors import InputError

# What has a sentence; anything else is a fault of the program, and its trace is wanted.
EXPECTED = (InputError, ValidationError, DBAPIError, sqlite3.Error, OSError)


def sentence(error: Exception) -> str:
    """Return one of the ``EXPECTED`` errors as text; of settings each has its line, and no secret is repeated."""
    if isinstance(error, InputError):
        return error.sentence()
    if isinstance(error, ValidationError):
        return "\n".join(map(_setting, error.errors(include_url=False)))
    if isinstance(error, DBAPIError | sqlite3.Error):
        return unusable(Settings().data_dir / DATABASE_FILE, error).sentence()
    if isinstance(error, OSError):
        seen = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part is not None)
        return (
            f"A file or folder cannot be used (seen: {seen}). Check the path and WARA_DATA_DIR, whether this user may "
            "read and write there, and whether the disk has room."
        )
    raise error


def _setting(found: ErrorDetails) -> str:
    said = found["msg"].removeprefix("Value error, ")
    if not found["loc"]:  # of all settings together; what was seen would be all of them
        return f"{said}."
    name = str(found["loc"][0])
    seen = "" if _is_secret(name) else f" (seen: {found['input']})"
    return f"WARA_{name.upper()}: {said}{seen}"


def _is_secret(name: str) -> bool:
    field = Settings.model_fields.get(name)
    return field is not None and SecretStr in (field.annotation, *get_args(field.annotation))
