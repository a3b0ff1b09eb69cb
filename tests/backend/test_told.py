"""What a terminal is told: each wrong setting by its name, no secret, and no trace where a sentence does."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from pydantic import ValidationError

from backend import told
from backend.settings import Settings

PASSWORD = "correct horse battery staple"


def of_settings(**values: Any) -> str:
    with pytest.raises(ValidationError) as error:
        Settings(**values)
    return told.sentence(error.value)


def test_a_rule_between_settings_repeats_none_of_them() -> None:
    said = of_settings(tls_cert="/tmp/a.pem", admin_password=PASSWORD)
    assert said == "WARA_TLS_CERT and WARA_TLS_KEY go together: set both or neither."


def test_a_secret_setting_is_named_and_not_repeated() -> None:
    said = of_settings(admin_password=[PASSWORD])
    assert said.startswith("WARA_ADMIN_PASSWORD: ") and PASSWORD not in said and "seen" not in said


def test_each_wrong_setting_has_its_line_with_what_was_seen() -> None:
    first, second = of_settings(port="many", warm_models="x").splitlines()
    assert first.startswith("WARA_PORT: ") and first.endswith("(seen: many)")
    assert second.startswith("WARA_WARM_MODELS: ") and second.endswith("(seen: x)")


def test_a_file_that_cannot_be_used_is_named_with_the_systems_reason() -> None:
    said = told.sentence(PermissionError(13, "Permission denied", "/srv/backup.tar"))
    assert "(seen: /srv/backup.tar: Permission denied)" in said and said.endswith(".")


def test_a_damaged_database_and_one_that_cannot_be_opened_are_told_apart() -> None:
    damaged = told.sentence(sqlite3.DatabaseError("database disk image is malformed"))
    assert damaged.startswith("The database is damaged") and "restore" in damaged
    locked = told.sentence(sqlite3.OperationalError("database is locked"))
    assert locked.startswith("The database cannot be used") and "database is locked" in locked


def test_a_fault_of_the_program_keeps_its_trace() -> None:
    with pytest.raises(KeyError):
        told.sentence(KeyError("fault"))
