"""Data sets over HTTP: whole, in batches, at once, twice, as a zip, looked at, deleted."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from backend.settings import Settings
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


def stored(settings: Settings, kind: str) -> list[Path]:
    return sorted((settings.data_dir / kind).iterdir())


def test_a_folder_becomes_a_data_set_with_its_classes_and_name(studio: Studio) -> None:
    found = studio.ready(study(5))
    assert found["name"] == "study"
    assert found["layout"] == "class-folders"
    assert found["classes"] == [{"name": "coarse", "count": 5}, {"name": "fine", "count": 5}]
    assert (found["images"], found["passed_over"], found["error"], found["progress"]) == (10, 0, None, None)
    assert [item["id"] for item in studio.http.get(f"{API}/datasets").json()["items"]] == [found["id"]]


def test_batches_make_one_data_set(studio: Studio) -> None:
    files = list(study(6).items())
    begun = studio.http.post(f"{API}/datasets", files=as_form(dict(files[:4])), data={"finish": "false"})
    assert begun.status_code == 201
    dataset_id = begun.json()["id"]
    assert begun.json()["status"] == "receiving"
    for start in (4, 8):
        added = studio.http.post(f"{API}/datasets/{dataset_id}/files", files=as_form(dict(files[start : start + 4])))
        assert added.status_code == 200, added.text
    finished = studio.http.post(f"{API}/datasets/{dataset_id}/finish")
    assert finished.status_code == 202
    assert studio.checked(dataset_id)["images"] == 12
    assert_problem(studio.http.post(f"{API}/datasets/{dataset_id}/finish"), 409, "dataset-not-receiving")
    late = studio.http.post(f"{API}/datasets/{dataset_id}/files", files=as_form(dict(files[:1])))
    assert_problem(late, 409, "dataset-not-receiving")


def test_a_batch_is_kept_whole_or_not_at_all(studio: Studio) -> None:
    files = list(study(5).items())
    dataset_id = studio.upload(dict(files[:2]), finish="false").json()["id"]
    again = studio.http.post(f"{API}/datasets/{dataset_id}/files", files=as_form(dict(files[1:])))
    assert assert_problem(again, 409, "file-twice")["seen"] == files[1][0]
    # Nothing of the refused batch stayed, so the rest of it can be sent.
    assert studio.http.post(f"{API}/datasets/{dataset_id}/files", files=as_form(dict(files[2:]))).status_code == 200
    studio.http.post(f"{API}/datasets/{dataset_id}/finish")
    assert studio.checked(dataset_id)["images"] == 10


def test_more_files_than_a_form_parser_usually_takes(studio: Studio) -> None:
    image = png(0)
    files = {f"many/{'ab'[index % 2]}/{index}.png": image for index in range(1200)}
    answer = studio.upload(files)
    assert answer.status_code == 201, answer.text
    assert answer.json()["images"] == 1200
    assert studio.http.delete(f"{API}/datasets/{answer.json()['id']}").status_code == 204


def test_the_same_folder_again_answers_with_the_first(studio: Studio, settings: Settings) -> None:
    first = studio.ready(study(5))
    renamed = {name.replace("study/", "copy of study/"): data for name, data in study(5).items()}
    problem = assert_problem(studio.upload(renamed), 409, "dataset-exists")
    assert problem["existing"] == first["id"]
    assert [folder.name for folder in stored(settings, "datasets")] == [first["id"]]
    assert stored(settings, "staging") == []


def test_two_uploads_of_one_folder_at_once_never_mix(studio: Studio, settings: Settings) -> None:
    files = list(study(6).items())

    def upload(_: int) -> int:
        dataset_id = studio.upload(dict(files[:5]), finish="false").json()["id"]
        added = studio.http.post(f"{API}/datasets/{dataset_id}/files", files=as_form(dict(files[5:])))
        assert added.status_code == 200, added.text
        return int(studio.http.post(f"{API}/datasets/{dataset_id}/finish").status_code)

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(upload, range(2))) == [202, 409]
    items = studio.http.get(f"{API}/datasets").json()["items"]
    assert len(items) == 1
    assert studio.checked(items[0]["id"])["images"] == 12
    assert len(stored(settings, "datasets")) == 1


def test_other_data_of_the_same_name_gets_a_name_of_its_own(studio: Studio) -> None:
    assert studio.ready(study(5))["name"] == "study"
    assert studio.ready(study(5, start=100))["name"] == "study (2)"
    assert studio.ready(study(5, start=200), name="Chest  films\n")["name"] == "Chest films"


def test_a_zip_is_read_through_its_wrapping_folder_and_kept_as_a_folder(studio: Studio, settings: Settings) -> None:
    found = studio.ready({"films.zip": make_zip(study(5) | {"__MACOSX/study/._x.png": b"noise"})})
    assert (found["name"], found["images"], found["passed_over"]) == ("films", 10, 0)
    kept = settings.data_dir / "datasets" / found["id"] / "clean"
    assert sorted(path.name for path in kept.iterdir() if path.is_dir()) == ["coarse", "fine"]
    page = studio.http.get(f"{API}/datasets/{found['id']}/images", params={"limit": 1}).json()
    assert studio.http.get(page["items"][0]["url"]).status_code == 200


def test_a_table_inside_the_upload_gives_the_labels(studio: Studio) -> None:
    images = {f"scans/{index}.png": png(index) for index in range(8)}
    rows = [f"{index}.png,{'sick' if index % 2 else 'well'},p{index}" for index in range(8)]
    table = {"scans/tables/truth.csv": "\n".join(["file,label,patient", *rows]).encode()}
    found = studio.ready(images | table, labels="scans/tables/truth.csv")
    assert found["layout"] == "csv"
    assert found["classes"] == [{"name": "sick", "count": 4}, {"name": "well", "count": 4}]
    report = studio.http.get(f"{API}/datasets/{found['id']}/report").json()
    assert report["patients"] == 8
    zipped = {"scans.zip": make_zip({f"scans/{name}": data for name, data in study(4).items()} | images | table)}
    assert studio.ready(zipped, labels="scans/tables/truth.csv")["layout"] == "csv"


def test_labels_never_name_a_file_of_the_server(studio: Studio, settings: Settings) -> None:
    settings.data_dir.joinpath("secret.csv").write_text("file,label\n")
    for name in ("../../secret.csv", str(settings.data_dir / "secret.csv")):
        assert_problem(studio.upload(study(5), labels=name), 422, "unsafe-name")
    assert_problem(studio.upload(study(5), labels="pyproject.toml"), 422, "labels-missing")


def test_the_page_of_images_names_class_side_and_thumbnail(studio: Studio) -> None:
    found = studio.ready(study(10))
    base = f"{API}/datasets/{found['id']}/images"
    page = studio.http.get(base, params={"cls": "fine", "limit": 4, "offset": 8}).json()
    assert page["total"] == 10
    assert [item["label"] for item in page["items"]] == ["fine", "fine"]
    everything = studio.http.get(base, params={"limit": 100}).json()["items"]
    assert {item["split"] for item in everything} == {"train", "val", "test"}
    assert_problem(studio.http.get(base, params={"cls": "other"}), 422, "class-not-found")
    assert_problem(studio.http.get(base, params={"limit": 0}), 422, "field-invalid")


def test_a_thumbnail_is_the_whole_image_on_black_and_nothing_else(studio: Studio) -> None:
    wide = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "PATIENT SECRET"
    Image.new("RGB", (200, 100), "white").save(wide, "JPEG", exif=exif)
    found = studio.ready(study(5) | {"study/fine/a_wide.jpg": wide.getvalue()})
    items = studio.http.get(f"{API}/datasets/{found['id']}/images", params={"limit": 100}).json()["items"]
    url = next(item["url"] for item in items if item["file"].endswith("a_wide.jpg"))
    answer = studio.http.get(url)
    assert answer.headers["content-type"] == "image/jpeg"
    assert b"SECRET" not in answer.content
    picture = Image.open(io.BytesIO(answer.content)).convert("RGB")
    assert picture.size == (200, 200)  # nothing is enlarged
    assert max(picture.getpixel((100, 20))) < 20 and min(picture.getpixel((100, 100))) > 235
    assert studio.http.get(url).content == answer.content
    assert_problem(studio.http.get(f"{API}/datasets/{found['id']}/images/99/thumbnail"), 404, "image-not-found")


def test_images_asked_for_while_their_data_set_is_deleted_are_answered_or_not_found(studio: Studio) -> None:
    for _ in range(3):
        found = studio.ready(study(20))
        items = studio.http.get(f"{API}/datasets/{found['id']}/images", params={"limit": 100}).json()["items"]
        asked = [item["url"] for item in items]
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(studio.http.get, url) for url in asked]
            wait_until(lambda answers=answers: sum(answer.done() for answer in answers) > 4)
            assert studio.http.delete(f"{API}/datasets/{found['id']}").status_code == 204
            answers += [pool.submit(studio.http.get, asked[0])]
            codes = [answer.result().status_code for answer in answers]
        assert set(codes) == {200, 404}


def test_the_report_says_what_was_passed_over_and_follows_the_seed(studio: Studio) -> None:
    found = studio.ready(study(8) | {"study/fine/notes.txt": b"hello"})
    base = f"{API}/datasets/{found['id']}/report"
    report = studio.http.get(base).json()
    assert report["passed_over"]["list"][0]["file"] == "fine/notes.txt"
    assert sum(side["images"] for side in report["splits"].values()) == 16
    assert studio.http.get(base, params={"seed": 1}).status_code == 200


def test_deleting_removes_row_and_files(studio: Studio, settings: Settings) -> None:
    found = studio.ready(study(5))
    assert studio.http.delete(f"{API}/datasets/{found['id']}").status_code == 204
    assert stored(settings, "datasets") == []
    assert_problem(studio.http.get(f"{API}/datasets/{found['id']}"), 404, "data-set-not-found")
    assert_problem(studio.http.delete(f"{API}/datasets/{found['id']}"), 404, "data-set-not-found")
    # What is deleted is no duplicate any more.
    assert studio.ready(study(5))["id"] != found["id"]


def test_an_upload_that_was_begun_can_be_dropped(studio: Studio, settings: Settings) -> None:
    dataset_id = studio.upload(study(2), finish="false").json()["id"]
    assert_problem(studio.http.get(f"{API}/datasets/{dataset_id}/report"), 409, "dataset-not-ready")
    assert studio.http.delete(f"{API}/datasets/{dataset_id}").status_code == 204
    assert stored(settings, "staging") == []


def test_an_upload_and_a_check_outlive_the_server(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    files = list(study(40).items())
    with serve(settings) as client:
        receiving = Studio(client).upload(dict(files[:10]), finish="false").json()["id"]
        checking = Studio(client).upload(study(60, start=500)).json()["id"]
    with serve(settings) as client:
        studio = Studio(client)
        assert studio.checked(checking)["images"] == 120
        added = studio.http.post(f"{API}/datasets/{receiving}/files", files=as_form(dict(files[10:])))
        assert added.status_code == 200
        studio.http.post(f"{API}/datasets/{receiving}/finish")
        assert studio.checked(receiving)["images"] == 80


def test_progress_is_shown_while_images_are_checked(studio: Studio) -> None:
    dataset_id = studio.upload(study(100)).json()["id"]

    def seen() -> bool:
        found = studio.dataset(dataset_id)
        progress = found["progress"]
        assert found["status"] == "ready" or (progress["total"] == 200 and 0 <= progress["done"] <= 200)
        return bool(found["status"] == "ready")

    wait_until(seen)


def test_a_table_can_stand_beside_the_zip_it_labels(studio: Studio) -> None:
    images = {f"{index}.png": png(index) for index in range(8)}
    rows = [f"{index}.png,{'sick' if index % 2 else 'well'}" for index in range(8)]
    table = "\n".join(["file,label", *rows]).encode()
    found = studio.ready({"films.zip": make_zip(images), "truth.csv": table}, labels="truth.csv")
    assert (found["layout"], found["images"]) == ("csv", 8)


def test_a_data_set_can_be_deleted_while_it_is_checked(studio: Studio, settings: Settings) -> None:
    dataset_id = studio.upload(study(150)).json()["id"]
    assert studio.http.delete(f"{API}/datasets/{dataset_id}").status_code == 204
    # The check of the next one begins only when that of the deleted one has ended.
    assert studio.ready(study(5))["images"] == 10
    assert len(stored(settings, "datasets")) == 1
