from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wara.errors import InputError
from wara.imaging.identity import KEY_NAME, _key, home, pseudonym


def test_the_same_patient_has_the_same_name_in_every_process(own_home):
    name = pseudonym("4711")
    code = "from wara.imaging.identity import pseudonym; print(pseudonym('4711'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == name


def test_another_machine_gives_other_names(own_home, monkeypatch, tmp_path):
    name = pseudonym("4711")
    monkeypatch.setenv("WARA_HOME", str(tmp_path / "elsewhere"))
    assert pseudonym("4711") != name


def test_the_key_is_for_its_owner_alone(own_home):
    pseudonym("4711")
    key = own_home / KEY_NAME
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32
    assert [path.name for path in own_home.iterdir()] == [KEY_NAME]


def test_processes_that_start_at_once_share_one_key(own_home):
    code = "from wara.imaging.identity import pseudonym; print(pseudonym('4711'))"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1


def test_an_empty_id_names_nobody():
    assert [pseudonym(text) for text in ("", "  ", "\0")] == [None, None, None]


def test_a_damaged_key_is_an_error_and_not_a_new_name(own_home):
    own_home.mkdir()
    (own_home / KEY_NAME).write_bytes(b"short")
    with pytest.raises(InputError, match="5 bytes instead of 32"):
        pseudonym("4711")


def test_a_folder_that_cannot_be_made_is_an_error_that_says_what_to_set(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WARA_HOME", str(tmp_path / "file" / "inside"))
    with pytest.raises(InputError, match="set WARA_HOME"):
        pseudonym("4711")


def test_the_home_follows_the_desktop_convention(monkeypatch, tmp_path):
    monkeypatch.delenv("WARA_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert home() == tmp_path / "wara-studio"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert home() == Path("~").expanduser() / ".local" / "share" / "wara-studio"


def test_the_key_is_read_once(own_home):
    name = pseudonym("4711")
    (own_home / KEY_NAME).unlink()
    assert pseudonym("4711") == name
    _key.cache_clear()
    assert pseudonym("4711") != name
