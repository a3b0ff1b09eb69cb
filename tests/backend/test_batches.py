"""Batches that go while others look at them, and one whose folder is gone: each is as if it had never been there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from backend.batch_record import BatchRecord, Order
from backend.batches import KEPT, Batches
from backend.db.models import new_id, now
from backend.problems import RequestRefused
from tests.backend.support import API, Studio, assert_problem


@pytest.fixture
def batches(studio: Studio) -> Batches:
    found: Batches = studio.http.app.state.parts.batches
    return found


@pytest.fixture
def begun(studio: Studio) -> Callable[[], BatchRecord]:
    def begin() -> BatchRecord:
        order = Order(
            id=new_id(), model_id="m", model_name="a model", version="1", classes=["a", "b"], rule="mean", kind="files",
            total=1, created=now().isoformat(), state="receiving",
        )  # fmt: skip
        folder = studio.http.app.state.parts.storage.folder("batches", order.id)
        return BatchRecord.begin(folder, order, [("a.png", 1)])

    return begin


def address(record: BatchRecord) -> str:
    return f"{API}/batches/{record.order.id}"


def test_what_is_left_of_a_deleted_batch_holds_nothing_and_says_so(begun: Callable[[], BatchRecord]) -> None:
    record = begun()
    shutil.rmtree(record.folder)
    assert list(record.rows()) == [] and record.places([("a.png", 1)]) == [None]
    with pytest.raises(RequestRefused) as refused:
        _ = record.changed
    assert (refused.value.status, refused.value.code) == (404, "batch-not-found")


def test_a_list_leaves_out_what_is_deleted_at_this_moment(
    studio: Studio, batches: Batches, begun: Callable[[], BatchRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = begun(), begun()
    every = batches.all

    def all_and_one_goes() -> list[BatchRecord]:
        found = every()
        shutil.rmtree(gone.folder)
        return found

    monkeypatch.setattr(batches, "all", all_and_one_goes)
    items = studio.http.get(f"{API}/batches").json()["items"]
    assert [item["id"] for item in items] == [kept.order.id]
    assert_problem(studio.http.get(address(gone)), 404, "batch-not-found")


def test_a_sweep_goes_on_behind_what_is_deleted_at_this_moment(
    batches: Batches, begun: Callable[[], BatchRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, gone = begun(), begun()
    long_ago = (now() - KEPT - timedelta(hours=1)).timestamp()
    for path in old.folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    found = [gone, old]
    shutil.rmtree(gone.folder)
    monkeypatch.setattr(batches, "all", lambda: found)
    batches.sweep()
    assert not old.folder.exists()


def test_whoever_waits_for_a_deletion_is_told_that_there_is_none(
    studio: Studio, batches: Batches, begun: Callable[[], BatchRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    record, storage = begun(), studio.http.app.state.parts.storage
    lock = storage.lock

    def after_a_deletion(identifier: str) -> Any:
        shutil.rmtree(record.folder, ignore_errors=True)
        return lock(identifier)

    monkeypatch.setattr(storage, "lock", after_a_deletion)
    assert_problem(studio.http.get(address(record)), 404, "batch-not-found")


@pytest.mark.parametrize("offset", [2**62 + 1, 2**63, 10**30])
def test_a_page_behind_everything_countable_is_refused_in_words(
    studio: Studio, begun: Callable[[], BatchRecord], offset: int
) -> None:
    rows = f"{address(begun())}/rows"
    assert studio.http.get(rows, params={"offset": 2**62}).json() == {"total": 0, "items": []}
    assert_problem(studio.http.get(rows, params={"offset": offset}), 422, "field-invalid")
