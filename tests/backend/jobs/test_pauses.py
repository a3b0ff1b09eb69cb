"""Jobs that pause, run out of memory, fall silent or end with their server, and what becomes of them."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.db import Job
from backend.jobs import launch, memory, supervisor
from backend.jobs.process import JobProcess
from backend.jobs.sentences import in_words
from backend.problems import RequestRefused
from tests.backend.jobs.test_process import STUBBORN, child_of, gone
from tests.backend.jobs.test_supervisor import CPU, SUCCEEDS, WAITS, Bench, codes, running
from tests.backend.support import wait_until

# Stands in for the worker: asked to end, it says that it stopped behind a step; resumed, it succeeds.
STOPS = """
import json, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
if not json.loads((folder / "job.json").read_text())["resume"]:
    def stop(*_):
        (folder / "run" / "checkpoint").mkdir(parents=True)
        (folder / "run" / "checkpoint" / "state.pt").touch()
        (folder / "result.json").write_text('{"state": "stopped"}')
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    (folder / "ready").touch()
    time.sleep(600)
import shutil
shutil.rmtree(folder / "run")
""" + SUCCEEDS
HUNGRY = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
if json.loads((folder / "job.json").read_text())["accumulate"] < 4:
    (folder / "result.json").write_text('{"state": "failed", "error": {"code": "out-of-memory"}}')
    sys.exit(1)
""" + SUCCEEDS
# A wide network is trained in four times as many parts as it was told.
HUNGRY_AND_WIDE = """
import json, sys
from pathlib import Path
run = Path(sys.argv[1]) / "run"
run.mkdir(exist_ok=True)
told = json.loads((run.parent / "job.json").read_text())["accumulate"]
(run / "recipe.json").write_text(json.dumps({"accumulate": 4 * told}))
""" + HUNGRY.replace(SUCCEEDS, """
import shutil
shutil.rmtree(run)
""" + SUCCEEDS)
NEVER_FITS = HUNGRY.replace("< 4", "< 1000")
FULL = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
if not (folder / "room").exists():
    (folder / "result.json").write_text(json.dumps({"state": "failed", "error": {"code": "disk-full"}}))
    sys.exit(1)
