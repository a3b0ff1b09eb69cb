"""The demo data set over HTTP: drawn once, checked like an upload, with patients; refused in words."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from backend import demo
from backend.settings import Settings
from backend.storage import Storage
from tests.backend.support import API, Studio, as_form, assert_problem
from wara.demo import CLASSES, files
from wara.errors import InputError


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "IMAGES", 30)


def test_the_demo_is_a_data_set_like_an_uploaded_one(studio: Studio) -> None:
    answer = studio.http.post(f"{API}/datasets/demo")
    assert answer.status_code == 201
    found = studio.checked(answer.json()["id"])
    assert (found["status"], found["name"]) == ("ready", demo.NAME)
    assert found["classes"] == [{"name": name, "count": 10} for name in CLASSES]
    assert (found["images"], found["passed_over"]) == (30, 0)
    report = studio.http.get(f"{API}/datasets/{found['id']}/report").json()
    assert report["patients"] and not report["leaks"]
    page = studio.http.get(f"{API}/datasets/{found['id']}/images", params={"limit": 1}).json()
    thumbnail = Image.open(io.BytesIO(studio.http.get(page["items"][0]["url"]).content))
    assert thumbnail.size == (224, 224)


def test_asked_for_twice_there_is_one(studio: Studio, settings: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: studio.http.post(f"{API}/datasets/demo"), range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 201]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert len(list((settings.data_dir / "datasets").iterdir())) == 1
    studio.checked(answers[0].json()["id"])
    assert studio.http.post(f"{API}/datasets/demo").json()["id"] == answers[0].json()["id"]


def test_a_deleted_demo_can_be_drawn_again(studio: Studio) -> None:
    first = studio.checked(studio.http.post(f"{API}/datasets/demo").json()["id"])
    assert studio.http.delete(f"{API}/datasets/{first['id']}").status_code == 204
    again = studio.http.post(f"{API}/datasets/demo")
    assert again.status_code == 201
    assert studio.checked(again.json()["id"])["status"] == "ready"


def test_the_same_images_uploaded_by_hand_are_the_demo(studio: Studio) -> None:
    uploaded = studio.ready({f"mine/{name}": content for name, content in files(30)})
    answer = studio.http.post(f"{API}/datasets/demo")
    assert (answer.status_code, answer.json()["id"]) == (200, uploaded["id"])


def test_a_folder_of_the_same_name_is_no_demo(studio: Studio) -> None:
    other = {
        f"{name}/{name}_{n}.png": content for name in "ab" for n, (_, content) in enumerate(files(12, seed=ord(name)))
    }
    uploaded = studio.ready(other, name=demo.NAME)
    found = studio.http.post(f"{API}/datasets/demo").json()
    assert found["id"] != uploaded["id"] and found["name"] == f"{demo.NAME} (2)"
    assert studio.http.post(f"{API}/datasets/demo").json()["id"] == found["id"]


def test_a_full_disk_is_said_in_words_and_leaves_nothing(
    studio: Studio, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Storage, "free_mb", lambda self: 0.0)
    assert_problem(studio.http.post(f"{API}/datasets/demo"), 507, "disk-full")
    assert nothing_stored(settings)


def test_a_refusal_on_the_way_in_leaves_nothing(
    studio: Studio, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise InputError("The upload cannot be kept", remedy="Try again.", code="not-kept")

    monkeypatch.setattr(studio.http.app.state.parts.intake, "add", refuse)
    assert_problem(studio.http.post(f"{API}/datasets/demo"), 422, "not-kept")
    assert nothing_stored(settings)
    assert studio.http.get(f"{API}/datasets").json()["items"] == []


def nothing_stored(settings: Settings) -> bool:
    folders: list[Path] = [settings.data_dir / kind for kind in ("datasets", "staging", "scratch")]
    return not any(list(folder.iterdir()) for folder in folders)


def test_images_to_classify_are_none_of_the_data_set(studio: Studio) -> None:
    found = studio.http.get(f"{API}/demo").json()
    assert (found["name"], found["classes"]) == (demo.NAME, list(CLASSES))
    inside = {content for _, content in files(300, dicom_share=0)}
    assert len(found["images"]) == len(CLASSES)
    for image in found["images"]:
        answer = studio.http.get(image["url"])
        assert answer.headers["content-type"] == "image/png" and image["url"].endswith(image["file"])
        assert answer.content not in inside
        assert Image.open(io.BytesIO(answer.content)).size == (224, 224)
    assert_problem(studio.http.get(f"{API}/demo/images/other.png"), 404, "image-not-found")


def test_images_uploaded_beside_it_stay_their_own(studio: Studio) -> None:
    demo_id = studio.http.post(f"{API}/datasets/demo").json()["id"]
    other = dict(files(12, seed=5))
    answer = studio.http.post(f"{API}/datasets", files=as_form({f"x/{k}": v for k, v in other.items()}))
    assert answer.status_code == 201 and answer.json()["id"] != demo_id
    assert studio.checked(answer.json()["id"])["images"] == 12
