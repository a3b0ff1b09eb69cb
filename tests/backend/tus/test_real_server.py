"""Uploads to a server in a process of its own: killed in the middle, and flat in memory."""

from __future__ import annotations

import hashlib
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.backend.support import API, Server, Studio, assert_problem, make_zip, study, wait_until
from tests.backend.tus.support import Sender, checksum, packed

MEBIBYTE = 1024 * 1024
# The server as it is started, but for torch, which it would import at an unknown moment.
WITHOUT_WARM_UP = """
import sys, backend.__main__, backend.main
backend.main.WARM_UP_AFTER_S = 1e6
sys.exit(backend.__main__.main())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "data")
    made.folder.mkdir()
    yield made
    if made.process is not None:
        made.stop(signal.SIGKILL)


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def begin_patch(studio: Studio, url: str, offset: int, length: int, **headers: str) -> socket.socket:
    """Open a connection and announce a PATCH whose body the caller sends."""
    address = (studio.http.base_url.host, studio.http.base_url.port)
    lines = {
        "Host": f"{address[0]}:{address[1]}", "Tus-Resumable": "1.0.0", "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream", "Content-Length": str(length), **headers,
    }  # fmt: skip
    connection = socket.create_connection(address)
    head = f"PATCH {url} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    connection.sendall(head.encode() + b"\r\n")
    return connection


def test_a_server_killed_while_bytes_come_goes_on_from_those_that_count(server: Server) -> None:
    studio = server.start()
    sender = Sender(studio, server.folder)
    archive = make_zip(study() | {"study/fine/noise.bin": noise(1, 24 * MEBIBYTE)})
    dataset = sender.dataset()
    url = sender.begun(dataset, len(archive), path="scans.zip")
    sender.send(dataset, packed({"beside/1.png": b"1"}))
    first = archive[: 3 * MEBIBYTE]
    assert sender.patch(url, 0, first, **checksum(first)).status_code == 204
    data = next((server.folder / "uploads" / dataset).glob("*/data"))

    # With a checksum: what was not proven does not count, though it lies on the disk.
    piece = archive[3 * MEBIBYTE : 8 * MEBIBYTE]
    with begin_patch(studio, url, 3 * MEBIBYTE, len(piece), **checksum(piece)) as connection:
        connection.sendall(piece[:-10])
        wait_until(lambda: data.stat().st_size > 3 * MEBIBYTE)
        server.stop(signal.SIGKILL)
    studio = server.start()
    sender = Sender(studio, server.folder)
    assert sender.offset(url) == 3 * MEBIBYTE
    assert sender.names(dataset) == ["beside/1.png"]

    # Without: what was written through counts, at most eight mebibytes are lost.
    with begin_patch(studio, url, 3 * MEBIBYTE, len(archive) - 3 * MEBIBYTE) as connection:
        connection.sendall(archive[3 * MEBIBYTE : 14 * MEBIBYTE])
        wait_until(lambda: sender.offset(url) > 3 * MEBIBYTE)
        server.stop(signal.SIGKILL)
    sender = Sender(server.start(), server.folder)
    offset = sender.offset(url)
    assert 11 * MEBIBYTE <= offset <= 14 * MEBIBYTE
    assert_problem(sender.patch(url, 14 * MEBIBYTE + 1, b"x"), 409, "wrong-offset")
    assert sender.patch(url, offset, archive[offset:]).status_code == 204
    stored = server.folder / "staging" / dataset / "files" / "scans.zip"
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(archive).digest()


def test_a_connection_that_breaks_leaves_the_upload_free_to_be_gone_on_with(server: Server) -> None:
    studio = server.start()
    sender = Sender(studio, server.folder)
    dataset = sender.dataset()
    data = noise(2, 4 * MEBIBYTE)
    url = sender.begun(dataset, len(data), path="a/1.png")
    stored = next((server.folder / "uploads" / dataset).glob("*/data"))
    with begin_patch(studio, url, 0, len(data)) as connection:
        connection.sendall(data[: 2 * MEBIBYTE])
        wait_until(lambda: stored.stat().st_size >= MEBIBYTE)
        assert_problem(sender.patch(url, 0, data), 423, "upload-locked")
    wait_until(lambda: sender.offset(url))
    offset = sender.offset(url)
    answer = sender.patch(url, offset, data[offset:])
    assert answer.status_code == 204, answer.text
    assert (server.folder / "staging" / dataset / "files/a/1.png").read_bytes() == data


def test_memory_stays_flat_while_300_mb_arrive(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.backend.support as support

    popen = support.subprocess.Popen
    monkeypatch.setattr(
        support.subprocess, "Popen", lambda _, **options: popen([sys.executable, "-c", WITHOUT_WARM_UP], **options)
    )
    studio = server.start()
    wait_until(lambda: studio.http.get(f"{API}/health").json()["device"])
    sender = Sender(studio, server.folder)
    dataset = sender.dataset()
    sender.send(dataset, packed({f"first/{number}.png": noise(number, 100_000) for number in range(80)}))
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    peaks = []

    def pieces() -> Iterator[bytes]:
        for number in range(150):
            yield noise(number, MEBIBYTE)
            peaks.append(process.memory_info().rss)

    url = sender.begun(dataset, 150 * MEBIBYTE, path="a/large.tif")
    headers = {"Content-Length": str(150 * MEBIBYTE)}
    assert sender.patch(url, 0, pieces(), **headers).status_code == 204  # type: ignore[arg-type]
    for part in range(19):
        sender.send(dataset, packed({f"b/{part}_{i}.png": noise(i, 80_000) for i in range(100)}))
        peaks.append(process.memory_info().rss)
    arrived = sender.arrived(dataset)
    assert (arrived["files"], arrived["refused"]) == (80 + 1 + 1900, [])
    assert arrived["bytes"] > 300_000_000
    assert max(peaks) - before < 50 * MEBIBYTE
