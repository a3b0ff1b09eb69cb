"""Decisions about findings over HTTP: taken, gone by in report and training, undone, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from backend.labelling import apply_mapping
from backend.settings import Settings
from tests.backend.support import API, Studio, assert_problem, serve, settings_for, study
from wara.data.mapping import MAPPING_FILE, Mapping


def leaking(studio: Studio) -> dict[str, Any]:
    """Twelve images of either class in a given split: one patient in training and test, one file there twice."""
    images = study(12)
    names = sorted(images)
    rows = []
    for place, name in enumerate(names):
        side = ("train", "train", "train", "val", "test", "test")[place % 6]
        patient = "p0" if place == 4 else f"p{place}"
        rows.append(f"{name.removeprefix('study/')},{name.split('/')[1]},{patient},{side}")
    images["study/coarse/copy.png"] = images[names[1]]
    rows.append("coarse/copy.png,coarse,p99,train")
    return studio.ready(images | {"study/labels.csv": "\n".join(["file,label,patient,split", *rows]).encode()})


def report_of(studio: Studio, dataset: dict[str, Any]) -> dict[str, Any]:
    answer = studio.http.get(f"{API}/datasets/{dataset['id']}/report")
    assert answer.status_code == 200, answer.text
    return answer.json()


def found_in(report: dict[str, Any]) -> dict[str, Any]:
    return {finding["id"]: finding for finding in report["findings"]}


def decide(studio: Studio, dataset: dict[str, Any], finding: str, fix: str) -> Any:
    return studio.http.post(f"{API}/datasets/{dataset['id']}/decisions", json={"finding": finding, "fix": fix})


def test_a_finding_is_fixed_recorded_and_undone(studio: Studio) -> None:
    dataset = leaking(studio)
    before = report_of(studio, dataset)
    leaks = found_in(before)["leaks"]
    assert [image["split"] for image in leaks["groups"][0]["images"]] == ["train", "test"]
    assert studio.http.get(leaks["groups"][0]["images"][0]["url"]).status_code == 200
    assert before["decisions"] == []

    first = decide(studio, dataset, "leaks", "move")
    assert first.status_code == 201, first.text
    assert [(d["finding"], d["fix"], d["images"]) for d in first.json()["items"]] == [("leaks", "move", 1)]
    decide(studio, dataset, "copies-within", "drop")
    after = report_of(studio, dataset)
    assert not {"leaks", "copies-within"} & set(found_in(after))
    assert (after["images"], after["splits"]["test"]["images"]) == (24, before["splits"]["test"]["images"] + 1)
    assert [d["fix"] for d in after["decisions"]] == ["move", "drop"]

    undone = studio.http.delete(f"{API}/datasets/{dataset['id']}/decisions/0")
    assert [d["fix"] for d in undone.json()["items"]] == ["drop"]
    assert {"leaks"} <= set(found_in(report_of(studio, dataset)))
    studio.http.delete(f"{API}/datasets/{dataset['id']}/decisions/0")
    assert report_of(studio, dataset) == before


def test_thumbnails_stay_those_of_their_files_when_images_are_left_out(studio: Studio) -> None:
    dataset = leaking(studio)

    def pictures() -> dict[str, bytes]:
        items = studio.http.get(f"{API}/datasets/{dataset['id']}/images", params={"limit": 100}).json()["items"]
        return {item["file"]: studio.http.get(item["url"]).content for item in items}

    before = pictures()
    decide(studio, dataset, "leaks", "drop")
    after = pictures()
    assert len(before) - len(after) == 1
    assert all(before[file] == picture for file, picture in after.items())


def test_what_cannot_be_decided_is_refused_in_a_sentence(studio: Studio) -> None:
    dataset = leaking(studio)
    assert_problem(decide(studio, dataset, "nothing", "drop"), 422, "finding-unknown")
    assert_problem(decide(studio, dataset, "leaks", "group"), 422, "fix-unknown")
    assert_problem(decide(studio, dataset, "leaks", "burn"), 422, "field-invalid")
    assert_problem(decide(studio, {"id": "none"}, "leaks", "move"), 404, "data-set-not-found")
    half = studio.http.post(
        f"{API}/datasets/{dataset['id']}/decisions",
        content='{"finding": "\\ud800", "fix": "drop"}',
        headers={"Content-Type": "application/json"},
    )
    assert_problem(half, 422, "field-invalid")
    gone = studio.http.delete(f"{API}/datasets/{dataset['id']}/decisions/0")
    assert_problem(gone, 404, "decision-not-found")
    assert_problem(studio.http.delete(f"{API}/datasets/{dataset['id']}/decisions/-1"), 404, "decision-not-found")
    assert_problem(studio.http.delete(f"{API}/datasets/{dataset['id']}/decisions/x"), 422, "field-invalid")


def test_nothing_untrainable_is_left(studio: Studio) -> None:
    """All images of one class are copies of the other's: leaving out both classes' copies leaves nothing to learn."""
    images = study(6)
    for number in range(6):
        images[f"study/fine/fine_{number}.png"] = images[f"study/coarse/coarse_{number}.png"]
    dataset = studio.ready(images)
    refused = decide(studio, dataset, "copies-conflict", "drop")
    assert refused.status_code == 422 and refused.json()["remedy"]
    assert report_of(studio, dataset)["decisions"] == []


def test_training_goes_by_the_decisions_and_keeps_them(studio: Studio, settings: Settings) -> None:
    dataset = leaking(studio)
    decide(studio, dataset, "leaks", "move")
    decide(studio, dataset, "copies-within", "drop")
    job = studio.train(dataset["id"], epochs=1)
    assert_problem(decide(studio, dataset, "small-classes", "drop"), 409, "dataset-in-use")
    assert_problem(studio.http.delete(f"{API}/datasets/{dataset['id']}/decisions/0"), 409, "dataset-in-use")
    ended = studio.ended(job["id"])
    assert ended["state"] == "succeeded", ended
    run = settings.data_dir / "models" / ended["model_id"]
    recipe = json.loads(next(run.rglob("recipe.json")).read_text())
    assert [(d["finding"], d["fix"], d["images"]) for d in recipe["decisions"]] == [
        ("leaks", "move", 1), ("copies-within", "drop", 1),
    ]  # fmt: skip
    assert len(json.loads(next(run.rglob("decisions.json")).read_text())) == 2
    assert recipe["data"]["images"] == 24
    assert recipe["data"]["splits"] == {
        side: facts["images"] for side, facts in report_of(studio, dataset)["splits"].items()
    }
    assert "Decided on the findings of the data report" in next(run.rglob("card.md")).read_text()


def test_other_labels_drop_the_decisions_about_the_former_ones(studio: Studio) -> None:
    dataset = leaking(studio)
    decide(studio, dataset, "copies-within", "drop")
    assert len(report_of(studio, dataset)["decisions"]) == 1
    by_name = {"source": "pattern", "pattern": "(?P<label>fine|coarse)_"}
    answer = studio.http.put(f"{API}/datasets/{dataset['id']}/mapping", json=by_name)
    assert answer.status_code == 202, answer.text
    assert studio.checked(dataset["id"])["status"] == "ready"
    assert report_of(studio, dataset)["decisions"] == []


def test_nothing_is_decided_while_the_labels_are_not_known(studio: Studio) -> None:
    images = {f"pile/{name.rpartition('/')[2]}": data for name, data in study(6).items()}
    found = studio.upload(images).json()
    assert found["status"] == "mapping"
    assert_problem(decide(studio, found, "leaks", "move"), 409, "dataset-needs-mapping")
    undone = studio.http.delete(f"{API}/datasets/{found['id']}/decisions/0")
    assert_problem(undone, 409, "dataset-needs-mapping")


class Killed(BaseException):
    """Stands in for the kill: nothing of the server catches it."""


def test_no_decision_outlives_its_labels_though_the_server_is_killed_as_they_are_set(tmp_path: Path) -> None:
    def killed(_: Session) -> None:
        if list(tmp_path.rglob(MAPPING_FILE)):  # the commit that follows, not those of what is only read
            raise Killed

    with serve(settings_for(tmp_path)) as client:
        studio = Studio(client)
        dataset = leaking(studio)
        assert decide(studio, dataset, "copies-within", "drop").status_code == 201
        new = Mapping(source="pattern", pattern="(?P<label>coarse|fine)_")
        event.listen(Session, "after_commit", killed)
        try:
            with pytest.raises(Killed):
                apply_mapping(studio.http.app.state.parts.intake, dataset["id"], new)
        finally:
            event.remove(Session, "after_commit", killed)
    with serve(settings_for(tmp_path)) as client:
        studio = Studio(client)
        found = studio.checked(dataset["id"])
        assert (found["status"], found["layout"]) == ("ready", "pattern")
        assert report_of(studio, dataset)["decisions"] == []
