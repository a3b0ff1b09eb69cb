"""Models brought in over HTTP: the same answers, whose they are, and that a refused or killed one leaves nothing."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from backend.accounts.audit import Audit
from backend.db import Database, Job, Model
from backend.importing import drop_unlisted_models
from backend.settings import Settings
from backend.storage import Storage
from tests.backend.accounts.support import Ward, ward
from tests.backend.support import API, Studio, as_form, assert_problem, make_zip, png, serve, settings_for

IMAGES = {"new/one.png": png(1000), "new/two.png": png(1001, coarse=True)}


@pytest.fixture(scope="module")
def packed(trained: tuple[Studio, dict[str, Any]]) -> bytes:
    """The zip that a download gives."""
    studio, job = trained
    return studio.http.get(f"{API}/models/{job['model_id']}/download").content


def bring(studio: Studio, content: bytes, name: str = "model.zip") -> Any:
    return studio.http.post(f"{API}/models", files={"file": (name, content)})


def answers(studio: Studio, model_id: str) -> Any:
    return studio.http.post(f"{API}/models/{model_id}/predict", files=as_form(IMAGES)).json()["items"]


def without(packed: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return make_zip({entry: archive.read(entry) for entry in archive.namelist() if not entry.endswith(name)})


def kept(settings: Settings) -> list[str]:
    return [entry.name for kind in ("models", "scratch") for entry in (settings.data_dir / kind).iterdir()]


@pytest.fixture(scope="module")
def both(trained: tuple[Studio, dict[str, Any]], packed: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[
    tuple[Studio, dict[str, Any]]
]:  # fmt: skip
    """Another machine, on which the model was brought in."""
    with serve(settings_for(tmp_path_factory.mktemp("other") / "data")) as client:
        studio = Studio(client)
        answer = bring(studio, packed)
        assert answer.status_code == 201, answer.text
        yield studio, answer.json()


def test_it_answers_as_where_it_was_trained_to_the_last_digit(
    trained: tuple[Studio, dict[str, Any]], both: tuple[Studio, dict[str, Any]]
) -> None:
    (here, job), (there, model) = trained, both
    assert answers(there, model["id"]) == answers(here, job["model_id"])


def test_it_is_told_as_one_that_was_brought_in(
    trained: tuple[Studio, dict[str, Any]], both: tuple[Studio, dict[str, Any]]
) -> None:
    (here, job), (there, model) = trained, both
    original = here.http.get(f"{API}/models/{job['model_id']}").json()
    assert original["imported"] is None and model["imported"] is not None
    assert model["job_id"] is None and model["dataset_id"] is None and model["dataset_name"] == ""
    same = ("method", "backbone", "pretrained", "preset", "classes", "seed", "rank", "metrics", "trainable_parameters")
    assert {key: model[key] for key in same} == {key: original[key] for key in same}
    assert model["passed_over_count"] == 0
    [listed] = there.http.get(f"{API}/models").json()["items"]
    assert listed["id"] == model["id"]
    card = there.http.get(f"{API}/models/{model['id']}/card")
    assert f"Imported on {model['imported'][:10]}" in card.text


def test_every_route_of_a_model_answers_without_its_data_set(both: tuple[Studio, dict[str, Any]]) -> None:
    studio, model = both
    base = f"{API}/models/{model['id']}"
    described = studio.http.app.openapi()["paths"]
    tried = 0
    for path, methods in described.items():
        # A drawing is made of the same data as the answer beside it.
        if "get" not in methods or not path.startswith(f"{API}/models/{{model_id}}") or path.endswith(".png"):
            continue
        if any(word["in"] == "query" and word.get("required") for word in methods["get"].get("parameters", [])):
            continue
        answer = studio.http.get(path.replace("{model_id}", model["id"]).replace("{name}", "confusion.png"))
        assert answer.status_code == 200, (path, answer.text)
        tried += 1
    assert tried >= 8
    assert studio.http.get(f"{base}/evaluation").json()["images"] == {}
    why = studio.http.post(f"{base}/explain", files={"file": ("one.png", png(1000))})
    assert why.status_code == 200, why.text


def test_it_can_be_downloaded_and_brought_in_once_more(both: tuple[Studio, dict[str, Any]]) -> None:
    studio, model = both
    content = studio.http.get(f"{API}/models/{model['id']}/download").content
    again = bring(studio, content)
    assert again.status_code == 201 and again.json()["id"] != model["id"]
    assert answers(studio, again.json()["id"]) == answers(studio, model["id"])
    assert studio.http.delete(f"{API}/models/{again.json()['id']}").status_code == 204


def test_a_refused_one_leaves_nothing(studio: Studio, settings: Settings, packed: bytes) -> None:
    assert_problem(bring(studio, without(packed, "metrics.json")), 422, "import-incomplete")
    assert_problem(bring(studio, b"PK\3\4 no zip"), 422, "zip-damaged")
    assert_problem(bring(studio, make_zip({"a/b.png": png(1)})), 422, "import-no-run")
    assert_problem(bring(studio, png(1), name="model.png"), 422, "import-no-zip")
    assert_problem(
        studio.http.post(f"{API}/models", data={"name": "x"}, files={"file": ("", b"")}), 422, "import-no-zip"
    )
    assert_problem(bring(studio, make_zip({"r/recipe.json": b"{}", "r/adapter/x.bin": b"x"})), 422, "import-code")
    assert kept(settings) == [] and studio.http.get(f"{API}/models").json()["items"] == []


def test_one_that_is_larger_than_the_server_takes_is_refused(tmp_path: Path, packed: bytes) -> None:
    with serve(settings_for(tmp_path / "data", max_upload_mb=1)) as client:
        big = packed + b"\0" * (2 << 20)
        assert_problem(bring(Studio(client), big), 413, "upload-too-large")


def test_what_a_killed_server_left_is_swept_and_nothing_of_it_is_listed(settings: Settings, packed: bytes) -> None:
    """Between the folder's move and the row: what was moved has no row, and the next start takes it away."""
    with serve(settings) as client:
        studio = Studio(client)
        parts = client.app.state.parts  # type: ignore[attr-defined]
        assert bring(studio, packed).status_code == 201
        with parts.database.session() as session:
            kept_id = session.scalars(select(Model.id)).one()
        left = parts.storage.folder("models", "0123456789ab")
        left.mkdir()
        (left / "recipe.json").write_text("{}")
        (parts.storage.root / "scratch" / "cut").mkdir()
    with serve(settings) as client:
        assert kept(settings) == [kept_id]
        assert [item["id"] for item in client.get(f"{API}/models").json()["items"]] == [kept_id]


