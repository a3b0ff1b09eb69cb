"""Processes: known by number and start time, ended with everything they started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from backend.jobs.process import JobProcess, ProcessIdentity
from tests.backend.support import wait_until

# Starts a child, and both ignore the request to end; only then says that it is ready.
STUBBORN = """
import signal, subprocess, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(600)"],
    stdout=subprocess.PIPE)
child.stdout.readline()
(Path(sys.argv[1]) / "child").write_text(str(child.pid))
time.sleep(600)
"""
QUICK = "import sys; sys.exit(7)"


@pytest.fixture
def stubborn(tmp_path: Path) -> Iterator[JobProcess]:
    process = JobProcess.start(tmp_path, [sys.executable, "-c", STUBBORN], os.environ)
    wait_until((tmp_path / "child").exists)
    yield process
    process.kill()
    wait_until(process.has_ended)


def child_of(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "child").read_text()))


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_job_leads_a_session_and_group_of_its_own(stubborn: JobProcess) -> None:
    pid = stubborn.identity.pid
    assert os.getpgid(pid) == os.getsid(pid) == pid != os.getpgid(0)


def test_a_job_is_alive_from_its_first_moment(tmp_path: Path) -> None:
    """The system shows a new program's command line as empty for a moment, about once in ten starts."""
    taken_for_gone = 0
    for _ in range(60):
        process = JobProcess.start(tmp_path, [sys.executable, "-c", "import time; time.sleep(60)"], os.environ)
        taken_for_gone += not process.identity.is_alive()
        process.kill()
        wait_until(process.has_ended)
    assert taken_for_gone == 0


def test_killing_ends_the_child_too(stubborn: JobProcess, tmp_path: Path) -> None:
    child = child_of(tmp_path)
    stubborn.terminate()
    assert not stubborn.has_ended() and not gone(child)
    stubborn.kill()
    wait_until(stubborn.has_ended)
    assert stubborn.exit_code == -9
    wait_until(lambda: gone(child))


def test_what_an_ended_job_left_running_is_ended(tmp_path: Path) -> None:
    leaves = STUBBORN.rsplit("time.sleep(600)", 1)[0]
    process = JobProcess.start(tmp_path, [sys.executable, "-c", leaves], os.environ)
    wait_until(process.has_ended)
    assert process.exit_code == 0
    wait_until(lambda: gone(child_of(tmp_path)))


def test_a_process_found_again_can_be_watched_and_ended(stubborn: JobProcess) -> None:
    found = JobProcess(stubborn.identity)
    assert not found.has_ended()
    found.kill()
    wait_until(found.has_ended)
    assert found.exit_code is None


def test_the_exit_code_is_known(tmp_path: Path) -> None:
    process = JobProcess.start(tmp_path, [sys.executable, "-c", QUICK], os.environ)
    wait_until(process.has_ended)
    assert process.exit_code == 7
    process.terminate()  # of no effect: its number may be another's by now


def test_a_number_given_out_again_is_not_taken_for_the_job(stubborn: JobProcess, tmp_path: Path) -> None:
    identity = stubborn.identity
    assert identity.is_alive()
    assert not replace(identity, started=identity.started - 60).is_alive()
    assert not replace(identity, folder=tmp_path / "other").is_alive()
    me = ProcessIdentity.of(os.getpid(), tmp_path)
    assert not me.is_alive()  # a process, but not of this job
    me.signal_group(9)  # so nothing is sent


def test_the_ended_are_not_alive(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()", str(tmp_path)], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(child.pid, tmp_path)
    wait_until(identity.is_alive)  # its command line appears a moment after it was started
    child.communicate(b"\n")
    assert not identity.is_alive()


def test_a_worker_that_noted_itself_is_found(stubborn: JobProcess, tmp_path: Path) -> None:
    assert ProcessIdentity.noted_in(tmp_path) is None
    stubborn.identity.note()
    assert ProcessIdentity.noted_in(tmp_path) == stubborn.identity
