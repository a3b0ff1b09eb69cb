"""A real server for benchmarks: a process on a data folder of its own, its memory watched."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from benchmarks.processes import ROOT, memory_mb

# The server as it is started, but for torch, which would come into its memory at an unknown moment.
COLD = """
import sys, backend.__main__, backend.main
backend.main.WARM_UP_AFTER_S = 1e6
sys.exit(backend.__main__.main())
"""

# Of the server, in processes of their own.
PARTS = {"wara.inference_apart", "wara.data.apart"}


class Server:
    """A server on a data folder of its own, its memory watched."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.client = httpx.Client(base_url=address, timeout=600, trust_env=False)

    def memory_mb(self, field: str) -> float:
        """Return ``VmRSS`` (now) or ``VmHWM`` (the most since the last reset) in MiB."""
        return memory_mb(self.process.pid, field)

    def all_memory_mb(self, field: str) -> float:
        """Return the same of the server and the processes that hold its models and decode, added up; no trainings."""
        return sum(memory_mb(pid, field) for pid in self._all())

    def forget_peak(self) -> None:
        """Begin the measurement of the peak anew."""
        for pid in self._all():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _all(self) -> list[int]:
        children = psutil.Process(self.process.pid).children()
        return [self.process.pid, *(child.pid for child in children if PARTS & set(child.cmdline()))]


@contextmanager
def running(folder: Path, program: tuple[str, ...] = ("-c", COLD), *, pages: bool = False) -> Iterator[Server]:
    """Start a server; it ends with the block."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WARA_")}
    settings = {"WARA_DATA_DIR": str(folder), "WARA_PORT": "0", "WARA_LOG_LEVEL": "warning"}
    settings |= {"WARA_FRONT_END": str(pages), "WARA_HOME": str(folder / "home")}
    process = subprocess.Popen(
        [sys.executable, *program], cwd=ROOT, env=kept | settings, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "ready: " not in line:
            raise SystemExit("The server did not start; its messages stand above.")
        server = Server(process, line.rpartition(" ")[2].strip())
        while server.client.get("/api/v1/health").json()["device"] is None:
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def good(answer: httpx.Response) -> httpx.Response:
    """Return an answer that is no refusal; end the benchmark with what a refusal says."""
    if not answer.is_success:
        raise SystemExit(f"The server refused: {answer.status_code} {answer.text[:300]}")
    return answer
