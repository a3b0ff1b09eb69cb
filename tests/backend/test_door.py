"""De-identification at the door: what is kept of an upload, under which names, and what a killed server leaves."""

from __future__ import annotations

import errno
import io
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pydicom
import pytest

from backend import intake as intake_module
from backend.db import Dataset
from backend.door import holds_raw, remove_raw
from backend.labelling import preview_mapping
from backend.settings import Settings
from tests.backend.support import API, Server, Studio, assert_problem, jpeg, make_zip, png, serve, study, wait_until
from tests.backend.test_no_identifier_is_written import MRN, as_csv, dicom, raster
from tests.backend.tus.support import Sender, packed
from tests.wara.data.test_grids import workbook
from wara.data.kept import Kept
from wara.data.sources import KEPT_FILE


def folder_of(settings: Settings, dataset: dict[str, Any]) -> Path:
    return settings.data_dir / "datasets" / dataset["id"]


def clean_files(settings: Settings, dataset: dict[str, Any]) -> dict[str, bytes]:
    folder = folder_of(settings, dataset)
    wait_until(lambda: not holds_raw(folder))
    return {path.relative_to(folder / "clean").as_posix(): path.read_bytes()
            for path in sorted((folder / "clean").rglob("*")) if path.is_file() and path.name != KEPT_FILE}  # fmt: skip


def catalogue(settings: Settings, dataset: dict[str, Any]) -> dict[str, Any]:
    return json.loads((folder_of(settings, dataset) / "catalogue.json").read_text())


def put(studio: Studio, dataset: dict[str, Any], **mapping: Any) -> Any:
    return studio.http.put(f"{API}/datasets/{dataset['id']}/mapping", json=mapping)


def scans(count: int = 6, **values: Any) -> dict[str, bytes]:
    return {f"s/{name}/{n}.dcm": dicom(n + 50 * (name == "b"), coarse=name == "a", **values)
            for name in "ab" for n in range(count)}  # fmt: skip


def test_what_is_clean_already_is_kept_byte_for_byte_and_what_came_is_gone(studio: Studio, settings: Settings) -> None:
    found = studio.ready(study(5))
    assert clean_files(settings, found) == {name.removeprefix("study/"): data for name, data in study(5).items()}
    assert not any((folder_of(settings, found) / name).exists() for name in ("files", "labels", "manifest.jsonl"))


def test_a_zip_becomes_a_folder_of_clean_files(studio: Studio, settings: Settings) -> None:
    files = {name: raster(n, coarse="coarse" in name) for n, name in enumerate(study(5))}
    found = studio.ready({"films.zip": make_zip(files)})
    kept = clean_files(settings, found)
    assert sorted(kept) == sorted(name.removeprefix("study/") for name in files)
    assert not any(b"Plantagenet" in data for data in kept.values())


def test_names_in_a_zip_that_no_disk_holds_get_others(studio: Studio, settings: Settings) -> None:
    names = [f"a/{'x' * 300}.png", "a/con.png", "b", "b/1.png", "a/1\n2.png"]
    files = {name: png(n) for n, name in enumerate(names)} | {f"b/{n}.png": png(90 + n) for n in range(2, 9)}
    files |= {f"a/{n}.png": png(50 + n) for n in range(2, 9)}
    found = studio.ready({"odd.zip": make_zip(files)})
    kept = clean_files(settings, found)
    assert sorted(kept.values()) == sorted(files.values())
    listed = catalogue(settings, found)["items"]
    assert {item["file"] for item in listed} <= set(kept) and len(listed) == found["images"]


def test_what_is_no_image_is_a_name_and_a_reason(studio: Studio, settings: Settings) -> None:
    found = studio.ready(study(5) | {"study/fine/text.png": b"who was here", "study/notes.docx": b"who"})
    assert len(clean_files(settings, found)) == 10
    assert [entry["file"] for entry in catalogue(settings, found)["passed_over"]] == ["fine/text.png", "notes.docx"]