""" + SUCCEEDS
# The worker itself, on a disk that takes nothing more: from the start, or after the training kept a checkpoint.
FULL_TO_THE_BRIM = """
import errno, json, shutil, sys
from pathlib import Path
from backend.jobs import process, worker
folder = Path(sys.argv[1])
def refuse(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")
def train(*_):
    (folder / "run" / "checkpoint").mkdir(parents=True, exist_ok=True)
    (folder / "run" / "checkpoint" / "state.pt").touch()
    worker.write_json = refuse
    refuse()
worker._train = train
if not (folder / "room").exists():
    if FROM_THE_START:
        process.write_json = refuse
    sys.exit(worker.main())
assert (folder / "run" / "checkpoint" / "state.pt").exists() and json.loads((folder / "job.json").read_text())["resume"]
shutil.rmtree(folder / "run")
""" + SUCCEEDS
# Asked to end, it leaves this result behind a step; the third start is killed before it gets further.
KILLED_AFTER_TWO_PAUSES = """
import os, shutil, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def stop(*_):
    (folder / "run" / "checkpoint").mkdir(parents=True, exist_ok=True)
    (folder / "run" / "checkpoint" / "state.pt").touch()
    (folder / "result.json").write_text(RESULT)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
start = len(list(folder.glob("start-*"))) + 1
(folder / f"start-{start}").touch()
if start < 3:
    time.sleep(600)
if start == 3:
    os.kill(os.getpid(), signal.SIGKILL)
shutil.rmtree(folder / "run")
""" + SUCCEEDS
KILLED = """
import os, signal, sys
from pathlib import Path
os.kill(os.getpid(), signal.SIGKILL)
"""
KILLED_ONCE = """
import json, os, signal, sys
from pathlib import Path
folder = Path(sys.argv[1])
if not (folder / "was").exists():
    (folder / "was").touch()
    os.kill(os.getpid(), signal.SIGKILL)
""" + SUCCEEDS


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "data")
    yield made
    made.close()


def told(job: Job) -> list[str]:
    return [in_words(happening) for happening in job.happenings]


def test_a_paused_job_keeps_what_it_has_frees_its_device_and_goes_on(bench: Bench) -> None:
    folder = bench.add("one")
    watching = bench.start(STOPS)
    wait_until((folder / "ready").exists)
    watching.pause("one")
    watching.pause("one")  # twice is no more than once
    paused = bench.reaches("one", "paused")
    assert (paused.paused_for, paused.device, paused.pid, paused.pause_requested) == ("person", None, None, False)
    assert (folder / "run" / "checkpoint").is_dir()
    assert codes(paused) == ["started", "pause-asked", "paused-person"]
    watching.resume("one")
    ended = bench.reaches("one", "succeeded")
    assert ended.started == paused.started and codes(ended)[-3:] == ["released", "resumed", "succeeded"]
    for done in (watching.pause, watching.cancel):
        with pytest.raises(RequestRefused, match="already ended"):
            done("one")
    with pytest.raises(RequestRefused, match="not paused"):
        watching.resume("one")


@pytest.mark.parametrize(
    "result",
    ['{"state": "stopped"}', '{"state": "failed", "error": {"code": "disk-full"}}'],
    ids=["person", "disk-full"],
)
def test_a_pause_is_no_failed_start(bench: Bench, result: str) -> None:
    folder = bench.add("one")
    watching = bench.start(KILLED_AFTER_TWO_PAUSES.replace("RESULT", repr(result)))
    for start in (1, 2):
        wait_until((folder / f"start-{start}").exists)
        watching.pause("one")
        assert bench.reaches("one", "paused").attempts == 1
        watching.resume("one")
    ended = bench.reaches("one", "succeeded")
    assert codes(ended)[-4:] == ["resumed", "interrupted", "resumed", "succeeded"]


def test_a_person_with_a_full_queue_cannot_have_a_paused_job_go_on(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"waiting_per_person": 1})
    bench.add("one", state="paused", paused_for="person", attempts=1)
    bench.add("two", state="queued")
    watching = bench.start(devices=())
    with pytest.raises(RequestRefused, match="as many trainings in the queue") as refused:
        watching.resume("one")
    assert (refused.value.status, refused.value.code) == (429, "queue-full")
    refused_one = bench.job("one")
    assert (refused_one.state, refused_one.paused_for, codes(refused_one)) == ("paused", "person", [])
    watching.cancel("two")
    watching.resume("one")
    assert bench.job("one").state == "queued"


def test_a_pause_that_is_taken_back_in_time_only_interrupts(bench: Bench) -> None:
    folder = bench.add("one", pause_requested=False)
    watching = bench.start(STOPS)
    wait_until((folder / "ready").exists)
    # As when the person changes their mind while the step is being finished.
    watching._running["one"].process.terminate()
    assert codes(bench.reaches("one", "succeeded")) == ["started", "stopped", "resumed", "succeeded"]


def test_a_job_that_ignores_the_request_to_pause_is_killed_and_paused_all_the_same(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"pause_grace_seconds": 0.2})
    folder = bench.add("one")
    watching = bench.start(STUBBORN)
    wait_until((folder / "child").exists)
    watching.pause("one")
    assert bench.reaches("one", "paused").paused_for == "person"
    assert gone(child_of(folder))
    watching.cancel("one")
    assert bench.job("one").state == "cancelled"


def test_a_job_that_filled_the_disk_pauses_says_so_and_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bench.add("one")
    watching = bench.start(FULL)
    paused = bench.reaches("one", "paused")
    assert (paused.paused_for, paused.error["code"]) == ("disk-full", "disk-full")
    assert "disk is full" in told(paused)[-1]
    (folder / "room").touch()
    watching.wake()
    assert bench.job("one").state == "paused"  # not again and again at every beat
    monkeypatch.setattr(supervisor, "ROOM_SECONDS", 0.0)
    watching.wake()
    ended = bench.reaches("one", "succeeded")
    assert codes(ended) == ["started", "paused-disk-full", "room", "resumed", "succeeded"] and ended.error is None


@pytest.mark.parametrize("from_the_start", [False, True], ids=["for the result", "from the start"])
def test_a_disk_without_room_for_a_result_pauses_a_job_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, from_the_start: bool
) -> None:
    monkeypatch.setattr(supervisor, "ROOM_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "ROOM_BYTES", 1 << 60)  # no room yet
    folder = bench.add("one", attempts=1)
    kept = folder / "run" / "checkpoint" / "state.pt"
    if from_the_start:
        kept.parent.mkdir(parents=True)
        kept.touch()
    watching = bench.start(FULL_TO_THE_BRIM.replace("FROM_THE_START", str(from_the_start)))
    paused = bench.reaches("one", "paused")
    assert (paused.paused_for, paused.error["code"]) == ("disk-full", "disk-full")
    assert kept.exists() and not (folder / "result.json").exists()
    (folder / "room").touch()
    monkeypatch.setattr(supervisor, "ROOM_BYTES", 0)
    watching.wake()
    ended = bench.reaches("one", "succeeded")
    assert codes(ended) == ["resumed", "paused-disk-full", "room", "resumed", "succeeded"] and ended.error is None


def test_a_job_for_whose_order_there_is_no_room_pauses_and_loses_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(supervisor, "ROOM_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "ROOM_BYTES", 1 << 60)
    folder = bench.add("one", attempts=1)
    (folder / "run").mkdir()
    with monkeypatch.context() as full:
        full.setattr(launch, "write_json", refuse)
        watching = bench.start("import shutil, sys; shutil.rmtree(sys.argv[1] + '/run')" + SUCCEEDS)
        assert bench.reaches("one", "paused").paused_for == "disk-full"
    assert (folder / "run").is_dir()
    monkeypatch.setattr(supervisor, "ROOM_BYTES", 0)
    watching.wake()
    ended = bench.reaches("one", "succeeded")
    assert codes(ended) == ["resumed", "paused-disk-full", "room", "resumed", "succeeded"]


def test_after_out_of_memory_a_job_goes_on_with_half_as_many_images_at_once(bench: Bench) -> None:
    bench.add("one", recipe={"batch_size": 30})
    bench.start(HUNGRY)
    ended = bench.reaches("one", "succeeded")
    assert ended.accumulate == 4 and codes(ended).count("out-of-memory") == 2
    assert "with 30 images at once. It goes on with 15 at once and 2 rounds" in " ".join(told(ended))


def test_images_at_once_are_those_of_a_part_where_the_network_is_wide(bench: Bench) -> None:
    bench.add("one", recipe={"batch_size": 32})
    bench.start(HUNGRY_AND_WIDE)
    ended = bench.reaches("one", "succeeded")
    assert ended.accumulate == 4
    said = " ".join(told(ended))
    assert "with 8 images at once. It goes on with 4 at once and 8 rounds" in said
    assert "with 4 images at once. It goes on with 2 at once and 16 rounds" in said
    bench.add("two", recipe={"batch_size": 4})
    assert bench.reaches("two", "failed").error["code"] == "out-of-memory"  # one image at once, and still too many


def test_a_job_of_which_not_one_image_fits_fails_and_says_what_to_do(bench: Bench) -> None:
    bench.add("one", recipe={"batch_size": 3})
    bench.start(NEVER_FITS)
    ended = bench.reaches("one", "failed")
    assert ended.error["code"] == "out-of-memory" and "smaller backbone" in ended.error["remedy"]
    assert codes(ended).count("out-of-memory") == 2  # 3, 2, 1


def test_a_process_that_the_system_ended_for_want_of_memory_counts_as_out_of_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counts = tmp_path / "memory.events"
    counts.write_text("low 0\noom 3\noom_kill 2\n")
    monkeypatch.setattr(memory, "OOM_COUNTS", (counts, tmp_path / "none"))
    assert memory.oom_kills() == 2
    folder = bench.add("one")
    bench.start(WAITS + KILLED_ONCE)
    wait_until(lambda: bench.job("one").pid)
    counts.write_text("oom_kill 3\n")
    (folder / "go").touch()
    assert bench.reaches("one", "succeeded").accumulate == 2


def test_a_killed_job_goes_on_and_one_that_gets_no_further_is_given_up(bench: Bench) -> None:
    bench.add("one")
    bench.start(KILLED_ONCE)
    assert codes(bench.reaches("one", "succeeded")) == ["started", "interrupted", "resumed", "succeeded"]
    bench.add("two")
    bench.start(KILLED)
    ended = bench.reaches("two", "failed")
    assert ended.attempts == bench.settings.worker_attempts
    assert "SIGKILL" in ended.error["detail"] and "memory" in ended.error["remedy"]


def test_a_job_that_gets_further_every_time_is_never_given_up(bench: Bench) -> None:
    folder = bench.add("one", state="running", device="cpu", attempts=bench.settings.worker_attempts)
    (folder / "job.json").write_text("{}")
    (folder / "run" / "checkpoint").mkdir(parents=True)
    kept = folder / "run" / "checkpoint" / "state.pt"
    kept.touch()
    later = (folder / "job.json").stat().st_mtime_ns + 10**9
    os.utime(kept, ns=(later, later))
    bench.start("import shutil, sys; shutil.rmtree(sys.argv[1] + '/run')" + SUCCEEDS)
    assert bench.reaches("one", "succeeded").attempts == 2


def test_a_job_without_a_sign_of_life_is_replaced(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"silent_seconds": 0.4})
    folder = bench.add("one")
    # Its beat comes once, then it hangs; the second one works.
    hangs = """
import json, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
if not (folder / "beat").exists():
    (folder / "beat").touch()
    time.sleep(600)
"""
    bench.start(hangs + SUCCEEDS)
    wait_until((folder / "beat").exists)
    wait_until(lambda: bench.job("one").beat)
    ended = bench.reaches("one", "succeeded")
    assert codes(ended) == ["started", "silent", "resumed", "succeeded"]


def test_jobs_that_cannot_outlive_the_server_keep_what_they_have(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"jobs_outlive_server": False})
    folder = bench.add("one")
    watching = bench.start(STOPS)
    wait_until((folder / "ready").exists)
    process = psutil.Process(wait_until(lambda: bench.job("one").pid))
    watching.stop()
    assert gone(process) and (folder / "run" / "checkpoint").is_dir()
    assert codes(bench.job("one")) == ["started", "stopped"] and bench.job("one").state == "queued"
    bench.start(STOPS)
    assert bench.reaches("one", "succeeded").attempts == 2


def test_what_an_ended_job_of_an_earlier_server_left_running_is_ended_before_its_device_is_free(bench: Bench) -> None:
    folder, process = running(bench, "one", STUBBORN)
    wait_until((folder / "child").exists)
    child = child_of(folder)
    os.kill(process.identity.pid, signal.SIGKILL)  # the leader alone
    wait_until(lambda: not process.identity.is_alive())
    assert [left.pid for left in memory.processes_of(process.identity)] == [child.pid]
    bench.start(SUCCEEDS, CPU)
    bench.reaches("one", "succeeded")
    assert gone(child)
    wait_until(process.has_ended)


def test_a_worker_that_its_server_could_not_note_any_more_is_found_by_its_folder(bench: Bench) -> None:
    folder = bench.add("one", state="running", device="cpu", attempts=1)
    process = JobProcess.start(folder, ["python3", "-c", WAITS], os.environ)
    watching = bench.start()
    assert watching._running["one"].process.identity.pid == process.identity.pid
    assert codes(bench.job("one")) == ["found"]
    process.kill()
    wait_until(process.has_ended)
    bench.reaches("one", "succeeded")


def test_memory_that_a_graphics_card_still_holds_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '41, 2048'\necho '42, 512'\necho '43, [N/A]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert memory.held_on_gpu({42, 43}) == 512
    assert memory.held_on_gpu({7}) == memory.held_on_gpu(set()) == 0
    program.write_text("#!/bin/sh\nexit 9\n")
    assert memory.held_on_gpu({42}) == 0


def test_every_code_that_is_written_has_its_words(bench: Bench) -> None:
    facts: dict[str, Any] = {"device": "cpu", "minutes": 11, "before": 8, "after": 4, "parts": 2}
    from backend.db import Happening
    from backend.jobs.sentences import _WORDS

    for code in _WORDS:
        assert "{" not in in_words(Happening(code=code, facts=facts))
