"""Where labels come from over HTTP: asked for, looked at, set, changed, and refused where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.db import Job
from backend.settings import Settings
from tests.backend.support import API, Studio, assert_problem, make_zip, png, study, wait_until
from tests.backend.test_no_identifier_is_written import dicom
from tests.wara.data.test_grids import workbook

PATTERN = r"(?P<patient>\d+)_(?P<label>[a-z]+)"


def eyes(count: int = 12) -> dict[str, bytes]:
    return {f"eyes/{n // 2:02d}_{'ill' if n % 4 < 2 else 'well'}_{n}.png": png(n) for n in range(count)}


def preview(studio: Studio, dataset_id: str, mapping: dict | None = None):
    return studio.http.post(f"{API}/datasets/{dataset_id}/mapping/preview", json=mapping)


def put(studio: Studio, dataset_id: str, mapping: dict):
    return studio.http.put(f"{API}/datasets/{dataset_id}/mapping", json=mapping)


def test_images_in_one_folder_get_their_labels_from_a_pattern(studio: Studio, settings: Settings) -> None:
    found = studio.upload(eyes()).json()
    assert (found["status"], found["images"], found["error"]["code"]) == ("mapping", 12, "one-class")
    base = f"{API}/datasets/{found['id']}"
    assert_problem(studio.http.get(f"{base}/report"), 409, "dataset-needs-mapping")
    order = {"dataset_id": found["id"], "backbone": "vit_tiny_untrained"}
    assert_problem(studio.http.post(f"{API}/jobs", json=order), 409, "dataset-needs-mapping")

    seen = preview(studio, found["id"], {"source": "pattern", "pattern": PATTERN}).json()
    assert (seen["used"], seen["patients"], seen["problem"]) == (12, 6, None)
    assert seen["labels"] == [{"name": "ill", "count": 6}, {"name": "well", "count": 6}]
    assert studio.dataset(found["id"])["status"] == "mapping"  # a look changes nothing

    mapping = {"source": "pattern", "pattern": PATTERN, "rename": {"ill": "glaucoma"}}
    answer = put(studio, found["id"], mapping)
    assert answer.status_code == 202, answer.text
    ready = studio.checked(found["id"])
    assert (ready["status"], ready["layout"], ready["error"]) == ("ready", "pattern", None)
    assert [entry["name"] for entry in ready["classes"]] == ["glaucoma", "well"]
    assert studio.http.get(f"{base}/report").json()["patients"] == 6
    assert preview(studio, found["id"]).json()["mapping"] == mapping
    log = "".join(path.read_text("utf-8", "replace") for path in Path(settings.data_dir).rglob("*.log"))
    assert "glaucoma" not in log


def test_a_workbook_in_a_zip_with_columns_of_its_own_is_guessed_and_applied(studio: Studio) -> None:
    rows = [["Scan", "Diagnosis", "MRN"], *([f"s{n}", "xy"[n % 2], 4000 + n] for n in range(12))]
    files = {f"ward/images/s{n}.png": png(n) for n in range(12)} | {"ward/list.xlsx": workbook(all=rows)}
    found = studio.upload({"ward.zip": make_zip(files)}).json()
    assert found["status"] == "mapping"
    guess = preview(studio, found["id"])
    assert "4001" not in guess.text
    assert guess.json()["mapping"]["columns"] == {"file": "Scan", "label": "Diagnosis", "patient": "MRN"}
    assert put(studio, found["id"], guess.json()["mapping"]).status_code == 202
    assert studio.checked(found["id"])["layout"] == "table"


def test_labels_of_a_data_set_that_is_ready_can_be_changed_and_pictures_follow(studio: Studio) -> None:
    files = {f"study/{'ab'[n % 2]}/{'left' if n < 6 else 'right'}_{n}.png": png(n) for n in range(12)}
    found = studio.ready(files)
    images = f"{API}/datasets/{found['id']}/images"
    before = studio.http.get(images).json()["items"][0]["url"]
    assert studio.http.get(before).status_code == 200
    put(studio, found["id"], {"source": "pattern", "pattern": "(?P<label>left|right)"})
    assert [entry["name"] for entry in studio.checked(found["id"])["classes"]] == ["left", "right"]
    assert studio.http.get(images).json()["items"][0]["url"] != before
    put(studio, found["id"], {"source": "folders"})
    assert [entry["name"] for entry in studio.checked(found["id"])["classes"]] == ["a", "b"]


def test_a_mapping_that_cannot_be_used_changes_nothing(studio: Studio) -> None:
    found = studio.ready(study(5))
    for mapping, code in (
        ({"source": "pattern", "pattern": "(?P<label>["}, "pattern"),
        ({"source": "pattern", "pattern": r"(?P<label>(x|x)+)+$|(?P<a>zzz)"}, "mapping-nothing"),
        ({"source": "pattern", "pattern": "(?P<label>_)"}, "one-class"),
        ({"source": "table", "table": "/etc/passwd", "columns": {"file": "a", "label": "b"}}, "csv-not-found"),
        ({"source": "dicom", "label_tag": "PatientName"}, "dicom-tag"),
        ({"source": "folders", "depth": 0}, "mapping-field"),
        ({"source": "spreadsheet"}, "field-invalid"),
    ):
        assert_problem(put(studio, found["id"], mapping), 422, code)
    assert studio.dataset(found["id"])["status"] == "ready"
    assert preview(studio, found["id"]).json()["mapping"]["source"] == "folders"


def test_a_data_set_that_a_training_uses_is_left_alone(studio: Studio) -> None:
    found = studio.ready(study(5))
    with studio.http.app.state.parts.database.session() as session:
        session.add(
            Job(name="t", dataset_id=found["id"], dataset_name="s", method="wara", backbone="b", backbone_spec="b",
                preset="quick", state="running", cancel_requested=True)
        )  # fmt: skip
    assert_problem(put(studio, found["id"], {"source": "folders"}), 409, "dataset-in-use")


@pytest.mark.parametrize(
    ("index", "each", "code"),
    [({"DICOMDIR": b"an index"}, 2, "no-classes"), ({}, 2, "class-too-small"), ({}, 3, "too-few-patients")],
)
def test_folders_of_patients_are_asked_about_and_the_header_then_gives_the_classes(
    studio: Studio, index: dict[str, bytes], each: int, code: str
) -> None:
    disc = dict(index)
    for patient in range(8):
        told = {"PatientID": f"p-{patient}", "BodyPartExamined": ("HEAD", "CHEST")[patient % 2]}
        for n in range(each):
            disc[f"P{patient}/S0/IM{n}"] = dicom(10 * patient + n, coarse=patient % 2 == 0, **told)
    found = studio.upload({"disc.zip": make_zip(disc)}).json()
    asked = wait_until(lambda: (now := studio.dataset(found["id"]))["status"] == "mapping" and now)
    assert (asked["error"]["code"], asked["images"]) == (code, 8 * each)
    assert put(studio, found["id"], {"source": "dicom", "label_tag": "BodyPartExamined"}).status_code == 202
    ready = studio.checked(found["id"])
    assert (ready["status"], ready["images"], ready["error"]) == ("ready", 8 * each, None)
    assert [entry["name"] for entry in ready["classes"]] == ["CHEST", "HEAD"]
    assert studio.http.get(f"{API}/datasets/{found['id']}/report").json()["patients"] == 8


def test_what_is_not_here_or_not_yet_here_is_refused(studio: Studio) -> None:
    assert_problem(put(studio, "none", {"source": "folders"}), 404, "data-set-not-found")
    begun = studio.upload(study(2), finish="false").json()
    assert_problem(put(studio, begun["id"], {"source": "folders"}), 409, "dataset-not-ready")
    assert_problem(preview(studio, begun["id"]), 409, "dataset-not-ready")


def test_a_training_follows_the_mapping_and_keeps_it(studio: Studio, settings: Settings) -> None:
    found = studio.upload(eyes(24)).json()
    put(studio, found["id"], {"source": "pattern", "pattern": PATTERN})
    assert studio.checked(found["id"])["status"] == "ready"
    job = studio.ended(studio.train(found["id"], epochs=1)["id"])
    assert job["state"] == "succeeded", job
    run = settings.data_dir / "models" / job["model_id"]
    assert PATTERN.replace("\\", "\\\\") in (run / "mapping.json").read_text()