def test_a_folder_that_one_header_tells_of_is_coded_for_the_files_beside_it(
    studio: Studio, settings: Settings
) -> None:
    files = study(5) | {"study/fine/Eleanora/0.png": png(70), "study/fine/Eleanora/0.txt": b"x"}
    files |= {"study/fine/Eleanora/1.dcm": dicom(1, coarse=True), f"study/fine/{MRN.format(1)}.png": png(71)}
    found = studio.ready(files)
    names = [name for name in clean_files(settings, found) if name not in {n.removeprefix("study/") for n in study(5)}]
    first, second, third = sorted(names)
    assert re.fullmatch(r"fine/folder_[0-9a-f]{12}/0\.png", first) and second == first.replace("0.png", "1.dcm")
    assert re.fullmatch(r"fine/image_[0-9a-f]{12}\.png", third)
    assert [entry["file"] for entry in catalogue(settings, found)["passed_over"]] == [first.replace("png", "txt")]


def test_a_class_is_not_coded_because_somebody_is_called_like_it(studio: Studio, settings: Settings) -> None:
    files = {name.replace("s/a/", "s/Plantagenet/"): data for name, data in scans().items()}
    assert [entry["name"] for entry in studio.ready(files)["classes"]] == ["b", "Plantagenet"]


def test_patients_and_digests_are_those_of_what_is_kept(studio: Studio, settings: Settings) -> None:
    found = studio.ready(scans())
    before = catalogue(settings, found)
    kept = clean_files(settings, found)
    again = studio.ready({f"t/{name}": data for name, data in kept.items()})  # cleaned files are files like any
    after = catalogue(settings, again)
    assert [item["patient"] for item in after["items"]] == [item["patient"] for item in before["items"]]
    put(studio, found, source="folders")
    assert studio.checked(found["id"])["status"] == "ready"
    assert catalogue(settings, found) == before


@pytest.mark.parametrize(("band", "age"), [("", None), ("5", "065Y"), ("10", "060Y")])
def test_sex_and_age_are_kept_only_where_that_was_agreed(
    studio: Studio, settings: Settings, band: str, age: str | None
) -> None:
    found = studio.ready(scans(PatientSex="F"), age_band=band)
    headers = [pydicom.dcmread(io.BytesIO(data)) for data in clean_files(settings, found).values()]
    assert {header.get("PatientAge") for header in headers} == {age}
    assert {header.PatientSex for header in headers} == {"F" if band else ""}


def test_the_agreement_may_come_with_a_resumable_upload(studio: Studio, settings: Settings) -> None:
    sender = Sender(studio, settings.data_dir)
    dataset = sender.dataset(age_band="10")
    assert_problem(sender.begin(dataset, 10, age_band="7"), 422, "age-band")
    sender.send(dataset, packed(study(5)), age_band="5")
    row = studio.http.app.state.parts.database
    with row.session() as session:
        assert session.get_one(Dataset, dataset).age_band == 5


def test_the_same_upload_under_another_agreement_is_told_what_the_first_one_kept(studio: Studio) -> None:
    first = studio.ready(study(5))
    problem = assert_problem(studio.upload(study(5), age_band="5"), 409, "dataset-exists")
    assert problem["remedy"].endswith(
        "It was taken in without sex and age; to have it with sex and ages in bands of 5 years, delete it and upload "
        "it again."
    )
    studio.http.delete(f"{API}/datasets/{first['id']}")
    studio.ready(study(5), age_band="5")
    problem = assert_problem(studio.upload(study(5)), 409, "dataset-exists")
    assert "It was taken in with sex and ages in bands of 5 years; to have it without" in problem["remedy"]


def test_a_width_of_ages_that_is_not_offered_is_refused_and_nothing_is_kept(studio: Studio) -> None:
    assert_problem(studio.upload(study(2), age_band="7"), 422, "age-band")
    assert studio.http.get(f"{API}/datasets").json()["items"] == []


@pytest.mark.parametrize("band", ["", "10"])
def test_sex_and_age_of_a_table_go_the_same_way(studio: Studio, settings: Settings, band: str) -> None:
    rows = ["file,label,patient,sex,age,ward", *(f"{n}.png,{'ab'[n % 2]},p{n},M,{30 + n},W{n}" for n in range(12))]
    files = {f"s/{n}.png": png(n) for n in range(12)} | {"s/labels.csv": "\n".join(rows).encode()}
    found = studio.ready(files, age_band=band)
    items = catalogue(settings, found)["items"]
    assert {(item["sex"], item["age"]) for item in items} == ({("M", 30.0), ("M", 40.0)} if band else {(None, None)})
    table = clean_files(settings, found)["labels.csv"].decode()
    assert table.splitlines()[0] == ("file,label,patient,sex,age" if band else "file,label,patient")


