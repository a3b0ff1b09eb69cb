"""What a killed server left on the disk is gone after the next start, and what something refers to never is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backend import batch_record
from backend.backbones import BackboneRegistry
from backend.batch_record import BatchRecord, Order
from backend.db import Backbone, Database, Dataset, Job, Model
from backend.db.engine import UNKNOWN_KEPT
from backend.db.models import now
from backend.incoming import StoredFile
from backend.intake import STALE_UPLOAD
from backend.orphans import sweep
from backend.storage import Storage
from tests.backend.support import API, Studio, serve, settings_for, study
from tests.backend.test_intake import Bench

USED, LOST = "aa0000000000", "bb0000000000"
KINDS = ("staging", "uploads", "datasets", "jobs", "batches", "backbones")


class Killed(BaseException):
    """Stands in for the kill: nothing of the server catches it."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "data")
    yield made
    made.close()


def files_in(storage: Storage, *kinds: str) -> list[Path]:
    return [path for kind in kinds for path in (storage.root / kind).rglob("*") if path.is_file()]


def job(identifier: str, state: str, **values: Any) -> Job:
    common = {"dataset_name": "d", "method": "wara", "backbone": "b", "preset": "quick"}
    return Job(id=identifier, name="j", state=state, **{"backbone_spec": "b:/b", **common, **values})


def order(identifier: str) -> Order:
    return Order(identifier, "m", "m", "1", ["a", "b"], "mean", "files", 1, now().isoformat(), "receiving")


def let_grow_old(bench: Bench, dataset_id: str) -> None:
    with bench.database.session() as session:
        session.get_one(Dataset, dataset_id).updated = now() - STALE_UPLOAD - timedelta(minutes=1)


@pytest.mark.parametrize("kind", ["uploads", "staging", "datasets"])
@pytest.mark.parametrize("deed", ["delete", "discard_upload", "sweep"])
def test_a_deletion_that_is_killed_on_its_way_is_ended_by_the_next_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, deed: str, kind: str
) -> None:
    dataset_id = bench.received(study(2))
    for other in ("uploads", "datasets"):
        bench.storage.folder(other, dataset_id).mkdir()
        (bench.storage.folder(other, dataset_id) / "patient.png").write_bytes(b"1")
    remove = Storage.remove

    def killed(self: Storage, of: str, identifier: str) -> None:
        if of == kind:
            raise Killed
        remove(self, of, identifier)

    monkeypatch.setattr(Storage, "remove", killed)
    if deed == "sweep":
        let_grow_old(bench, dataset_id)
    with pytest.raises(Killed):
        getattr(bench.intake, deed)(*([] if deed == "sweep" else [dataset_id]))
    monkeypatch.undo()
    assert bench.state(dataset_id) is None and files_in(bench.storage, kind)
    sweep(bench.database, bench.storage)
    assert files_in(bench.storage, *KINDS) == []


