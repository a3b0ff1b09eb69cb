"""Whatever can be wrong with what a person sends: each answers as a problem, in plain words."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from tests.backend.support import (
    API,
    Studio,
    assert_problem,
    dicom_without_pixels,
    five_channel_tiff,
    jpeg,
    make_zip,
    png,
    serve,
    settings_for,
    study,
)
from tools.bad_input_cases import encrypted

UNREADABLE = {
    "text.png": b"This is not an image, whatever its name says.",
    "cut.jpg": jpeg(1)[:300],
    "empty.dcm": dicom_without_pixels(),
    "five.tif": five_channel_tiff(),
}
CSV = "file,label\n" + "\n".join(f"{i}.png,{'ab'[i % 2]}" for i in range(6))
SCANS = {f"scans/{i}.png": png(i) for i in range(6)}


def slip_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.png", png(0))
        archive.writestr("a/1.png", png(1))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"empty.zip": make_zip({})}, "empty"),
        ({"study/notes.txt": b"no images at all"}, "no image"),
        (study(5) | {"study/rare/1.png": png(900)}, "only one image"),
        (SCANS | {"scans/labels.csv": CSV.replace(",a", ",").encode()}, "without a label"),
        ({"slip.zip": slip_zip()}, ".."),
        ({"locked.zip": encrypted(make_zip(study(5)))}, "encrypted"),
        ({"broken.zip": make_zip(study(5))[:400]}, "damaged"),
    ],
    ids=[
        "empty zip", "no images", "one image in a class", "csv with empty labels", "zip leaves its folder",
        "zip encrypted", "zip damaged",
    ],
)  # fmt: skip
def test_an_unusable_upload_is_refused_at_once_and_not_kept(
    studio: Studio, settings: Any, files: dict[str, bytes], words: str
) -> None:
    answer = studio.upload(files)
    problem = assert_problem(answer, 422, answer.json()["code"])
    assert words in problem["detail"]
    assert str(settings.data_dir) not in answer.text
    assert studio.http.get(f"{API}/datasets").json()["items"] == []
    assert list((settings.data_dir / "datasets").iterdir()) == list((settings.data_dir / "staging").iterdir()) == []


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({f"study/only/{i}.png": png(i) for i in range(5)}, "one class"),
        (SCANS | {"scans/labels.csv": (CSV + "\n77.png,a\n78.png,b").encode()}, "77.png"),
        (SCANS | {"scans/labels.csv": CSV.replace("label", "diagnosis").encode()}, "diagnosis"),
    ],
    ids=["one class", "csv names missing files", "csv without label"],
)
def test_images_whose_labels_cannot_be_told_are_kept_and_it_is_said_why(
    studio: Studio, files: dict[str, bytes], words: str
) -> None:
    found = studio.upload(files).json()
    assert (found["status"], found["classes"]) == ("mapping", [])
    assert words in found["error"]["detail"]


def test_an_upload_without_files_is_refused(studio: Studio) -> None:
    empty = studio.http.post(f"{API}/datasets", files=[("name", (None, b"nothing"))])
    assert_problem(empty, 422, "empty-upload")
    begun = studio.http.post(f"{API}/datasets", files=[("finish", (None, b"false"))]).json()
    assert_problem(studio.http.post(f"{API}/datasets/{begun['id']}/finish"), 422, "empty-upload")
    assert studio.http.get(f"{API}/datasets").json()["items"] == []


def test_unreadable_images_are_passed_over_with_their_reasons(studio: Studio) -> None:
    found = studio.ready(study(5) | {f"study/fine/{name}": data for name, data in UNREADABLE.items()})
    assert (found["images"], found["passed_over"]) == (10, 4)
    report = studio.http.get(f"{API}/datasets/{found['id']}/report").json()
    reasons = {entry["file"].rpartition("/")[2]: entry["reason"] for entry in report["passed_over"]["list"]}
    assert reasons.keys() == UNREADABLE.keys()
    assert all(len(reason) > 10 for reason in reasons.values())
    assert "SECRET" not in str(report)


def test_a_class_of_unreadable_images_alone_fails_the_data_set_in_words(studio: Studio) -> None:
    files = {name: data for name, data in study(5).items() if "coarse" in name}
    dataset_id = studio.upload(files | {f"study/fine/{n}": d for n, d in UNREADABLE.items()}).json()["id"]
    found = studio.checked(dataset_id)
    assert found["status"] == "failed"
    assert found["error"]["remedy"] in found["error"]["detail"]
    assert_problem(studio.http.get(f"{API}/datasets/{dataset_id}/report"), 409, "dataset-failed")
    order = {"dataset_id": dataset_id, "backbone": "vit_tiny_untrained"}
    assert_problem(studio.http.post(f"{API}/jobs", json=order), 409, "dataset-failed")
    assert studio.http.delete(f"{API}/datasets/{dataset_id}").status_code == 204


@pytest.mark.parametrize(
    "name",
    ["../evil.png", "a/../../evil.png", "/etc/passwd", "a/con.png", "a\\b.png", "a/\n.png", "x" * 300 + ".png"],
)
def test_a_name_that_could_leave_the_folder_is_refused(studio: Studio, name: str) -> None:
    assert_problem(studio.upload(study(5) | {name: png(0)}), 422, "unsafe-name")


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"recipe": {"rank": 0}}, 422, "rank"),
        ({"recipe": {"rank": 97}}, 422, "96"),
        ({"recipe": {"rank": 97}, "method": "lora"}, 422, "96"),
        ({"recipe": {"rank": "eight"}}, 422, "rank"),
        ({"recipe": {"colour": 3}}, 422, "colour"),
        ({"recipe": {"method": "lora"}}, 422, "method"),
        ({"recipe": {"wavelet": "wobble"}}, 422, "wobble"),
        ({"method": "magic"}, 422, "magic"),
        ({"preset": "instant"}, 422, "instant"),
        ({"backbone": "resnet_of_dreams"}, 422, "resnet_of_dreams"),
        ({"backbone": "vit_tiny_patch16_224:/etc/passwd"}, 422, "/etc/passwd"),
        ({"dataset_id": "nowhere"}, 404, "nowhere"),
        ({"rank": 3}, 422, "rank"),
        ({"recipe": [1]}, 422, "recipe"),
        ({"recipe": {"device": "cuda"}}, 422, "Leave the device out, or use cpu"),
        ({"recipe": {"image_size": 16}}, 422, "multiple of 16"),
    ],
)
def test_a_wrong_order_is_refused_before_it_is_queued(
    trained: tuple[Studio, dict[str, Any]], change: dict[str, Any], status: int, words: str
) -> None:
    studio, job = trained
    order = {"dataset_id": job["dataset_id"], "backbone": "vit_tiny_untrained"} | change
    answer = studio.http.post(f"{API}/jobs", json=order)
    problem = assert_problem(answer, status, answer.json()["code"])
    assert words in problem["detail"]
    assert len(studio.http.get(f"{API}/jobs").json()["items"]) == 1


def test_a_body_that_is_no_json_is_a_problem(studio: Studio) -> None:
    headers = {"content-type": "application/json"}
    assert_problem(studio.http.post(f"{API}/jobs", content=b"{", headers=headers), 422, "json-invalid")
    assert_problem(studio.http.post(f"{API}/jobs", json={}), 422, "field-missing")


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "application/xml"])
def test_a_body_under_another_type_is_refused_in_words(studio: Studio, kind: str) -> None:
    for path in ("jobs", "estimates", "datasets/none/decisions", "datasets/none/masks"):
        answer = studio.http.post(f"{API}/{path}", content=b'{"a": 1}\xff', headers={"content-type": kind})
        assert answer.status_code in (404, 422), answer.text
        assert_problem(answer, answer.status_code, answer.json()["code"])


@pytest.mark.parametrize(
    "order",
    [
        r'{"dataset_id": "\ud800", "backbone": "b"}', r'{"dataset_id": "d", "backbone": "b", "name": "\udfff"}',
        r'{"dataset_id": "d", "backbone": "b", "recipe": {"\ud800": 1}}', r'{"\ud800": 1}', r'"\ud800"',
        r'{"dataset_id": "d", "backbone": "b", "recipe": {"wavelet": ["\ud800"]}}',
    ],
)  # fmt: skip
def test_half_a_character_is_refused_in_words(studio: Studio, order: str) -> None:
    answer = studio.http.post(f"{API}/jobs", content=order, headers={"content-type": "application/json"})
    assert_problem(answer, 422, "field-invalid")


def test_weights_of_another_architecture_are_refused_and_not_kept(studio: Studio, settings: Any) -> None:
    weights = save({"some.weight": torch.zeros(3, 3)})
    for name, file, data, code in (
        ("deit_tiny_patch16_224", "w.safetensors", weights, "weights-mismatch"),
        ("deit_tiny_patch16_224", "w.safetensors", b"no weights at all", "weights-unreadable"),
        ("deit_of_dreams", "w.safetensors", weights, "backbone-unknown"),
        ("deit_tiny_patch16_224", "w.exe", weights, "weights-suffix"),
        ("", "w.safetensors", weights, "backbone-incomplete"),
    ):
        answer = studio.http.post(f"{API}/backbones", files={"file": (file, data)}, data={"name": name})
        assert_problem(answer, 422, code)
        assert str(settings.data_dir) not in answer.text
    assert list((settings.data_dir / "backbones").iterdir()) == []
    assert list((settings.data_dir / "scratch").iterdir()) == []


def test_no_disk_space_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with serve(settings_for(tmp_path).model_copy(update={"min_free_mb": 10**9})) as client:
        studio = Studio(client)
        problem = assert_problem(studio.upload(study(5)), 507, "disk-full")
        assert "MB free" in problem["seen"]
        assert studio.http.get(f"{API}/datasets").json()["items"] == []
        assert list((tmp_path / "staging").iterdir()) == []


def test_an_upload_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with serve(settings_for(tmp_path, max_upload_mb=1)) as client:
        studio = Studio(client)
        half = b"\0" * 700_000
        assert_problem(studio.upload({"a/1.png": half, "a/2.png": half}), 413, "upload-too-large")
        begun = studio.upload({"a/1.png": half}, finish="false").json()["id"]
        more = studio.http.post(f"{API}/datasets/{begun}/files", files={"files": ("a/2.png", half)})
        assert_problem(more, 413, "upload-too-large")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/datasets/none", "data-set-not-found"), ("/jobs/none", "job-not-found"), ("/models/none", "model-not-found"),
        ("/jobs/none/events", "job-not-found"), ("/models/none/card", "model-not-found"), ("/nothing", "not-found"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_404_in_words(studio: Studio, path: str, code: str) -> None:
    problem = assert_problem(studio.http.get(API + path), 404, code)
    assert problem["seen"] in (f"{API}/nothing", "none")


def test_a_wrong_method_is_a_405(studio: Studio) -> None:
    answer = studio.http.put(f"{API}/health")
    problem = assert_problem(answer, 405, "method-not-allowed")
    assert problem["seen"] == f"PUT {API}/health" and problem["remedy"].startswith("Use GET; ")
    assert answer.headers["allow"] == "GET"
    answer = studio.http.patch(f"{API}/models/{'x' * 300}")
    assert answer.headers["allow"] == "GET, DELETE" and len(answer.json()["seen"]) < 210
