"""Processes of their own, watched from outside: how long they took, and the most memory that they held."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Ended:
    """A process that came to its end.

    Attributes:
        output: what it wrote to its standard output.
        seconds: from its start to its end.
        peak_mb: largest resident memory of the process itself, without its children, in MiB.
    """

    output: str
    seconds: float
    peak_mb: float


def memory_mb(pid: int, field: str) -> float:
    """Return ``VmRSS`` (now) or ``VmHWM`` (the most so far) of a process in MiB; NaN where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return float("nan")
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    return int(found.group(1)) / 1024 if found else float("nan")


def watch(
    command: Sequence[str],
    *,
    settings: Mapping[str, str] | None = None,
    look: Callable[[float], object] = lambda seconds: None,
) -> Ended:
    """Run a command of Python to its end in a process of its own.

    Args:
        command: what stands behind the interpreter on the command line.
        settings: environment variables beside those of this process, of which ``WARA_*`` are left out.
        look: called every 20 ms, and once at the end, with the seconds since the start.

    Raises:
        SystemExit: it ended with an error; its own messages stand above.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WARA_")}
    peak = 0.0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=kept | dict(settings or {}), stdout=output)
        try:
            while process.poll() is None:
                now = memory_mb(process.pid, "VmHWM")
                peak = max(peak, 0.0 if now != now else now)
                look(time.perf_counter() - start)
                time.sleep(_LOOK_SECONDS)
        finally:
            process.kill()
            process.wait()
        seconds = time.perf_counter() - start
        look(seconds)
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:3])} ended with code {process.returncode}: {said[-500:]}")
    return Ended(said, seconds, peak)