@pytest.mark.parametrize("band", ["", "10"])
def test_sex_and_age_of_a_mapped_table_go_the_same_way(studio: Studio, settings: Settings, band: str) -> None:
    rows = ["Scan;Diagnosis;MRN;Gender;Age", *(f"{n}.png;{'ab'[n % 2]};{n};f;{30 + n}" for n in range(12))]
    files = {f"s/{n}.png": png(n) for n in range(12)} | {"s/list.csv": "\n".join(rows).encode()}
    found = studio.upload(files, age_band=band).json()
    columns = {"file": "Scan", "label": "Diagnosis", "patient": "MRN"}
    for _ in range(2):  # what came, then what is kept of it
        assert put(studio, found, source="table", table="list.csv", columns=columns).status_code == 202
        assert studio.checked(found["id"])["status"] == "ready"
        items = catalogue(settings, found)["items"]
        assert {(item["sex"], item["age"]) for item in items} == (
            {("f", 30.0), ("f", 40.0)} if band else {(None, None)}
        )
    assert catalogue(settings, found)["from_table"] == (["sex", "age"] if band else [])


def test_a_finer_label_of_the_table_stays_and_can_be_chosen_later(studio: Studio, settings: Settings) -> None:
    rows = [["Scan", "Diagnosis", "subtype", "MRN", "Name", "site"]]
    rows += [[f"s{n}.png", "xy"[n % 2], ["p", "q", "r"][n % 3], 4000 + n, "Plantagenet", n % 9] for n in range(24)]
    files = {f"ward/images/s{n}.png": png(n) for n in range(24)} | {"ward/list.xlsx": workbook(all=rows)}
    found = studio.upload({"ward.zip": make_zip(files)}).json()
    columns = {"file": "Scan", "label": "Diagnosis", "patient": "MRN"}
    assert put(studio, found, source="table", table="list.xlsx", columns=columns).status_code == 202
    studio.checked(found["id"])
    kept = clean_files(settings, found)
    assert kept["list.csv"].decode().splitlines()[0] == "Scan,Diagnosis,MRN,subtype"
    finer = {**columns, "label": "subtype"}
    assert put(studio, found, source="table", table="list.csv", columns=finer).status_code == 202
    assert [entry["name"] for entry in studio.checked(found["id"])["classes"]] == ["p", "q", "r"]
    assert studio.http.get(f"{API}/datasets/{found['id']}/report").json()["patients"] == 24
    gone = {**columns, "label": "Name"}
    problem = assert_problem(put(studio, found, source="table", table="list.csv", columns=gone), 422,
                             "csv-column-missing")  # fmt: skip
    assert "removed" in problem["title"] and studio.dataset(found["id"])["status"] == "ready"


def test_a_label_of_a_header_that_is_not_kept_can_be_used_again_and_no_other(
    studio: Studio, settings: Settings
) -> None:
    files = {}
    for n in range(12):
        header = {"SeriesDescription": "xy"[n % 2], "StudyDescription": "secret", "AccessionNumber": f"ACC-{n // 2}"}
        files[f"s/{MRN.format(n)}.dcm"] = dicom(n, coarse=True, **header)
    found = studio.upload(files).json()
    assert found["status"] == "mapping"
    mapping = {"source": "dicom", "label_tag": "SeriesDescription", "patient_tag": "AccessionNumber"}
    assert put(studio, found, **mapping).status_code == 202
    ready = studio.checked(found["id"])
    assert [(entry["name"], entry["count"]) for entry in ready["classes"]] == [("x", 6), ("y", 6)]
    assert not any(b"secret" in data or b"Plantagenet" in data for data in clean_files(settings, found).values())
    assert put(studio, found, **mapping, rename={"x": "left"}).status_code == 202
    again = studio.checked(found["id"])
    assert [entry["name"] for entry in again["classes"]] == ["left", "y"]
    assert len({item["patient"] for item in catalogue(settings, found)["items"]}) == 6
    problem = assert_problem(put(studio, found, source="dicom", label_tag="StudyDescription"), 422, "removed")
    assert "upload the images again" in problem["remedy"]


