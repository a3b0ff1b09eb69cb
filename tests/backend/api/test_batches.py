"""Batches over HTTP: files a few at a time, a zip, a data set; what is kept of them, and what is not."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from backend.batches import KEPT
from backend.storage import append_lines
from tests.backend.support import (
    API,
    Studio,
    as_form,
    assert_problem,
    make_zip,
    png,
    serve,
    settings_for,
    study,
    wait_until,
)

FILES = {f"new/{index}.png": png(2000 + index, coarse=index % 2 == 0) for index in range(5)}
BROKEN = {"new/letter.png": b"a letter, no image", "new/note.png": b"a note, no image"}
ENDED = ("done", "cancelled", "failed")


def dicom(patient: str, name: str, seed: int, *, bright: bool = False) -> bytes:
    """A radiograph of somebody, with all that names them in its header."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientID, dataset.PatientName, dataset.Modality = patient, name, "CR"
    dataset.StudyDate, dataset.AccessionNumber = "20260214", f"ACC{patient}"
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32)).astype(np.uint8) // (1 if bright else 3)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def copied(trained: tuple[Studio, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A server of its own on a copy of the trained one's folder: what is left there disturbs nobody."""
    folder = tmp_path_factory.mktemp("batches") / "data"
    shutil.copytree(trained[0].http.app.state.parts.settings.data_dir, folder, ignore=shutil.ignore_patterns("*.lock"))
    with serve(settings_for(folder)) as client:
        yield Studio(client)


@pytest.fixture
def http(copied: Studio) -> Any:
    return copied.http


@pytest.fixture
def model(trained: tuple[Studio, dict[str, Any]]) -> str:
    return f"{API}/models/{trained[1]['model_id']}"


def announced(files: dict[str, bytes]) -> dict[str, Any]:
    return {"files": [{"name": name, "size": len(data)} for name, data in files.items()]}


def begin(http: Any, model: str, files: dict[str, bytes]) -> str:
    answer = http.post(f"{model}/batches", json=announced(files))
    assert answer.status_code == 201, answer.text
    return f"{API}/batches/{answer.json()['id']}"


def take(http: Any, batch: str, files: dict[str, bytes]) -> dict[str, Any]:
    answer = http.post(f"{batch}/files", files=as_form(files))
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(http: Any, batch: str) -> dict[str, Any]:
    def over() -> dict[str, Any] | None:
        found = http.get(batch).json()
        return found if found["state"] in ENDED else None

    return wait_until(over)


def table(http: Any, batch: str, name: str = ".csv") -> list[dict[str, str]]:
    answer = http.get(f"{batch}{name}")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def some(files: dict[str, bytes], start: int, end: int) -> dict[str, bytes]:
    return dict(list(files.items())[start:end])


def everything_written(folder: Path) -> bytes:
    return b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_files_are_classified_a_few_at_a_time_and_their_rows_add_up(http: Any, model: str) -> None:
    files = FILES | BROKEN
    batch = begin(http, model, files)
    first = take(http, batch, some(files, 0, 3))
    assert (first["batch"]["state"], first["batch"]["done"], first["batch"]["total"]) == ("receiving", 3, 7)
    assert [item["file"] for item in first["items"]] == list(files)[:3]
    last = take(http, batch, some(files, 3, 7))["batch"]
    assert (last["state"], last["done"], last["unreadable"]) == ("done", 7, 2)
    assert sum(last["labels"].values()) == 5
    assert [reason["count"] for reason in last["reasons"]] == [2]
    assert "letter" not in last["reasons"][0]["reason"]
    alone = http.post(f"{model}/predict", files=as_form(FILES)).json()["items"]
    rows = http.get(f"{batch}/rows").json()
    assert rows["total"] == 7 and [row["number"] for row in rows["items"]] == list(range(7))
    for row, item in zip(rows["items"], alone, strict=False):
        assert row["probabilities"] == pytest.approx(item["probabilities"], abs=1e-2)
    page = http.get(f"{batch}/rows", params={"offset": 5, "limit": 1}).json()["items"]
    assert [row["file"] for row in page] == ["new/letter.png"]


