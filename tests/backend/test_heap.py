"""The server's threads share one heap, where the C library is glibc."""

from __future__ import annotations

import itertools
import platform
import re
import signal
from pathlib import Path

import pytest

from tests.backend.support import API, Server, study

# What glibc sets aside for a thread's heap on 64 bits, at a multiple of its size: the used part can be written, the
# rest cannot be touched.
ARENA = 64 << 20

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")


def arenas(pid: int) -> int:
    """Return how many heaps a process has beside its first."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    found = [re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line) for line in lines]
    parts = [(int(one[1], 16), int(one[2], 16), one[3]) for one in found if one]
    return sum(
        start % ARENA == 0 and used == "rw-p" and rest == "---p" and middle == then and end == start + ARENA
        for (start, middle, used), (then, end, rest) in itertools.pairwise(parts)
    )


@pytest.mark.parametrize(("asked", "expected"), [(None, False), ("8", True)])
def test_threads_of_the_server_share_one_heap_unless_asked_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str | None, expected: bool
) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    if asked is not None:
        monkeypatch.setenv("MALLOC_ARENA_MAX", asked)
    (tmp_path / "data").mkdir()
    server = Server(tmp_path / "data")
    studio = server.start()
    assert server.process is not None
    try:
        studio.ready(study(6))  # uploads, the check and the decoders have threads of their own
        assert studio.http.get(f"{API}/health").status_code == 200
        assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) > 2
        assert (arenas(server.process.pid) > 0) is expected
    finally:
        server.stop(signal.SIGTERM)
