"""Whether a job that ended gave its memory back: processes left of it, and what the graphics card says it holds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from backend.jobs.process import ProcessIdentity

SMI_SECONDS = 10.0
# Where the system counts processes that it ended because the memory was out: of the machine, and of a container.
OOM_COUNTS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))


def processes_of(identity: ProcessIdentity) -> list[psutil.Process]:
    """Return the processes of a job that still run: its own, and those that it started.

    A job leads a session of its own, whose number no other gets while one of its processes is there.
    """
    if psutil.pid_exists(identity.pid) and not identity.is_alive() and not _is_zombie(identity.pid):
        return []  # the number belongs to another by now, so the session is empty
    return [process for process in psutil.process_iter() if _session(process.pid) == identity.pid and _runs(process)]


def held_on_gpu(pids: set[int]) -> float:
    """Return how much memory in MiB these processes hold on graphics cards; 0 where there is no ``nvidia-smi``."""
    program = shutil.which("nvidia-smi")
    if program is None or not pids:
        return 0.0
    try:
        answer = subprocess.run(
            [program, "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=SMI_SECONDS, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return 0.0
    rows = re.findall(r"^\s*(\d+)\s*,\s*([\d.]+)", answer, flags=re.MULTILINE)
    return sum(float(held) for pid, held in rows if int(pid) in pids)


def gone_is_fine() -> suppress:
    """Return a context in which a process may be gone already."""
    return suppress(psutil.NoSuchProcess, psutil.AccessDenied)


def free_mb() -> float:
    """Return the memory in MiB that a process could get now."""
    return float(psutil.virtual_memory().available) / 2**20


def oom_kills() -> int:
    """Return how many processes the system has ended for want of memory since it started; 0 where it does not say."""
    counts = [0]
    for path in OOM_COUNTS:
        with suppress(OSError):
            counts += [int(number) for number in re.findall(r"^oom_kill (\d+)", path.read_text(), flags=re.MULTILINE)]
    return sum(counts)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (OSError, AttributeError):  # gone meanwhile; or Windows, which has no sessions
        return None


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
