"""Data sets when things happen at the same time, the database refuses, or nobody comes back."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from backend import intake as intake_module
from backend.db import Database, Dataset, Job
from backend.db.models import now
from backend.intake import Intake
from backend.jobs.process import ROOT
from backend.orphans import sweep
from backend.problems import RequestRefused
from backend.storage import Batch, Storage
from tests.backend.support import study, wait_until


class Bench:
    def __init__(self, folder: Path) -> None:
        self.storage = Storage(folder, min_free_mb=0, max_upload_mb=10)
        self.storage.prepare()
        self.database = Database(self.storage.database)
        self.database.upgrade()
        self.intake = Intake(self.database, self.storage)
        self.intake.start()

    def fill(self, batch: Batch, files: dict[str, bytes]) -> Batch:
        for name, data in files.items():
            writer = batch.open(name)
            writer.write(data)
            writer.close()
        return batch

    def received(self, files: dict[str, bytes]) -> str:
        dataset_id = self.intake.begin(None, None)
        with self.storage.scratch() as batch:
            self.intake.add(dataset_id, self.fill(batch, files))
        return dataset_id

    def row(self, dataset_id: str) -> Dataset | None:
        with self.database.session() as session:
            return session.get(Dataset, dataset_id)

    def state(self, dataset_id: str) -> str | None:
        found = self.row(dataset_id)
        return None if found is None else found.state

    def close(self) -> None:
        self.intake.stop()
        self.database.close()
        self.storage.release()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "data")
    yield made
    made.close()


@pytest.mark.parametrize(("times", "sweeps"), [(2, False), (4, True)])
def test_a_check_whose_end_the_database_did_not_take_is_set_down_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, times: int, sweeps: bool
) -> None:
    monkeypatch.setattr(intake_module, "WRITE_AGAIN_SECONDS", (0.01, 0.01, 0.01))
    refused: list[str] = []

    def refuse(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith("UPDATE datasets") and "ready" in parameters and len(refused) < times:
            refused.append(statement)
            raise OperationalError(statement, parameters, sqlite3.OperationalError("database or disk is full"))

    event.listen(bench.database.engine, "before_cursor_execute", refuse)
    dataset_id = bench.received(study(5))
    bench.intake.finish(dataset_id)
    wait_until(lambda: len(refused) == times)
    if sweeps:
        wait_until(lambda: not bench.intake._submitted)
        assert bench.state(dataset_id) == "checking"
        bench.intake.sweep()
    wait_until(lambda: bench.state(dataset_id) == "ready")


@pytest.mark.parametrize("end", ["finish", "delete"])
def test_nothing_enters_a_data_set_that_ended_while_the_files_came(bench: Bench, end: str) -> None:
    dataset_id = bench.received(study(5))
    with bench.storage.scratch(used_bytes=bench.intake.accepts(dataset_id)) as batch:
        getattr(bench.intake, end)(dataset_id)
        bench.fill(batch, {"study/fine/late.png": b"1"})  # the upload itself notices nothing
        with pytest.raises(RequestRefused) as caught:
            bench.intake.add(dataset_id, batch)
    assert caught.value.status == {"finish": 409, "delete": 404}[end]
    assert list(bench.storage.root.rglob("late.png")) == []
    assert list((bench.storage.root / "staging").iterdir()) == []


@pytest.mark.parametrize("deed", ["add", "delete", "discard_upload"])
def test_finishing_adding_and_deleting_wait_for_each_other(bench: Bench, deed: str) -> None:
    dataset_id = bench.received(study(5))
    with ThreadPoolExecutor(1) as pool, bench.storage.scratch() as batch:
        bench.fill(batch, {"study/fine/late.png": b"1"})
        arguments = (dataset_id, batch) if deed == "add" else (dataset_id,)
        with bench.storage.lock(dataset_id):
            task = pool.submit(getattr(bench.intake, deed), *arguments)
            with pytest.raises(TimeoutError):
                task.result(timeout=0.3)
            bench.intake.finish(dataset_id)  # the lock's holder goes on
        if deed == "add":
            with pytest.raises(RequestRefused):
                task.result(timeout=30)
        else:
            task.result(timeout=30)
    assert (bench.state(dataset_id) is None) == (deed == "delete")


def test_an_abandoned_upload_is_dropped_while_the_server_runs(bench: Bench) -> None:
    old, fresh = bench.received(study(2)), bench.received(study(2, start=50))
    with bench.database.session() as session:
        session.get_one(Dataset, old).updated = now() - intake_module.STALE_UPLOAD - timedelta(minutes=1)
    bench.intake.sweep()
    assert (bench.state(old), bench.state(fresh)) == (None, "receiving")
    assert [path.name for path in (bench.storage.root / "staging").iterdir()] == [fresh]


def test_the_sweep_comes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "SWEEP_SECONDS", 0.05)
    bench = Bench(tmp_path / "data")
    old = bench.received(study(2))
    with bench.database.session() as session:
        session.get_one(Dataset, old).updated = now() - intake_module.STALE_UPLOAD - timedelta(minutes=1)
    wait_until(lambda: bench.state(old) is None)
    bench.close()


def test_what_a_killed_server_placed_but_did_not_list_is_not_part_of_the_data_set(bench: Bench) -> None:
    dataset_id = bench.received(study(5))
    staging = bench.storage.folder("staging", dataset_id)
    (staging / "files" / "study" / "fine" / "unlisted.png").write_bytes(b"1")
    again = Intake(bench.database, bench.storage)  # as after a new start
    again.finish(dataset_id)
    folder = bench.storage.folder("datasets", dataset_id)
    assert len([path for path in (folder / "files").rglob("*") if path.is_file()]) == 10


def test_a_data_set_deleted_while_an_order_was_checked_is_a_404(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from backend.api import jobs

    dataset_id = studio.ready(study(5))["id"]
    check = jobs.checked_recipe

    def slow(*arguments: Any) -> None:
        check(*arguments)
        assert studio.http.delete(f"/api/v1/datasets/{dataset_id}").status_code == 204

    monkeypatch.setattr(jobs, "checked_recipe", slow)
    order = {"dataset_id": dataset_id, "backbone": "vit_tiny_untrained"}
    answer = studio.http.post("/api/v1/jobs", json=order)
    assert (answer.status_code, answer.json()["code"]) == (404, "data-set-not-found")
    with studio.http.app.state.parts.database.session() as session:
        assert session.query(Job).count() == 0


@pytest.mark.parametrize("files", [study(12), dict.fromkeys(study(12), b"broken")], ids=["ready", "failed"])
def test_what_was_seen_ahead_is_forgotten_when_the_check_ends_however_it_ends(
    bench: Bench, files: dict[str, bytes]
) -> None:
    dataset = bench.received(files)
    assert dataset in bench.intake._looks._ahead
    bench.intake.finish(dataset)
    wait_until(lambda: bench.state(dataset) in ("ready", "failed"))
    wait_until(lambda: dataset not in bench.intake._looks._ahead)


# Begins a server's data sets, takes one in, and is killed once its files are moved and before its row is committed.
KILLED_WHILE_FINISHING = """
import os, sys
from pathlib import Path
from backend.storage import Storage
from tests.backend.test_intake import Bench
from tests.backend.support import study
settle = Storage.settle
def killed(self, dataset_id):
    settle(self, dataset_id)
    os._exit(9)