def test_a_person_can_say_first_where_labels_stand_though_folders_name_classes(studio: Studio) -> None:
    files = {name: dicom(n, coarse=True, SeriesDescription="xy"[n % 2]) for n, name in enumerate(study(5))}
    found = studio.upload(files, ask="true").json()
    assert (found["status"], found["error"]["code"]) == ("mapping", "asked")
    assert put(studio, found, source="dicom", label_tag="SeriesDescription").status_code == 202
    assert [entry["name"] for entry in studio.checked(found["id"])["classes"]] == ["x", "y"]
    begun = studio.upload(study(5), finish="false").json()["id"]
    finished = studio.http.post(f"{API}/datasets/{begun}/finish", params={"ask": "true"})
    assert finished.json()["status"] == "mapping"


def test_a_disk_that_fills_up_in_the_check_costs_no_images(
    studio: Studio, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(intake_module, "settle_on_disk", full)
    dataset_id = studio.upload(study(5)).json()["id"]
    found = wait_until(lambda: (now := studio.dataset(dataset_id))["status"] == "mapping" and now)
    assert found["error"]["code"] == "disk-full"
    assert not (folder_of(settings, found) / "clean").exists()
    monkeypatch.undo()
    assert put(studio, found, source="folders").status_code == 202
    assert studio.checked(dataset_id)["images"] == 10


def test_a_pattern_over_names_that_are_codes_now_can_be_used_again(studio: Studio, settings: Settings) -> None:
    files = {f"s/{MRN.format(n)}_{'xy'[n % 2]}.dcm": dicom(n, coarse=True) for n in range(12)}
    found = studio.upload(files).json()
    pattern = r"(?P<patient>\d+)_(?P<label>[xy])"
    assert put(studio, found, source="pattern", pattern=pattern).status_code == 202
    assert studio.checked(found["id"])["images"] == 12
    before = catalogue(settings, found)["items"]
    assert put(studio, found, source="pattern", pattern=pattern).status_code == 202
    assert studio.checked(found["id"])["status"] == "ready"
    assert catalogue(settings, found)["items"] == before
    problem = assert_problem(put(studio, found, source="pattern", pattern=r"(?P<label>[xy])\."), 422, "mapping-nothing")
    assert "is a code now" in problem["seen"]


def test_images_without_a_label_are_cleaned_too_and_another_mapping_can_take_them_in(
    studio: Studio, settings: Settings
) -> None:
    files = {f"s/{'xyz'[n % 3]}/{n}.jpg": jpeg(n) for n in range(18)}
    found = studio.upload(files | {"s/z/a.dcm": dicom(3, coarse=True)}).json()
    studio.checked(found["id"])
    found = studio.ready(files | {"s/z/b.dcm": dicom(4, coarse=True), "s/labels.csv": as_csv(
        [["file", "label"], *([name[2:], name[2]] for name in files if "z" not in name)])})  # fmt: skip
    assert found["images"] == 12 and b"Plantagenet" not in clean_files(settings, found)["z/b.dcm"]
    put(studio, found, source="folders")
    assert studio.checked(found["id"])["images"] == 19


def test_whoever_looks_while_the_check_ends_is_shown_what_is_kept(studio: Studio) -> None:
    intake = studio.http.app.state.parts.intake
    dataset_id = studio.upload(study(5)).json()["id"]
    with intake.database.session() as session:
        before = session.get_one(Dataset, dataset_id)
    studio.checked(dataset_id)
    wait_until(lambda: not holds_raw(intake.storage.folder("datasets", dataset_id)))
    before.source = "files"
    assert preview_mapping(intake, before, None)["used"] == 10


def test_a_later_check_that_goes_wrong_leaves_the_images(
    studio: Studio, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = studio.ready(study(5))

    def wrong(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(intake_module, "check", wrong)
    assert put(studio, found, source="folders").status_code == 202
    wait_until(lambda: studio.dataset(found["id"])["status"] == "mapping")
    monkeypatch.undo()
    assert put(studio, found, source="folders").status_code == 202
    assert studio.checked(found["id"])["images"] == 10


def test_a_check_that_begins_anew_starts_from_what_came(studio: Studio, settings: Settings) -> None:
    dataset_id = studio.upload({f"eyes/{'xy'[n % 2]}_{n}.png": png(n) for n in range(10)}).json()["id"]
    folder = settings.data_dir / "datasets" / dataset_id
    for name in ("clean", "kept"):  # as a killed server leaves them
        (folder / name).mkdir()
        (folder / name / "half.png").write_bytes(b"half")
    put(studio, {"id": dataset_id}, source="pattern", pattern="(?P<label>[xy])")
    assert studio.checked(dataset_id)["images"] == 10
    assert not list(folder.rglob("half.png"))


@pytest.mark.parametrize("left", ["files", "labels", "manifest.jsonl", "mapping.json", "refused.jsonl"])
def test_what_a_killed_server_did_not_take_away_is_taken_at_the_next_start(settings: Settings, left: str) -> None:
    with serve(settings) as client:
        found = Studio(client).ready(study(5))
        folder = folder_of(settings, found)
        wait_until(lambda: not holds_raw(folder))
    (folder / left).mkdir() if "." not in left else (folder / left).write_text("{}")
    with serve(settings) as client:
        wait_until(lambda: not holds_raw(folder))
        assert Studio(client).dataset(found["id"])["images"] == 10
        client.app.state.parts.intake.sweep()
    assert len(clean_files(settings, found)) == 10


def test_until_the_row_says_so_what_came_is_what_counts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the last written file and the row: everything clean is there, and everything that came."""
    monkeypatch.setattr(intake_module, "settle_on_disk", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with serve(settings) as client:
        dataset_id = Studio(client).upload(study(5)).json()["id"]
        folder = settings.data_dir / "datasets" / dataset_id
        wait_until(lambda: (folder / "catalogue.json").exists())
        assert (folder / "files").is_dir() and (folder / "clean").is_dir()
        assert Studio(client).dataset(dataset_id)["status"] == "checking"
    monkeypatch.undo()
    shutil.rmtree(folder / "clean" / "fine")  # whatever was lost of it is made again
    with serve(settings) as client:
        assert Studio(client).checked(dataset_id)["images"] == 10
        wait_until(lambda: not holds_raw(folder))
        assert len(list((folder / "clean" / "fine").iterdir())) == 5


def test_a_server_that_is_killed_in_the_middle_of_a_check_loses_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    server.folder.mkdir()
    files = {f"s/{'ab'[n % 2]}/{n}.dcm": dicom(n, coarse=bool(n % 2)) for n in range(400)}
    dataset_id = server.start().upload(files).json()["id"]
    folder = server.folder / "datasets" / dataset_id
    wait_until(lambda: list(folder.glob("clean/*/*.dcm")))
    server.stop(signal.SIGKILL)
    assert len(list(folder.glob("files/s/*/*.dcm"))) == 400
    try:
        studio = server.start()
        found = studio.checked(dataset_id)
        assert (found["status"], found["images"]) == ("ready", 400)
        wait_until(lambda: not holds_raw(folder))
        assert not any(b"Plantagenet" in path.read_bytes() for path in server.folder.rglob("*") if path.is_file())
        assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}
    finally:
        server.stop(signal.SIGKILL)


def test_only_what_came_is_removed(tmp_path: Path) -> None:
    for name in ("files", "labels", "clean", "kept"):
        (tmp_path / name).mkdir()
    for name in ("manifest.jsonl", "mapping.json", "catalogue.json", "decisions.json"):
        (tmp_path / name).touch()
    remove_raw(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalogue.json", "clean", "decisions.json", "kept"]


def test_a_folder_that_says_nonsense_of_itself_is_a_folder_like_any(tmp_path: Path) -> None:
    (tmp_path / KEPT_FILE).write_text('{"who": 1}')
    assert Kept.read(tmp_path) is None
