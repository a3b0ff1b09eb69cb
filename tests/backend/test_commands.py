"""The commands beside the server: accounts, and a server that others can reach does not start without them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend.jobs.process import ROOT

PASSWORD = "correct horse battery staple"


def run(folder: Path, *words: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backend", *words],
        cwd=ROOT,
        env={**os.environ, "WARA_DATA_DIR": str(folder), "WARA_PORT": "0", "WARA_FRONT_END": "false", **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_that_others_can_reach_does_not_start_without_accounts(tmp_path: Path, host: str) -> None:
    done = run(tmp_path / "data", WARA_HOST=host)
    assert done.returncode == 2 and "users add" in done.stderr and "Traceback" not in done.stderr


def test_accounts_are_made_listed_and_changed_and_a_password_stands_on_no_command_line(tmp_path: Path) -> None:
    made = run(tmp_path / "data", "users", "add", "Ada Admin", stdin=PASSWORD + "\n")
    assert made.returncode == 0 and made.stdout.startswith("Ada Admin (admin)"), made.stderr
    assert run(tmp_path / "data", "users", "add", "ben", stdin=PASSWORD + "\n").stdout.strip() == "ben (member)"
    assert run(tmp_path / "data", "users", "role", "ben", "viewer").stdout.strip() == "ben (viewer)"
    listed = run(tmp_path / "data", "users", "list").stdout
    assert "Ada Admin\tadmin" in listed and "ben\tviewer" in listed
    refused = run(tmp_path / "data", "users", "role", "nobody", "admin")
    assert refused.returncode == 2 and "Accounts are: Ada Admin, ben" in refused.stderr
    weak = run(tmp_path / "data", "users", "password", "ben", stdin="short\n")
    assert weak.returncode == 2 and "too short" in weak.stderr


def test_a_wrong_command_says_what_there_is(tmp_path: Path) -> None:
    done = run(tmp_path / "data", "start")
    assert done.returncode == 2 and "No such command" in done.stderr and "Traceback" not in done.stderr


def test_a_server_that_does_not_start_repeats_no_secret(tmp_path: Path) -> None:
    done = run(tmp_path / "data", WARA_TLS_CERT="/tmp/a.pem", WARA_ADMIN_PASSWORD=PASSWORD)
    assert done.returncode == 2 and "WARA_TLS_KEY" in done.stderr
    assert PASSWORD not in done.stderr and PASSWORD not in done.stdout


def test_a_host_that_is_not_this_machine_is_told_from_a_busy_port(tmp_path: Path) -> None:
    done = run(tmp_path / "data", WARA_HOST="no.such.host.invalid")
    assert done.returncode == 2 and done.stderr.startswith("WARA_HOST is no address of this machine")
    assert "WARA_PORT" not in done.stderr


def test_a_setting_that_cannot_be_used_is_named_by_a_command_too(tmp_path: Path) -> None:
    done = run(tmp_path / "data", "users", "list", WARA_WARM_MODELS="x")
    assert done.returncode == 2 and "WARA_WARM_MODELS" in done.stderr and "(seen: x)" in done.stderr


@pytest.mark.parametrize("words", [(), ("users", "list"), ("backup", "copy.tar")])
def test_a_damaged_database_is_a_sentence_for_the_server_and_every_command(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "wara.db").write_bytes(b"no page of a database" * 1000)
    done = run(tmp_path, *[str(tmp_path / word) if word == "copy.tar" else word for word in words])
    assert done.returncode == 2 and "The database is damaged" in done.stderr
    assert str(tmp_path / "wara.db") in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [(), ("users", "list")])
def test_a_data_folder_that_is_a_file_is_a_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    done = run(tmp_path / "file", *words)
    assert done.returncode == 2 and "The data folder cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_backup_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    run(tmp_path / "data", "users", "list")
    (tmp_path / "file").touch()
    done = run(tmp_path / "data", "backup", str(tmp_path / "file" / "copy.tar"))
    assert done.returncode == 2 and f"(seen: {tmp_path / 'file'}" in done.stderr
    assert "Traceback" not in done.stderr