def test_a_failed_row_takes_its_folder_along(
    studio: Studio, settings: Settings, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, source: Path, target: Path) -> None:
        source.rename(target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("backend.storage.Storage.move", full)
    assert bring(studio, packed).status_code in (500, 507)
    assert kept(settings) == [] and studio.http.get(f"{API}/models").json()["items"] == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with ward(tmp_path_factory.mktemp("people") / "data") as made:
        yield made


def test_it_belongs_to_whoever_brought_it_in_and_is_written_down(server: Ward, packed: bytes) -> None:
    ben, cleo, vera = server.studio("ben"), server.studio("cleo"), server.studio("vera")
    assert_problem(bring(vera, packed), 403, "not-allowed")
    made = bring(ben, packed, name="from afar.zip")
    assert made.status_code == 201, made.text
    model = made.json()
    assert model["access"] == "own"
    assert_problem(cleo.http.get(f"{API}/models/{model['id']}"), 404, "model-not-found")
    entries = Audit(server.parts.database).page(limit=20)
    [entry] = [entry for entry in entries if entry.action == "add_model" and entry.status == 201]
    assert (entry.user_name, entry.object_kind, entry.object_id) == ("ben", "model", model["id"])


def test_its_name_is_the_one_given_or_the_folders(both: tuple[Studio, dict[str, Any]], packed: bytes) -> None:
    studio, model = both
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        top = archive.namelist()[0].partition("/")[0]
    assert model["name"] == top
    named = studio.http.post(f"{API}/models", files={"file": ("m.zip", packed)}, data={"name": "  Chest \n model "})
    assert named.json()["name"] == "Chest model"
    assert studio.http.delete(f"{API}/models/{named.json()['id']}").status_code == 204


@pytest.mark.parametrize(("state", "stays"), [("running", True), ("paused", True), ("succeeded", False)])
def test_a_folder_without_a_model_stays_only_while_its_job_has_not_ended(
    tmp_path: Path, state: str, stays: bool
) -> None:
    """A server killed while it kept what a job had learned ends it once more; one killed while it deleted ends that."""
    storage = Storage(tmp_path, min_free_mb=0, max_upload_mb=1)
    database = Database(storage.database)
    database.upgrade()
    storage.prepare()
    with database.session() as session:
        session.add(Job(id="aa0000000000", name="w", dataset_name="d", method="wara", backbone="b", backbone_spec="b",
                        preset="quick", state=state))  # fmt: skip
    for name in ("aa0000000000", "bb0000000000", "lost+found"):
        storage.folder("models", name).mkdir()
    drop_unlisted_models(database, storage)
    left = {path.name for path in (tmp_path / "models").iterdir()}
    assert left == {"lost+found", *(["aa0000000000"] if stays else [])}
    database.close()
    storage.release()
