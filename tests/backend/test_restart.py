"""The server as it is started, killed and started again, with a real training under way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from backend.jobs.process import ROOT, ProcessIdentity
from tests.backend.support import API, Server, Studio, assert_problem, study, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "data")
    made.folder.mkdir()
    yield made
    if made.process is not None:
        made.stop(signal.SIGKILL)
    for note in made.folder.glob("jobs/*/process.json"):
        found = ProcessIdentity.noted_in(note.parent)
        if found is not None:
            found.signal_group(signal.SIGKILL)


def begin(studio: Studio, epochs: int) -> dict[str, Any]:
    """Start a training and wait until its first epoch is done."""
    job = studio.train(studio.ready(study())["id"], epochs=epochs, patience=epochs)
    wait_until(lambda: studio.job(job["id"])["history"])
    return job


def test_a_killed_training_goes_on_from_its_checkpoint_after_a_restart(server: Server) -> None:
    studio = server.start()
    job = begin(studio, epochs=30)
    first = server.worker(job["id"])
    server.stop(signal.SIGKILL)
    os.killpg(first.pid, signal.SIGKILL)
    wait_until(lambda: not first.is_alive())

    studio = server.start()
    ended = studio.ended(job["id"])
    assert ended["state"] == "succeeded", ended
    assert server.worker(job["id"]).pid != first.pid
    assert [epoch["epoch"] for epoch in ended["history"]] == list(range(1, 31))
    # Resumed, not begun again: the first epoch was done once.
    lines = (server.folder / "jobs" / job["id"] / "events.jsonl").read_text().splitlines()
    assert [event["epoch"] for event in map(json.loads, lines) if event["type"] == "epoch"].count(1) == 1
    assert studio.http.get(f"{API}/models").json()["items"][0]["job_id"] == job["id"]
    assert server.stop(signal.SIGTERM) in (0, -signal.SIGTERM)


def test_a_training_outlives_its_server_and_is_watched_again(server: Server) -> None:
    studio = server.start()
    job = begin(studio, epochs=10_000)
    first = server.worker(job["id"])
    server.stop(signal.SIGINT)
    assert first.is_alive()

    studio = server.start()
    known = len(studio.job(job["id"])["history"])
    wait_until(lambda: len(studio.job(job["id"])["history"]) > known)
    assert server.worker(job["id"]) == first
    began = time.monotonic()
    studio.http.post(f"{API}/jobs/{job['id']}/cancel")
    assert studio.ended(job["id"])["state"] == "cancelled"
    assert time.monotonic() - began < 60  # promised are ten seconds; this machine may be busy
    assert not psutil.pid_exists(first.pid) or not first.is_alive()


def test_a_training_that_cannot_outlive_its_server_keeps_its_last_step(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", WARA_JOBS_OUTLIVE_SERVER="false")
    server.folder.mkdir()
    try:
        job = begin(server.start(), epochs=10_000)
        first = server.worker(job["id"])
        server.stop(signal.SIGTERM)
        assert not first.is_alive()
        assert json.loads((server.folder / "jobs" / job["id"] / "result.json").read_text()) == {"state": "stopped"}

        studio = server.start()
        known = len(studio.job(job["id"])["history"])
        wait_until(lambda: len(studio.job(job["id"])["history"]) > known)
        codes = [each["code"] for each in studio.job(job["id"])["happenings"]]
        assert codes == ["queued", "started", "stopped", "resumed"]
        studio.http.post(f"{API}/jobs/{job['id']}/cancel")
        studio.ended(job["id"])
    finally:
        server.stop(signal.SIGKILL)


def test_an_open_event_stream_does_not_keep_the_server_from_ending(server: Server) -> None:
    studio = server.start()
    job = begin(studio, epochs=10_000)
    with studio.http.stream("GET", f"{API}/jobs/{job['id']}/events") as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("id: ")) == "id: 1"
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)


def test_what_the_server_and_its_jobs_write_is_for_their_user_alone(server: Server) -> None:
    before = os.umask(0o022)
    try:
        server.start()
        job = server.folder / "jobs" / "x"
        job.mkdir(mode=0o755)
        subprocess.run([sys.executable, "-m", "backend.jobs.worker", job], cwd=ROOT, timeout=120, check=False)
    finally:
        os.umask(before)
    files = [server.folder / "wara.db", server.folder / "server.lock", job / "worker.lock", job / "result.json"]
    assert [oct(file.stat().st_mode & 0o077) for file in files] == ["0o0"] * 4
    assert server.folder.stat().st_mode & 0o077 == 0


def test_a_second_server_on_the_same_data_says_so(server: Server) -> None:
    server.start()
    second = subprocess.run(
        [sys.executable, "-m", "backend"], cwd=ROOT, env={**os.environ, **server.environment()},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert second.returncode == 2
    assert "already running on this data folder" in second.stderr
    assert "Traceback" not in second.stderr and second.stdout == ""


def test_a_port_in_use_and_a_wrong_setting_are_said_in_words(server: Server) -> None:
    port = httpx.URL(server.start().http.base_url).port
    for values, words in (
        ({"WARA_PORT": str(port)}, f"127.0.0.1:{port}"),
        ({"WARA_PORT": "many"}, "WARA_PORT"),
        ({"WARA_BACKBONES": "deit"}, "WARA_BACKBONES"),
    ):
        refused = subprocess.run(
            [sys.executable, "-m", "backend"], cwd=ROOT, env={**os.environ, **server.environment(), **values},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert refused.returncode == 2
        assert words in refused.stderr and "Traceback" not in refused.stderr


def test_a_client_that_goes_away_leaves_nothing(server: Server) -> None:
    studio = server.start()
    address = (studio.http.base_url.host, studio.http.base_url.port)
    head = (
        f"POST {API}/datasets HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nContent-Length: 9000000\r\n"
        "Content-Type: multipart/form-data; boundary=xyz\r\n\r\n"
        '--xyz\r\nContent-Disposition: form-data; name="files"; filename="a/1.png"\r\n\r\n'
    )
    with socket.create_connection(address) as connection:
        connection.sendall(head.encode() + bytes(3_000_000))
        wait_until(lambda: list(server.folder.glob("scratch/*/1")))
    wait_until(lambda: studio.http.get(f"{API}/datasets").json()["items"] == [])
    wait_until(lambda: list((server.folder / "staging").iterdir()) == [])
    assert "Traceback" not in server.log()


def test_a_refused_upload_is_answered_though_much_of_it_is_still_to_come(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", WARA_MAX_UPLOAD_MB="1")
    server.folder.mkdir()
    try:
        answer = server.start().upload({"a/1.png": bytes(40_000_000)})
        assert_problem(answer, 413, "upload-too-large")
    finally:
        server.stop(signal.SIGKILL)