Storage.settle = killed
bench = Bench(Path(sys.argv[1]))
dataset_id = bench.received(study(5))
print(dataset_id, flush=True)
(bench.storage.folder("uploads", dataset_id) / "taken").mkdir(parents=True)
bench.intake.finish(dataset_id)
"""


def test_an_upload_whose_finish_was_killed_can_be_finished_after_the_next_start(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_FINISHING, str(tmp_path / "data")]
    killed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=120, check=False)
    assert killed.returncode == 9
    dataset_id = killed.stdout.strip()
    bench = Bench(tmp_path / "data")
    try:
        assert bench.storage.folder("datasets", dataset_id).is_dir()  # the kill came between the two
        sweep(bench.database, bench.storage)
        assert bench.state(dataset_id) == "receiving" and len(bench.storage.manifest(dataset_id)) == 10
        assert bench.storage.folder("uploads", dataset_id).is_dir()  # a sender that goes on asks what was taken in
        bench.intake.finish(dataset_id)
        assert not bench.storage.folder("uploads", dataset_id).exists()
        wait_until(lambda: bench.state(dataset_id) == "ready")
    finally:
        bench.close()


def test_an_upload_whose_finish_the_database_did_not_take_is_there_to_finish_again(bench: Bench) -> None:
    dataset_id = bench.received(study(5))
    refused: list[str] = []

    def refuse(_: Any) -> None:
        if bench.storage.folder("datasets", dataset_id).exists() and not refused:
            refused.append("once")
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))

    event.listen(bench.database.engine, "commit", refuse)
    with pytest.raises(OperationalError):
        bench.intake.finish(dataset_id)
    assert bench.state(dataset_id) == "receiving" and len(bench.storage.manifest(dataset_id)) == 10
    bench.intake.finish(dataset_id)
    wait_until(lambda: bench.state(dataset_id) == "ready")