def test_the_table_names_model_and_version_in_every_row(http: Any, model: str) -> None:
    batch = begin(http, model, FILES | BROKEN)
    take(http, batch, FILES | BROKEN)
    rows = table(http, batch)
    known = http.get(model).json()
    assert list(rows[0]) == [
        "file", "patient", "label", "probability coarse", "probability fine", "set", "warning", "model", "model id",
        "version", "error",
    ]  # fmt: skip
    version = http.get(f"{API}/health").json()["version"]
    assert {(row["model"], row["model id"], row["version"]) for row in rows} == {(known["name"], known["id"], version)}
    for row in rows[:5]:
        assert float(row["probability coarse"]) + float(row["probability fine"]) == pytest.approx(1, abs=1e-5)
        assert row["label"] in row["set"].split(" | ") or row["set"] == ""
        assert row["error"] == ""
    assert all(row["label"] == row["probability fine"] == "" and len(row["error"]) > 10 for row in rows[5:])


def test_no_image_is_kept(http: Any, model: str) -> None:
    batch = begin(http, model, FILES)
    take(http, batch, FILES)
    archive = http.post(f"{model}/batches/zip", files=as_form({"new.zip": make_zip(FILES)})).json()
    ended(http, f"{API}/batches/{archive['id']}")
    root = http.app.state.parts.settings.data_dir
    assert list((root / "scratch").iterdir()) == []
    for identifier in (batch.rpartition("/")[2], archive["id"]):
        assert {path.name for path in (root / "batches" / identifier).iterdir()} == {"batch.json", "rows.jsonl"}


def test_what_was_sent_before_a_break_is_not_classified_again(http: Any, model: str) -> None:
    batch = begin(http, model, FILES)
    before = take(http, batch, some(FILES, 0, 2))["items"]
    places = http.post(f"{batch}/places", json=announced(FILES | {"new/other.png": b"x"})).json()["items"]
    assert [place and place["done"] for place in places] == [True, True, False, False, False, None]
    again = take(http, batch, some(FILES, 0, 3))  # the answer was lost, so the same files come once more
    assert [item["file"] for item in again["items"]] == ["new/2.png"]
    assert again["batch"]["done"] == 3
    take(http, batch, some(FILES, 3, 5))
    rows = http.get(f"{batch}/rows").json()["items"]
    assert rows[:2] == before and len(rows) == 5


def test_two_files_of_one_name_and_size_are_two(http: Any, model: str) -> None:
    image = png(1)
    twice = {"files": [{"name": "a.png", "size": len(image)}] * 2}
    batch = f"{API}/batches/{http.post(f'{model}/batches', json=twice).json()['id']}"
    form = [("files", ("a.png", image, "image/png"))] * 2
    answer = http.post(f"{batch}/files", files=form).json()
    assert [item["number"] for item in answer["items"]] == [0, 1] and answer["batch"]["state"] == "done"


def test_names_that_a_form_spells_otherwise_are_found(http: Any, model: str) -> None:
    odd = {'say "ah".png': png(1), "per%22cent.png": png(2), "naïve ü.png": png(3)}
    batch = begin(http, model, odd)
    assert take(http, batch, odd)["batch"]["state"] == "done"


def test_a_zip_is_worked_through_in_the_background(http: Any, model: str) -> None:
    files = {f"study/a/{index}.png": png(index) for index in range(20)} | {"study/b/x.png": b"no image"}
    answer = http.post(f"{model}/batches/zip", files=as_form({"study.zip": make_zip(files)}))
    assert answer.status_code == 201 and answer.json()["total"] == 21
    found = ended(http, f"{API}/batches/{answer.json()['id']}")
    assert (found["state"], found["done"], found["unreadable"]) == ("done", 21, 1)


def test_a_data_set_that_is_here_is_classified_by_its_number(http: Any, copied: Studio, model: str) -> None:
    dataset = http.get(f"{API}/datasets").json()["items"][0]
    answer = http.post(f"{model}/batches", json={"dataset_id": dataset["id"]})
    found = ended(http, f"{API}/batches/{answer.json()['id']}")
    assert (found["state"], found["kind"], found["done"]) == ("done", "dataset", dataset["images"])
    gone = copied.ready({name: data[:-1] + b"\0" for name, data in study(8, start=300).items()})["id"]
    batch = http.post(f"{model}/batches", json={"dataset_id": gone})
    assert batch.status_code == 201
    ended(http, f"{API}/batches/{batch.json()['id']}")
    assert http.delete(f"{API}/datasets/{gone}").status_code == 204
    assert_problem(http.post(f"{model}/batches", json={"dataset_id": gone}), 404, "data-set-not-found")


