"""Where weights files were last seen is remembered on this machine, and only while they are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from wara.home import home, remember_weights, remembered_weights


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WARA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_file_is_found_by_its_fingerprint_until_it_is_gone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        remember_weights(f"print-{name}", tmp_path / name)

    assert remembered_weights("print-a") == tmp_path / "a"
    assert remembered_weights("print-b") == tmp_path / "b"
    assert remembered_weights("print-c") is None
    (tmp_path / "a").unlink()
    assert remembered_weights("print-a") is None


@pytest.mark.parametrize("content", ["", "no json", "[1, 2]"])
def test_a_damaged_list_is_as_good_as_none(content: str, tmp_path: Path, own_home: Path) -> None:
    own_home.mkdir()
    (own_home / "weights.json").write_text(content)
    assert remembered_weights("x") is None
    (tmp_path / "w").write_text("w")
    remember_weights("x", tmp_path / "w")
    assert remembered_weights("x") == tmp_path / "w"


def test_a_home_that_cannot_be_written_stops_nothing(tmp_path: Path, own_home: Path) -> None:
    own_home.write_text("a file where the folder should be")
    remember_weights("x", tmp_path)
    assert remembered_weights("x") is None


def test_without_the_variable_it_lies_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WARA_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert home() == Path("/somewhere/wara-studio")
