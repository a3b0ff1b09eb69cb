"""Trainings over HTTP: a real job from order to model, its events, its end on request."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.db import Job
from backend.settings import Settings
from tests.backend.support import API, Studio, assert_problem, serve, settings_for, study, wait_until


def parse(text: str) -> list[dict[str, Any]]:
    """Read server-sent events: id, event and data of each."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "event" in fields:
            events.append({"id": fields.get("id"), "event": fields["event"], "data": json.loads(fields["data"])})
    return events


def test_a_job_tells_its_way_from_order_to_model(trained: tuple[Studio, dict[str, Any]]) -> None:
    studio, job = trained
    assert job["dataset_name"] == "study"
    assert (job["method"], job["backbone"], job["preset"]) == ("wara", "vit_tiny_untrained", "quick")
    assert job["created"] <= job["started"] <= job["finished"]
    assert [epoch["epoch"] for epoch in job["history"]] == [1, 2]
    assert job["phase"] == "done" and job["progress"] is None and job["error"] is None
    assert any("2 classes have fewer than 20 images" in warning for warning in job["warnings"])
    model = studio.http.get(f"{API}/models/{job['model_id']}").json()
    assert model["job_id"] == job["id"]
    assert [item["id"] for item in studio.http.get(f"{API}/jobs").json()["items"]] == [job["id"]]