def test_images_of_one_patient_are_put_together(http: Any, model: str) -> None:
    files = {f"{who}/{index}.dcm": dicom(who, "X^Y", index) for who in ("901", "902") for index in range(3)}
    batch = begin(http, model, files | FILES)
    found = take(http, batch, files | FILES)["batch"]
    assert (found["patients"], found["several"], found["patient_rule"]) == (2, True, "mean")
    rows = [row for row in table(http, batch) if row["patient"]]
    answer = http.get(f"{batch}/patients").json()
    assert answer["total"] == 2 and answer["rule"] == "mean"
    for patient, line in zip(answer["items"], table(http, batch, "/patients.csv"), strict=True):
        own = [float(row["probability fine"]) for row in rows if row["patient"] == patient["patient"]]
        assert len(own) == patient["images"] == int(line["images"]) == 3
        assert patient["probabilities"]["fine"] == pytest.approx(sum(own) / 3, abs=1e-5)
        assert line["put together by"] == "mean" and line["patient"] == patient["patient"]


def test_nothing_that_is_written_names_a_patient(http: Any, model: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    names = {
        "Mueller_Anna/Mueller_Anna_20260214.dcm": dicom("HOSP-778899", "Mueller^Anna", 1),
        "series/HOSP-778899.dcm": dicom("HOSP-778899", "Mueller^Anna", 2),
        "series/ACCHOSP-778899.dcm": dicom("HOSP-778899", "Mueller^Anna", 3)[:-200],
    }
    batch = begin(http, model, names)
    answers = [take(http, batch, names)]
    answers += [http.get(f"{batch}{end}").text for end in ("", "/rows", ".csv", "/patients", "/patients.csv")]
    archive = http.post(f"{model}/batches/zip", files=as_form({"Mueller_Anna.zip": make_zip(names)})).json()
    zipped = f"{API}/batches/{archive['id']}"
    ended(http, zipped)
    answers += [http.get(f"{zipped}{end}").text for end in ("", "/rows", ".csv")]
    written = everything_written(http.app.state.parts.settings.data_dir / "batches")
    said = json.dumps(answers) + caplog.text
    for secret in ("Mueller", "Anna", "778899", "20260214"):
        assert secret not in said
        assert secret.encode() not in written
    assert "folder_" in answers[3] and "image_" in answers[3]


def test_a_batch_can_be_cancelled_and_deleted(http: Any, model: str) -> None:
    batch = begin(http, model, FILES)
    take(http, batch, some(FILES, 0, 2))
    assert http.post(f"{batch}/cancel").json()["state"] == "cancelled"
    assert_problem(http.post(f"{batch}/files", files=as_form(some(FILES, 2, 3))), 409, "batch-not-receiving")
    assert len(table(http, batch)) == 2
    assert http.post(f"{batch}/cancel").json()["state"] == "cancelled"
    assert batch.rpartition("/")[2] in {item["id"] for item in http.get(f"{API}/batches").json()["items"]}
    assert http.delete(batch).status_code == 204
    assert_problem(http.get(batch), 404, "batch-not-found")
    assert_problem(http.delete(batch), 404, "batch-not-found")
    assert not (http.app.state.parts.settings.data_dir / "batches" / batch.rpartition("/")[2]).exists()


def test_wrong_input_is_answered_in_a_plain_sentence(http: Any, model: str) -> None:
    def order(**body: Any) -> Any:
        return http.post(f"{model}/batches", json=body)

    assert_problem(order(), 422, "batch-of-what")
    assert_problem(order(files=[], dataset_id="x"), 422, "batch-of-what")
    assert_problem(order(files=[]), 422, "empty-upload")
    assert_problem(order(dataset_id="x"), 404, "data-set-not-found")
    assert_problem(order(files=[{"name": "../x.png", "size": 1}]), 422, "unsafe-name")
    assert_problem(order(files=[{"name": "x.png", "size": -1}]), 422, "field-invalid")
    surrogate = b'{"files": [{"name": "\\ud800.png", "size": 1}]}'
    headers = {"content-type": "application/json"}
    for body in (surrogate, b'{"dataset_id": "\\ud800"}'):
        assert_problem(http.post(f"{model}/batches", content=body, headers=headers), 422, "field-invalid")
    assert_problem(http.post(f"{API}/models/none/batches", json=announced(FILES)), 404, "model-not-found")

    def zipped(**files: bytes) -> Any:
        return http.post(f"{model}/batches/zip", files=as_form({n.replace("_", "."): d for n, d in files.items()}))

    assert_problem(zipped(a_zip=b"PK no zip"), 422, "zip-damaged")
    assert_problem(zipped(a_zip=make_zip({".hidden": b"x"})), 422, "empty-upload")
    assert_problem(zipped(a_png=png(1)), 422, "one-zip")
    assert_problem(http.post(f"{model}/batches/zip"), 415, "not-multipart")

    for name in ("none", "..", "0123456789ab", "%2e%2e%2fmodels"):
        assert http.get(f"{API}/batches/{name}").status_code == 404
        assert http.get(f"{API}/batches/{name}.csv").status_code == 404
    batch = begin(http, model, FILES)
    assert_problem(http.post(f"{batch}/files", files=as_form({"other.png": png(1)})), 422, "file-not-announced")
    assert_problem(http.post(f"{batch}/places", content=surrogate, headers=headers), 422, "field-invalid")
    assert_problem(http.get(f"{batch}/rows?limit=0"), 422, "field-invalid")
    assert http.get(batch).json()["done"] == 0


def test_two_requests_for_the_same_files_leave_one_row_each(http: Any, model: str) -> None:
    batch = begin(http, model, FILES)
    statuses = []
    twice = some(FILES, 0, 4)  # one is left over, so that neither request finds the batch ended

    def send() -> None:
        statuses.append(http.post(f"{batch}/files", files=as_form(twice)).status_code)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200, 200]
    assert [row["number"] for row in http.get(f"{batch}/rows").json()["items"]] == list(range(4))


