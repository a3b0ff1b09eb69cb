"""Accounts: whoever is let in can also be found again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.accounts.people import People
from backend.db import Database
from wara.errors import InputError

PASSWORD = "correct horse battery staple"


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    database = Database(tmp_path / "wara.db")
    database.upgrade()
    yield People(database)
    database.close()


@pytest.mark.parametrize("name", ["a" * 80, "ß" * 40, "Ada Admin"])
def test_every_name_that_is_taken_can_sign_in(people: People, name: str) -> None:
    made = people.add(name, PASSWORD, "admin")
    assert people.sign_in(name, PASSWORD, "here")[1].id == made.id


@pytest.mark.parametrize("name", ["a" * 81, "ß" * 41, "ß" * 80, "", " ", "a\x00b"])
def test_a_name_that_could_never_sign_in_is_refused(people: People, name: str) -> None:
    with pytest.raises(InputError) as error:
        people.add(name, PASSWORD, "admin")
    assert error.value.code == "account-name"
