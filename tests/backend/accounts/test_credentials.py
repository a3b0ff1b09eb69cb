"""Passwords and secrets: what is stored cannot be read back, and what is weak is refused."""

from __future__ import annotations

import pytest

from backend.accounts import credentials
from wara.errors import InputError


def test_a_password_is_stored_as_argon2id_with_a_salt_of_its_own() -> None:
    first, second = credentials.hash_password("four unrelated words"), credentials.hash_password("four unrelated words")
    assert first.startswith("$argon2id$") and first != second
    assert credentials.matches("four unrelated words", first) and credentials.matches("four unrelated words", second)
    assert not credentials.matches("four unrelated word", first)


@pytest.mark.parametrize("stored", [None, "", "plain", "$argon2id$v=19$broken"])
def test_nothing_fits_an_account_that_is_not_there_or_a_damaged_hash(stored: str | None) -> None:
    assert not credentials.matches("four unrelated words", stored)


@pytest.mark.parametrize("password", ["qwertz12", "x" * 201, "aaaaaaaaaaaa", "benedicta-benedicta"])
def test_a_weak_password_is_refused_without_being_repeated(password: str) -> None:
    with pytest.raises(InputError) as error:
        credentials.check_password(password, "Benedicta")
    assert error.value.code == "password-weak" and password not in error.value.sentence()


@pytest.mark.parametrize(
    ("name", "password"),
    [("a", "correct horse battery"), ("Li", "purple-lizard-brick-sky"), ("Ada", "canada goose 17")],
)
def test_a_short_name_that_is_in_a_password_by_chance_is_no_harm(name: str, password: str) -> None:
    credentials.check_password(password, name)


@pytest.mark.parametrize(("name", "password"), [("Anna", "hannah-anna-12"), ("Li", "lililililili")])
def test_a_name_that_is_the_password_is_one(name: str, password: str) -> None:
    with pytest.raises(InputError) as error:
        credentials.check_password(password, name)
    assert error.value.code == "password-weak"


def test_secrets_differ_and_only_their_digest_is_stored() -> None:
    secret = credentials.new_secret()
    assert secret != credentials.new_secret() and len(secret) >= 43
    assert credentials.digest(secret) == credentials.digest(secret) != secret
