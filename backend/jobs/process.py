"""Which process a job is: found again after a restart, never mistaken for another, ended with all its children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from backend.storage import read_json, write_json

# The clock may be set while a process runs; its start time is derived from the boot time and moves with it.
START_TOLERANCE_SECONDS = 2.0
NOTE_FILE = "process.json"
ROOT = Path(__file__).resolve().parents[2]
WORKER = (sys.executable, "-m", "backend.jobs.worker")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process by its number and start time (seconds since 1970), and the job folder on its command line.

    The system gives process numbers out again, after a restart of the machine or in a container even soon.
    """

    pid: int
    started: float
    folder: Path

    @classmethod
    def of(cls, pid: int, folder: Path) -> ProcessIdentity:
        """Return the identity of a process that runs now."""
        return cls(pid, psutil.Process(pid).create_time(), folder)

    @classmethod
    def noted_in(cls, folder: Path) -> ProcessIdentity | None:
        """Return the process that noted itself in a job folder, if one did; it may be gone."""
        try:
            note = read_json(folder / NOTE_FILE)
        except FileNotFoundError:
            return None
        return cls(note["pid"], note["started"], folder)

    @classmethod
    def seen_with(cls, folder: Path) -> ProcessIdentity | None:
        """Return the process that runs with a job folder on its command line, if one does."""
        for process in psutil.process_iter(["pid", "cmdline", "create_time", "status"]):
            seen = process.info
            if str(folder) in (seen["cmdline"] or ()) and seen["status"] != psutil.STATUS_ZOMBIE:
                return cls(seen["pid"], seen["create_time"], folder)
        return None

    def note(self) -> None:
        """Leave the identity in the job folder."""
        write_json(self.folder / NOTE_FILE, {"pid": self.pid, "started": self.started})

    def is_alive(self) -> bool:
        """Tell whether this very process still runs; one that has ended but was not collected does not."""
        try:
            process = psutil.Process(self.pid)
            command = process.cmdline()
            return (
                abs(process.create_time() - self.started) <= START_TOLERANCE_SECONDS
                and process.status() != psutil.STATUS_ZOMBIE
                # Linux shows no words for a moment after a program was started; taken for gone, it would run twice.
                and (not command or str(self.folder) in command)
            )
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return False
        except psutil.AccessDenied:
            return False

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and everything it started."""
        if self.is_alive():
            _kill_group(self.pid, number)


class JobProcess:
    """A job's process, whether this server started it or found it running.

    Args:
        identity: which process.
        child: the handle, when this server started it.
    """

    def __init__(self, identity: ProcessIdentity, child: subprocess.Popen[bytes] | None = None) -> None:
        self.identity = identity
        self._child = child
        self.exit_code: int | None = None

    @classmethod
    def start(cls, folder: Path, command: Sequence[str], environment: Mapping[str, str]) -> JobProcess:
        """Start the worker of a job folder in a session, and so a process group, of its own.

        Output goes to ``log.txt`` in the folder.
        """
        path = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
        with (folder / "log.txt").open("ab") as log:
            child = subprocess.Popen(
                [*command, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**environment, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path},
                start_new_session=True,
            )
        return cls(ProcessIdentity.of(child.pid, folder), child)

    def has_ended(self) -> bool:
        """Tell whether the process is gone; at its end whatever it left behind in its group is ended too."""
        if self._child is None:
            return not self.identity.is_alive()
        if self._child.returncode is not None:
            return True
        if hasattr(os, "waitid"):  # not on macOS before Python 3.13
            # Looked at before it is collected: until then its number, and so its group's, cannot belong to another.
            if os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            _kill_group(self._child.pid, signal.SIGKILL)
        self.exit_code = self._child.poll()
        return self.exit_code is not None

    def terminate(self) -> None:
        """Ask the whole group to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is None:
            self.identity.signal_group(number)
        elif self._child.returncode is None:  # not collected yet, so the number is still its own
            _kill_group(self._child.pid, number)


def _kill_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # already gone
        os.killpg(group, number)