def test_events_stream_in_order_and_end(trained: tuple[Studio, dict[str, Any]]) -> None:
    studio, job = trained
    answer = studio.http.get(f"{API}/jobs/{job['id']}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = parse(answer.text)
    assert events[-1] == {"id": None, "event": "end", "data": {"state": "succeeded"}}
    assert [event["id"] for event in events[:-1]] == [str(number) for number in range(1, len(events))]
    assert all(event["event"] == event["data"]["type"] for event in events[:-1])
    phases = [event["data"]["phase"] for event in events if event["event"] == "phase"]
    # The second opinion is prepared after the network.
    assert phases == ["reading", "preparing", "preparing", "training", "testing", "analysing"]


@pytest.mark.parametrize(
    ("last", "rest"),
    [("3", slice(3, None)), ("nonsense", slice(0, None)), ("100000", None), ("9" * 5000, slice(0, None))],
)
def test_a_stream_goes_on_behind_the_last_event_seen(
    trained: tuple[Studio, dict[str, Any]], last: str, rest: slice | None
) -> None:
    studio, job = trained
    url = f"{API}/jobs/{job['id']}/events"
    everything = parse(studio.http.get(url).text)
    resumed = parse(studio.http.get(url, headers={"Last-Event-ID": last}).text)
    assert resumed == (everything[rest] if rest is not None else everything[-1:])


def test_an_ended_job_cannot_be_cancelled(trained: tuple[Studio, dict[str, Any]]) -> None:
    studio, job = trained
    assert_problem(studio.http.post(f"{API}/jobs/{job['id']}/cancel"), 409, "job-ended")


def test_cancelling_ends_the_process_group_and_frees_the_device(studio: Studio, settings: Settings) -> None:
    dataset = studio.ready(study())
    first = studio.train(dataset["id"], epochs=10_000, patience=10_000)
    second = studio.train(dataset["id"], epochs=10_000, patience=10_000)
    third = studio.train(dataset["id"], epochs=10_000, patience=10_000)
    wait_until(lambda: studio.job(first["id"])["history"])
    running = studio.job(first["id"])
    assert running["state"] == "running" and running["phase"] == "training"
    assert 0 < running["progress"]["fraction"] < 1
    assert (studio.job(second["id"])["state"], studio.job(second["id"])["message"]) == (
        "queued",
        "Waiting for a free device",
    )
    assert studio.http.get(f"{API}/health").json()["jobs"] == {"running": 1, "queued": 2}
    # In use and unfinished: neither the data nor the job can be deleted now.
    assert_problem(studio.http.delete(f"{API}/datasets/{dataset['id']}"), 409, "dataset-in-use")
    assert_problem(studio.http.delete(f"{API}/jobs/{first['id']}"), 409, "job-not-ended")

    # A job that waits is only taken out of the queue.
    assert studio.http.post(f"{API}/jobs/{second['id']}/cancel").json()["state"] == "cancelled"

    with studio.http.app.state.parts.database.session() as session:
        group = session.get_one(Job, first["id"]).pid
    assert os.getpgid(group) == group != os.getpgid(0)
    answer = studio.http.post(f"{API}/jobs/{first['id']}/cancel")
    assert answer.status_code == 202 and answer.json()["message"] == "Stopping"
    assert studio.ended(first["id"])["state"] == "cancelled"
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    assert not (settings.data_dir / "jobs" / first["id"] / "run").exists()
    assert studio.job(first["id"])["model_id"] is None

    # The device is free: the one that waited behind the cancelled ones starts.
    wait_until(lambda: studio.job(third["id"])["state"] == "running")
    studio.http.post(f"{API}/jobs/{third['id']}/cancel")
    assert studio.ended(third["id"])["state"] == "cancelled"
    assert parse(studio.http.get(f"{API}/jobs/{third['id']}/events").text)[-1]["data"] == {"state": "cancelled"}

    assert studio.http.delete(f"{API}/jobs/{first['id']}").status_code == 204
    assert_problem(studio.http.get(f"{API}/jobs/{first['id']}"), 404, "job-not-found")
    assert not (settings.data_dir / "jobs" / first["id"]).exists()
    assert studio.http.delete(f"{API}/datasets/{dataset['id']}").status_code == 204
    assert studio.job(third["id"])["dataset_id"] is None
    assert studio.job(third["id"])["dataset_name"] == "study"


def test_a_killed_process_is_replaced_and_the_training_paused_resumed_and_told_of(studio: Studio) -> None:
    """One long training through all that can happen to it, so that only one has to be started."""
    dataset = studio.ready(study())
    job = studio.train(dataset["id"], epochs=10_000, patience=10_000)
    url = f"{API}/jobs/{job['id']}"
    wait_until(lambda: studio.job(job["id"])["history"])
    with studio.http.app.state.parts.database.session() as session:
        killed = session.get_one(Job, job["id"]).pid
    psutil.Process(killed).kill()
    wait_until(lambda: "SIGKILL" in str(studio.job(job["id"])["happenings"]))
    known = len(studio.job(job["id"])["history"])
    wait_until(lambda: len(studio.job(job["id"])["history"]) > known)  # it went on

    other = studio.train(dataset["id"], priority="low", epochs=10_000)
    third = studio.train(dataset["id"], epochs=10_000)
    assert [studio.job(each["id"])["position"] for each in (job, third, other)] == [None, 1, 2]
    assert studio.http.post(f"{API}/jobs/{other['id']}/move", json={"to": "first"}).json()["position"] == 1
    assert studio.http.put(f"{API}/jobs/{other['id']}/priority", json={"priority": "low"}).json()["position"] == 2
    for each in (other, third):
        assert studio.http.post(f"{API}/jobs/{each['id']}/pause").json()["state"] == "paused"
    assert_problem(studio.http.post(f"{API}/jobs/{third['id']}/move", json={"to": "up"}), 409, "job-not-waiting")
    assert studio.http.post(f"{API}/jobs/{third['id']}/cancel").json()["state"] == "cancelled"
    assert_problem(studio.http.delete(f"{API}/datasets/{dataset['id']}"), 409, "dataset-in-use")

    assert studio.http.post(f"{url}/pause").json()["message"] == "Pausing: it finishes its step first"
    wait_until(lambda: studio.job(job["id"])["state"] == "paused")
    paused = studio.job(job["id"])
    assert paused["pause_reason"] == "person" and paused["message"].startswith("Paused")
    assert_problem(studio.http.post(f"{API}/jobs/{third['id']}/resume"), 409, "job-not-paused")
    assert studio.http.post(f"{url}/resume").json()["state"] in ("queued", "running")
    wait_until(lambda: len(studio.job(job["id"])["history"]) > len(paused["history"]))
    studio.http.post(f"{url}/cancel")
    ended = studio.ended(job["id"])
    assert [each["code"] for each in ended["happenings"]] == [
        "queued", "started", "interrupted", "resumed", "pause-asked", "paused-person", "released", "resumed",
        "cancel-asked", "cancelled",
    ]  # fmt: skip
    assert ended["happenings"][-1]["text"].endswith("of memory are free")
    studio.http.post(f"{API}/jobs/{other['id']}/cancel")


def test_a_training_that_cannot_be_done_fails_in_the_words_of_the_library(studio: Studio, settings: Settings) -> None:
    dataset = studio.ready(study())
    for file in (settings.data_dir / "datasets" / dataset["id"] / "clean").rglob("fine_*.png"):
        file.write_bytes(b"spoilt")
    ended = studio.ended(studio.train(dataset["id"])["id"])
    assert ended["state"] == "failed"
    assert ended["error"]["remedy"] in ended["error"]["detail"]
    assert str(settings.data_dir) not in json.dumps(ended)


def test_a_full_queue_is_said_and_takes_nothing(tmp_path: Path) -> None:
    with serve(settings_for(tmp_path / "data", waiting_per_person=1)) as client:
        studio = Studio(client)
        dataset = studio.ready(study())["id"]
        jobs = [studio.train(dataset, epochs=10_000)]
        wait_until(lambda: studio.job(jobs[0]["id"])["state"] == "running")
        jobs.append(studio.train(dataset, epochs=10_000))
        order = {"dataset_id": dataset, "backbone": "vit_tiny_untrained", "recipe": {"epochs": 1}}
        problem = assert_problem(studio.http.post(f"{API}/jobs", json=order), 429, "queue-full")
        assert problem["seen"] == "1 waiting"
        assert len(studio.http.get(f"{API}/jobs").json()["items"]) == 2
        for job in reversed(jobs):
            studio.http.post(f"{API}/jobs/{job['id']}/cancel")
        studio.ended(jobs[0]["id"])
