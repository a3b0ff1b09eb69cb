"""The queue on its own: one job a device, stubborn processes, rows matched with processes after a restart."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from backend.db import Database, Dataset, Job, Model
from backend.devices import Device
from backend.intake import Intake
from backend.jobs.process import JobProcess, ProcessIdentity
from backend.jobs.supervisor import Supervisor
from backend.problems import RequestRefused
from backend.settings import Settings
from backend.storage import Storage
from tests.backend.jobs.test_process import STUBBORN, child_of, gone
from tests.backend.support import wait_until

# Stands in for the worker where only the watching of processes matters: writes what the worker writes, trains nothing.
SUCCEEDS = """
import json, os, sys
from pathlib import Path
folder = Path(sys.argv[1])
order = json.loads((folder / "job.json").read_text())
with (folder / "events.jsonl").open("a") as events:
    seen = {"type": "warning", "message": json.dumps({"resume": order["resume"], "device": order["recipe"]["device"],
            "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"), "offline": os.environ["WARA_OFFLINE"]})}
    events.write(json.dumps(seen) + "\\n")
run = folder / "run"
run.mkdir()
recipe = {"backbone": {"pretrained": True}, "classes": ["a", "b"], "seed": 3, "rank": 8}
(run / "recipe.json").write_text(json.dumps(recipe))
(run / "metrics.json").write_text("{}")
(folder / "result.json").write_text('{"state": "succeeded"}')
"""
CPU = (Device("cpu", "cpu", "a processor"),)
GPUS = (Device("cuda:0", "cuda", "one"), Device("cuda:1", "cuda", "two"))


class Bench:
    """A database, a storage and supervisors over them."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder, min_free_mb=0, cancel_grace_seconds=0.2)
        self.storage = Storage(folder, min_free_mb=0, max_upload_mb=1)
        self.storage.prepare()
        self.database = Database(self.storage.database)
        self.database.upgrade()
        with self.database.session() as session:
            session.add(Dataset(id="data", name="data", state="ready", source="files"))
        self.supervisors: list[Supervisor] = []

    def start(self, code: str = SUCCEEDS, devices: tuple[Device, ...] = CPU) -> Supervisor:
        supervisor = Supervisor(
            self.settings,
            self.database,
            self.storage,
            Intake(self.database, self.storage),
            lambda: devices,
            [sys.executable, "-c", code],
        )
        supervisor.start()
        self.supervisors.append(supervisor)
        return supervisor

    def add(self, job_id: str, **values: Any) -> Path:
        with self.database.session() as session:
            common = {"dataset_name": "data", "method": "wara", "backbone": "b", "backbone_spec": "b:/b"}
            session.add(Job(id=job_id, name=job_id, dataset_id="data", preset="quick", **common, **values))
        folder = self.storage.folder("jobs", job_id)
        folder.mkdir()
        return folder

    def job(self, job_id: str) -> Job:
        with self.database.session() as session:
            return session.get_one(Job, job_id)

    def reaches(self, job_id: str, state: str) -> Job:
        wait_until(lambda: self.job(job_id).state == state)
        return self.job(job_id)

    def close(self) -> None:
        for supervisor in self.supervisors:
            supervisor.stop()
            for watched in supervisor._running.values():
                watched.process.kill()
                wait_until(watched.process.has_ended)
        self.database.close()
        self.storage.release()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "data")
    yield made
    made.close()


def codes(job: Job) -> list[str]:
    return [happening.code for happening in job.happenings]


def seen_by_worker(supervisor: Supervisor, job_id: str) -> dict[str, Any]:
    return dict(json.loads(supervisor.events(job_id).view().warnings[-1]))


def test_a_job_becomes_a_model_and_the_next_follows(bench: Bench) -> None:
    bench.add("one")
    bench.add("two")
    supervisor = bench.start()
    for job_id in ("one", "two"):
        job = bench.reaches(job_id, "succeeded")
        assert job.attempts == 1 and job.finished >= job.started
    with bench.database.session() as session:
        model = session.get_one(Model, "one")
        assert (model.job_id, model.classes, model.pretrained, model.seed, model.rank) == (
            "one",
            ["a", "b"],
            True,
            3,
            8,
        )
    assert (bench.storage.folder("models", "one") / "recipe.json").is_file()
    assert not (bench.storage.folder("jobs", "one") / "run").exists()
    assert seen_by_worker(supervisor, "one") == {"resume": False, "device": "cpu", "cuda": None, "offline": "true"}