def test_a_batch_whose_model_is_judged_by_another_rule_meanwhile_is_not_mixed(http: Any, model: str) -> None:
    batch = begin(http, model, FILES)
    take(http, batch, some(FILES, 0, 2))
    parts = http.app.state.parts
    record = parts.batches.get(batch.rpartition("/")[2])
    record.order.threshold = [0.123]
    assert_problem(http.post(f"{batch}/files", files=as_form(some(FILES, 2, 5))), 409, "model-changed")
    assert len(table(http, batch)) == 2


def test_a_server_that_starts_again_goes_on_and_loses_no_row(copied: Studio, model: str, tmp_path: Path) -> None:
    http = copied.http
    files = {f"{index}.png": png(index) for index in range(6)}
    open_batch = begin(http, model, FILES)
    take(http, open_batch, some(FILES, 0, 3))
    zipped = http.post(f"{model}/batches/zip", files=as_form({"a.zip": make_zip(files)})).json()["id"]
    ended(http, f"{API}/batches/{zipped}")
    folder = tmp_path / "data"
    source = http.app.state.parts.settings.data_dir
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.lock"))
    # As a killed server leaves it: half of the zip done, and half a line behind the last row.
    batch = folder / "batches" / zipped
    order = json.loads((batch / "batch.json").read_text())
    (batch / "batch.json").write_text(json.dumps(order | {"state": "running"}))
    (batch / "images.zip").write_bytes(make_zip(files))
    lines = (batch / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (batch / "rows.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])
    with serve(settings_for(folder)) as client:
        found = ended(client, f"{API}/batches/{zipped}")
        assert (found["state"], found["done"]) == ("done", 6)
        rows = client.get(f"{API}/batches/{zipped}/rows").json()["items"]
        assert [row["number"] for row in rows] == list(range(6))
        assert client.get(open_batch).json()["done"] == 3
        assert take(client, open_batch, FILES)["batch"]["state"] == "done"


def test_a_batch_without_its_model_says_so(copied: Studio, model: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(copied.http.app.state.parts.settings.data_dir, folder, ignore=shutil.ignore_patterns("*.lock"))
    with serve(settings_for(folder)) as client:
        batch = begin(client, model, FILES)
        take(client, batch, some(FILES, 0, 2))
        assert client.delete(model).status_code == 204
        assert_problem(client.post(f"{batch}/files", files=as_form(some(FILES, 2, 3))), 404, "model-not-found")
        assert len(table(client, batch)) == 2


def test_batches_go_after_some_days(http: Any, model: str) -> None:
    old, fresh = begin(http, model, FILES), begin(http, model, FILES)
    batches = http.app.state.parts.batches
    folder = batches.get(old.rpartition("/")[2]).folder
    append_lines(folder / "rows.jsonl", [])
    long_ago = (KEPT + timedelta(hours=1)).total_seconds()
    for path in folder.iterdir():
        os.utime(path, (path.stat().st_mtime - long_ago,) * 2)
    batches.sweep()
    assert http.get(old).status_code == 404 and http.get(fresh).status_code == 200


def test_a_data_set_says_which_formats_it_holds(http: Any) -> None:
    assert http.get(f"{API}/datasets").json()["items"][-1]["formats"] == ["PNG"]