def test_the_start_sweeps_before_anything_is_answered(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data")
    with serve(settings) as client:
        kept = Studio(client).ready(study(5))["id"]
        folder = client.app.state.parts.storage.folder("datasets", LOST)  # type: ignore[attr-defined]
        folder.mkdir()
        (folder / "patient.png").write_bytes(b"1")
    with serve(settings) as client:
        assert [path.name for path in (tmp_path / "data" / "datasets").iterdir()] == [kept]
        assert client.get(f"{API}/datasets/{kept}/images/0/thumbnail").status_code == 200


def test_what_something_refers_to_stays_and_only_the_rest_goes(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    states = ("receiving", "mapping", "checking", "ready", "failed")
    ids = {state: f"{number:012x}" for number, state in enumerate(states)}
    weights = {"row": "a" * 32, "model": "b" * 32, "job": "c" * 32, "nobody": "d" * 32}
    with bench.database.session() as session:
        session.add_all(Dataset(id=identifier, name=state, state=state) for state, identifier in ids.items())
        session.add(job(USED, "queued", backbone_spec=f"b:{bench.storage.folder('backbones', weights['job'])}/w.pth"))
        session.add(Backbone(id=weights["row"], name="b", file="w.pth", original="w.pth"))
        spec = f"b:{bench.storage.folder('backbones', weights['model'])}/w.pth"
        session.add(Model(id=USED, name="m", dataset_name="d", method="wara", backbone="b", backbone_spec=spec,
                          pretrained=True, preset="quick", classes=[], metrics={}))  # fmt: skip
    for kind in KINDS:
        for name in (USED, LOST, "lost+found", *ids.values()) if kind != "backbones" else weights.values():
            (bench.storage.folder(kind, name) / "deep").mkdir(parents=True)
    (bench.storage.folder("batches", USED) / "batch.json").write_text("{}")
    with caplog.at_level(logging.INFO, "backend"):
        sweep(bench.database, bench.storage)
    left = {kind: {path.name for path in (bench.storage.root / kind).iterdir()} - {"lost+found"} for kind in KINDS}
    assert left == {
        "staging": set(ids.values()),
        "uploads": {ids["receiving"]},
        "datasets": {*ids.values()} - {ids["failed"]},
        "jobs": {USED},
        "batches": {USED},
        "backbones": {weights["row"], weights["model"], weights["job"]},
    }
    assert bench.storage.folder("datasets", "lost+found").is_dir()  # no name of ours, so nothing of ours
    assert "datasets 3" in caplog.text and LOST not in caplog.text


def test_a_deleted_training_whose_folder_a_kill_left_is_gone_after_the_next_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backend.devices import Device
    from backend.jobs.supervisor import Supervisor

    def killed(self: Storage, kind: str, identifier: str) -> None:
        raise Killed

    with bench.database.session() as session:
        session.add(job(USED, "succeeded"))
    bench.storage.folder("jobs", USED).mkdir()
    settings = settings_for(bench.storage.root)
    cpu = Device("cpu", "cpu", "a processor")
    supervisor = Supervisor(settings, bench.database, bench.storage, bench.intake, lambda: (cpu,))
    monkeypatch.setattr(Storage, "remove", killed)
    with pytest.raises(Killed):
        supervisor.delete(USED)
    monkeypatch.undo()
    assert bench.storage.folder("jobs", USED).is_dir()
    sweep(bench.database, bench.storage)
    assert not bench.storage.folder("jobs", USED).exists()


def _begin_a_batch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write = batch_record.write_json

    def killed(path: Path, value: Any, **options: Any) -> None:
        if path.name == "batch.json":
            raise Killed
        write(path, value, **options)

    monkeypatch.setattr(batch_record, "write_json", killed)
    BatchRecord.begin(bench.storage.folder("batches", USED), order(USED), [("a.png", 1)])


def _add_weights(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Storage, source: Path, target: Path) -> None:
        move(self, source, target)
        raise Killed

    move = Storage.move
    monkeypatch.setattr(Storage, "move", killed)
    monkeypatch.setattr("wara.backbones.load_backbone", lambda *_, **__: None)
    source = bench.storage.root / "scratch" / "w"
    source.write_bytes(b"1")
    registry = BackboneRegistry(settings_for(bench.storage.root), bench.database, bench.storage)
    registry.add("deit_tiny_patch16_224", StoredFile("w.safetensors", 1, "d", source))


@pytest.mark.parametrize(("kind", "begin"), [("batches", _begin_a_batch), ("backbones", _add_weights)])
def test_what_was_begun_and_killed_before_it_was_written_down_is_gone_after_the_next_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str, begin: Callable[[Bench, pytest.MonkeyPatch], None]
) -> None:
    with pytest.raises(Killed):
        begin(bench, monkeypatch)
    monkeypatch.undo()
    assert files_in(bench.storage, kind)
    sweep(bench.database, bench.storage)
    assert list((bench.storage.root / kind).iterdir()) == []


def test_beside_a_new_database_nothing_is_removed_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The former one was lost or moved away, and can be put back as long as its files are there."""
    first = Storage(tmp_path, min_free_mb=0, max_upload_mb=1)
    first.prepare()
    first.folder("datasets", LOST).mkdir()
    database = Database(first.database)
    database.upgrade()
    sweep(database, first)
    assert first.folder("datasets", LOST).is_dir()
    first.release()
    second = Storage(tmp_path, min_free_mb=0, max_upload_mb=1)
    second.prepare()
    sweep(database, second)
    assert second.folder("datasets", LOST).is_dir() and caplog.text.count("does not know 1 folders") == 2
    (tmp_path / UNKNOWN_KEPT).unlink()  # as the sentence says
    sweep(database, second)
    assert not second.folder("datasets", LOST).exists()
    second.release()
    database.close()
