"""Lanes: a full one says when to come again, slow work in one does not hold up another."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backend import estimates, exports
from backend.apart import NoAnswer
from backend.lanes import Lane
from backend.problems import RequestRefused
from backend.settings import Settings
from tests.backend.support import API, Studio, assert_problem, png, serve, wait_until


def test_a_full_lane_refuses_with_a_time_and_takes_again_when_one_has_left() -> None:
    lane = Lane("x", threads=1, room=2, seconds=7)

    async def fill() -> None:
        async with lane.enter(), lane.enter():
            with pytest.raises(RequestRefused) as refused:
                async with lane.enter():
                    pytest.fail("a full lane let somebody in")
            assert (refused.value.status, refused.value.extra) == (503, {"retry_after": 7})
        async with lane.enter():
            assert lane.inside == 1

    asyncio.run(fill())
    assert (lane.inside, lane.refused) == (0, 1)


def test_a_lane_works_on_no_more_at_once_than_it_has_threads() -> None:
    lane = Lane("x", threads=2, room=10, seconds=1)
    lock, now, most = threading.Lock(), 0, 0

    def work(pause: threading.Event) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        pause.wait(0.05)
        with lock:
            now -= 1

    async def all_at_once() -> None:
        await asyncio.gather(*(lane.run(work, threading.Event()) for _ in range(6)))

    asyncio.run(all_at_once())
    assert most == 2


def test_a_busy_server_answers_503_with_retry_after_and_keeps_nothing(settings: Settings) -> None:
    with serve(settings) as client:
        studio = Studio(client)
        lane: Any = client.app.state.parts.lanes.predictions  # type: ignore[attr-defined]
        lane.inside = lane._room
        answer = client.post(f"{API}/models/none/predict", files=[("files", ("a.png", png(0)))])
        assert_problem(answer, 404, "model-not-found")
        assert client.get(f"{API}/health").status_code == 200
        lane.inside = 0
        assert studio.http.get(f"{API}/models").json()["items"] == []


def test_a_full_lane_for_predictions_is_a_503(trained: tuple[Studio, dict[str, Any]]) -> None:
    studio, job = trained
    lane: Any = studio.http.app.state.parts.lanes.predictions
    lane.inside += lane._room
    try:
        answer = studio.http.post(f"{API}/models/{job['model_id']}/predict", files=[("files", ("a.png", png(0)))])
    finally:
        lane.inside -= lane._room
    assert_problem(answer, 503, "busy")
    assert answer.headers["retry-after"] == "2"
    metrics = studio.http.get("/metrics").text
    assert 'wara_lane_refused_total{lane="predictions"} 1.0' in metrics


@pytest.mark.parametrize(("kind", "after"), [("exports", "30"), ("estimates", "15")])
def test_long_work_apart_waits_in_a_lane_and_holds_up_no_other_request(
    trained: tuple[Studio, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, kind: str, after: str
) -> None:
    studio, job = trained
    go_on, began = threading.Event(), threading.Semaphore(0)

    def slow(_: object, order: dict[str, Any], **__: object) -> dict[str, Any]:
        began.release()
        assert go_on.wait(60)
        if kind == "estimates":
            raise NoAnswer(TimeoutError())
        Path(order["out"]).write_bytes(b"made")
        return {"file": Path(order["out"]).name}

    monkeypatch.setattr({"exports": exports, "estimates": estimates}[kind], "work_apart", slow)
    order = {"dataset_id": job["dataset_id"], "backbone": "vit_tiny_untrained", "recipe": {"batch_size": 5}}
    export = f"{API}/models/{job['model_id']}/export"

    def ask(_: int = 0) -> Any:
        if kind == "exports":
            return studio.http.get(export, params={"format": "merged"})
        return studio.http.post(f"{API}/estimates", json=order)

    lane: Any = getattr(studio.http.app.state.parts.lanes, kind)
    with ThreadPoolExecutor(lane._room) as people:
        asked = [people.submit(ask, number) for number in range(lane._room)]
        try:
            wait_until(lambda: lane.inside == lane._room)
            began.acquire()
            assert not began.acquire(blocking=False)  # one at a time
            refused = ask()
            assert_problem(refused, 503, "busy")
            assert refused.headers["retry-after"] == after
            assert studio.http.get(f"{API}/health/live").status_code == 200
            # What is only packed does not stand behind what is traced.
            assert studio.http.get(export, params={"format": "peft"}).status_code == 200
        finally:
            go_on.set()
        codes = [each.result().status_code for each in asked]
    assert codes == [200 if kind == "exports" else 503] * lane._room
    assert lane.inside == 0
