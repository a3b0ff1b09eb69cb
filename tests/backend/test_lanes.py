"""Lanes: a full one says when to come again, slow work in one does not hold up another."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from backend.lanes import Lane
from backend.problems import RequestRefused
from backend.settings import Settings
from tests.backend.support import API, Studio, assert_problem, png, serve


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