def test_each_device_takes_one_job_and_is_all_that_it_sees(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for job_id in ("one", "two", "three"):
        bench.add(job_id)
    supervisor = bench.start(SUCCEEDS + "\nimport time; time.sleep(600)", GPUS)
    for job_id, device, index in (("one", "cuda:0", "0"), ("two", "cuda:1", "1")):
        assert bench.reaches(job_id, "running").device == device
        wait_until(lambda job_id=job_id: supervisor.events(job_id).view().warnings)
        seen = seen_by_worker(supervisor, job_id)
        assert (seen["device"], seen["cuda"]) == ("cuda", index)
    assert bench.job("three").state == "queued"
    assert supervisor.counts() == {"running": 2, "queued": 1}


def test_a_job_that_ignores_the_request_to_end_is_killed_with_its_children(bench: Bench) -> None:
    folder = bench.add("one")
    supervisor = bench.start(STUBBORN)
    wait_until((folder / "child").exists)
    process = psutil.Process(wait_until(lambda: bench.job("one").pid))
    supervisor.cancel("one")
    assert bench.reaches("one", "cancelled").error is None
    assert gone(process)
    wait_until(lambda: gone(child_of(folder)))


def test_a_job_without_a_result_fails_and_says_how_it_ended(bench: Bench) -> None:
    bench.add("one")
    bench.start("import sys; sys.exit(3)")
    assert "exit code 3" in bench.reaches("one", "failed").error["detail"]


def test_a_worker_that_cannot_start_fails_its_job_alone(bench: Bench) -> None:
    bench.add("one")
    bench.storage.folder("jobs", "one").joinpath("log.txt").mkdir()
    bench.add("two")
    bench.start()
    assert bench.reaches("one", "failed").error["code"] == "server-error"
    bench.reaches("two", "succeeded")


def test_a_job_whose_data_set_is_gone_fails_in_words(bench: Bench) -> None:
    bench.add("one")
    with bench.database.session() as session:
        session.delete(session.get_one(Dataset, "data"))
    bench.start()
    assert bench.reaches("one", "failed").error["code"] == "dataset-gone"


def test_a_job_for_which_there_is_no_room_on_the_disk_pauses_says_so_and_goes_on_by_itself(bench: Bench) -> None:
    bench.add("one")
    bench.storage.min_free_mb = 10**9
    supervisor = bench.start()
    paused = bench.reaches("one", "paused")
    assert (paused.paused_for, paused.error["code"]) == ("disk-full", "disk-full")
    with pytest.raises(RequestRefused, match="not enough disk space"):
        supervisor.resume("one")
    bench.storage.min_free_mb = 0
    supervisor.wake()
    ended = bench.reaches("one", "succeeded")
    assert (ended.attempts, ended.error, ended.paused_for) == (1, None, None)
    assert codes(ended) == ["paused-disk-full", "room", "started", "succeeded"]


def running(bench: Bench, job_id: str, code: str) -> tuple[Path, JobProcess]:
    """Leave a row and a process as a killed server leaves them."""
    folder = bench.add(job_id, state="running", device="cpu", attempts=1)
    process = JobProcess.start(folder, [sys.executable, "-c", code], os.environ)
    with bench.database.session() as session:
        job = session.get_one(Job, job_id)
        job.pid, job.pid_started = process.identity.pid, process.identity.started
    return folder, process


WAITS = "import sys, time\nfrom pathlib import Path\nwhile not (Path(sys.argv[1]) / 'go').exists(): time.sleep(0.02)\n"


def test_a_job_that_still_lives_is_watched_again(bench: Bench) -> None:
    folder, process = running(bench, "one", WAITS + SUCCEEDS)
    (folder / "job.json").write_text(json.dumps({"resume": False, "recipe": {"device": "cpu"}}))
    os.environ.setdefault("WARA_OFFLINE", "true")
    bench.add("two")
    bench.start()
    assert bench.job("one").pid == process.identity.pid
    assert bench.job("two").state == "queued"  # its device is taken
    (folder / "go").touch()
    assert bench.reaches("one", "succeeded").attempts == 1
    bench.reaches("two", "succeeded")
    wait_until(process.has_ended)


def test_a_job_that_still_lives_can_be_cancelled(bench: Bench) -> None:
    folder, process = running(bench, "one", STUBBORN)
    wait_until((folder / "child").exists)
    supervisor = bench.start()
    supervisor.cancel("one")
    wait_until(process.has_ended)  # collected here, as the system does once its parent is gone
    bench.reaches("one", "cancelled")
    wait_until(lambda: gone(child_of(folder)))


def test_a_job_whose_process_is_gone_is_resumed(bench: Bench) -> None:
    bench.add("one", state="running", device="cpu", attempts=1, pid=2**22 - 1, pid_started=1.0)
    supervisor = bench.start()
    assert bench.reaches("one", "succeeded").attempts == 2
    assert seen_by_worker(supervisor, "one")["resume"] is True


def test_a_number_that_belongs_to_another_by_now_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    other = JobProcess.start(tmp_path, [sys.executable, "-c", "input()" + "\n" + WAITS], {})
    folder, process = running(bench, "one", WAITS)
    with bench.database.session() as session:
        session.get_one(Job, "one").pid = other.identity.pid
    process.kill()
    wait_until(process.has_ended)
    bench.start()
    assert bench.reaches("one", "succeeded").attempts == 2
    other.kill()
    wait_until(other.has_ended)
    assert folder.is_dir()


def test_a_job_started_but_not_noted_is_found_by_its_own_note(bench: Bench) -> None:
    folder, process = running(bench, "one", WAITS)
    process.identity.note()
    with bench.database.session() as session:
        job = session.get_one(Job, "one")
        job.pid = job.pid_started = None
    supervisor = bench.start()
    assert bench.job("one").state == "running"
    supervisor.cancel("one")
    wait_until(process.has_ended)
    bench.reaches("one", "cancelled")
    assert ProcessIdentity.noted_in(folder) == process.identity


@pytest.mark.parametrize(
    ("prepare", "state"),
    [
        (lambda folder: (folder / "result.json").write_text('{"state": "failed", "error": {"code": "x"}}'), "failed"),
        (lambda folder: exec(SUCCEEDS.replace("sys.argv[1]", repr(str(folder)))), "succeeded"),
    ],
)
def test_what_ended_while_no_server_ran_is_set_down(
    bench: Bench, prepare: Callable[[Path], Any], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARA_OFFLINE", "true")
    folder = bench.add("one", state="running", device="cpu", attempts=1, pid=2**22 - 1, pid_started=1.0)
    (folder / "job.json").write_text(json.dumps({"resume": False, "recipe": {"device": "cpu"}}))
    prepare(folder)
    bench.start()
    assert bench.reaches("one", state).attempts == 1


def test_a_server_stopped_while_it_kept_a_model_finishes_that(bench: Bench) -> None:
    folder = bench.add("one", state="running", device="cpu", attempts=1)
    (folder / "result.json").write_text('{"state": "succeeded"}')
    kept = bench.storage.folder("models", "one")  # moved already, but not yet in the database
    kept.mkdir()
    (kept / "recipe.json").write_text(json.dumps({"backbone": {"pretrained": False}, "classes": []}))
    (kept / "metrics.json").write_text("{}")
    bench.start()
    bench.reaches("one", "succeeded")
    with bench.database.session() as session:
        assert session.get_one(Model, "one").job_id == "one"


def test_a_cancelled_job_is_not_resumed(bench: Bench) -> None:
    bench.add("one", state="running", device="cpu", attempts=1, cancel_requested=True)
    bench.start()
    bench.reaches("one", "cancelled")


def test_a_job_that_takes_the_server_down_with_it_is_given_up(bench: Bench) -> None:
    bench.add("one", state="running", device="cpu", attempts=bench.settings.worker_attempts)
    bench.start()
    assert bench.reaches("one", "failed").error["code"] == "worker-died"


@contextmanager
def full_disk(bench: Bench, *words: str) -> Iterator[list[str]]:
    """Let the database answer statements that begin with these words as a full disk does; give those refused."""
    refused: list[str] = []

    def refuse(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith(words):
            refused.append(statement)
            raise OperationalError(statement, parameters, sqlite3.OperationalError("database or disk is full"))

    event.listen(bench.database.engine, "before_cursor_execute", refuse)
    try:
        yield refused
    finally:
        event.remove(bench.database.engine, "before_cursor_execute", refuse)


@pytest.mark.parametrize("words", ["UPDATE jobs", "INSERT INTO models", "SELECT jobs"])
def test_an_end_that_the_database_did_not_take_is_set_down_later(bench: Bench, words: str) -> None:
    folder = bench.add("one")
    bench.add("two")
    supervisor = bench.start(WAITS + SUCCEEDS)
    wait_until(lambda: bench.job("one").pid)
    with full_disk(bench, words) as refused:
        (folder / "go").touch()
        wait_until((folder / "result.json").exists)
        wait_until(lambda: refused)
    supervisor.wake()
    bench.reaches("one", "succeeded")
    (bench.storage.folder("jobs", "two") / "go").touch()
    bench.reaches("two", "succeeded")  # the device is free again


def test_trouble_with_one_job_keeps_no_other_from_being_watched(bench: Bench) -> None:
    folder, process = running(bench, "one", WAITS)
    other, second = running(bench, "two", WAITS + SUCCEEDS)
    (other / "job.json").write_text(json.dumps({"resume": False, "recipe": {"device": "cpu"}}))
    os.environ.setdefault("WARA_OFFLINE", "true")
    supervisor = bench.start()
    (folder / "result.json").mkdir()  # cannot be read at all
    for entry in (folder, other):
        (entry / "go").touch()
    for gone_by_now in (process, second):
        wait_until(gone_by_now.has_ended)
    assert bench.reaches("one", "failed").error["code"] == "server-error"
    bench.reaches("two", "succeeded")
    assert supervisor.counts() == {"running": 0, "queued": 0}


def test_a_start_that_fails_in_any_way_ends_its_job(bench: Bench) -> None:
    bench.add("one")
    bench.start(devices=(Device("cuda:x", "cuda", "its number is none"),))  # a ValueError, which nobody foresaw
    assert bench.reaches("one", "failed").error["code"] == "server-error"
    assert bench.job("one").finished is not None


def test_a_row_that_makes_no_sense_does_not_keep_the_server_from_starting(bench: Bench) -> None:
    folder = bench.add("one", state="running", device="cpu", attempts=1)
    (folder / "process.json").write_text("{ spoilt")
    bench.add("two")
    bench.start()
    assert bench.reaches("one", "failed").error["code"] == "server-error"
    bench.reaches("two", "succeeded")


def test_rows_that_could_not_be_matched_at_the_start_are_matched_later(bench: Bench) -> None:
    bench.add("one", state="running", device="cpu", attempts=1)
    with full_disk(bench, "UPDATE jobs") as refused:
        supervisor = bench.start()
        assert refused
    supervisor.wake()
    assert bench.reaches("one", "succeeded").attempts == 2


def test_the_device_of_the_slot_decides_whatever_the_recipe_says(bench: Bench) -> None:
    bench.add("one", recipe={"device": "cuda"})
    supervisor = bench.start()
    bench.reaches("one", "succeeded")
    assert seen_by_worker(supervisor, "one")["device"] == "cpu"


def test_a_cancelled_job_that_waited_to_be_resumed_leaves_no_run_folder(bench: Bench) -> None:
    folder = bench.add("one", attempts=1)
    (folder / "run" / "checkpoint").mkdir(parents=True)
    supervisor = bench.start(devices=())
    supervisor.cancel("one")
    assert bench.job("one").state == "cancelled"
    assert not (folder / "run").exists()
