"""A backup taken from a running server restores to a server that works; what is damaged restores to nothing."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from backend.backup import back_up, restore
from tests.backend.support import API, Studio, as_form, png, serve, settings_for, study
from wara.errors import InputError


@pytest.fixture(scope="module")
def backed_up(trained: tuple[Studio, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the running server with a data set and a model."""
    studio, _ = trained
    target: Path = tmp_path_factory.mktemp("backup") / "studio.tar"
    counts = back_up(studio.http.app.state.parts.storage.root, target)
    assert counts.files > 24 and target.stat().st_mode & 0o077 == 0
    return target


def test_a_restored_server_has_data_sets_and_models_and_answers_with_them(
    trained: tuple[Studio, dict[str, Any]], backed_up: Path, tmp_path: Path
) -> None:
    studio, job = trained
    restore(backed_up, tmp_path / "data")
    files = as_form({"new.png": png(99)})
    with serve(settings_for(tmp_path / "data")) as client:
        for kind in ("datasets", "jobs", "models"):
            assert client.get(f"{API}/{kind}").json() == studio.http.get(f"{API}/{kind}").json()
        answers = [http.post(f"{API}/models/{job['id']}/predict", files=files).json() for http in (client, studio.http)]
        assert answers[0] == answers[1]
        dataset = client.get(f"{API}/datasets").json()["items"][0]["id"]
        assert client.get(f"{API}/datasets/{dataset}/images/0/thumbnail").status_code == 200
        again = Studio(client).train(dataset, method="linear-probe", epochs=1)
        assert Studio(client).ended(again["id"])["state"] == "succeeded"


def test_classes_named_like_what_is_left_out_are_in_the_backup(studio: Studio, tmp_path: Path) -> None:
    names = ("cache", "thumbnails", "worker.lock")
    files = {f"study/{name}/{name}_{n}.png": png(10 * n + place) for place, name in enumerate(names) for n in range(6)}
    dataset = studio.ready(files)
    root = studio.http.app.state.parts.storage.root
    (root / "datasets" / dataset["id"] / "cache").mkdir()  # where a training keeps decoded pixels
    (root / "datasets" / dataset["id"] / "cache" / "some.pixels").write_bytes(b"1")
    back_up(root, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", tmp_path / "other")
    folder = tmp_path / "other" / "datasets" / dataset["id"]
    kept = {path.relative_to(folder / "clean").as_posix() for path in (folder / "clean").rglob("*.png")}
    assert kept == {name.removeprefix("study/") for name in files}
    assert not (folder / "cache").exists() and not (folder / "thumbnails.db").exists()
    with serve(settings_for(tmp_path / "other")) as client:
        assert client.get(f"{API}/datasets/{dataset['id']}/images/0/thumbnail").status_code == 200


def test_what_was_running_is_queued_and_nobody_is_signed_in(studio: Studio, tmp_path: Path) -> None:
    dataset = studio.ready(study())["id"]
    job = studio.train(dataset, epochs=200)["id"]
    studio.http.post(f"{API}/datasets", files={"finish": (None, "false")})
    back_up(studio.http.app.state.parts.storage.root, tmp_path / "b.tar")
    studio.http.post(f"{API}/jobs/{job}/cancel")
    restore(tmp_path / "b.tar", tmp_path / "other")
    with serve(settings_for(tmp_path / "other")) as client:
        assert [item["id"] for item in client.get(f"{API}/datasets").json()["items"]] == [dataset]
        assert client.get(f"{API}/jobs/{job}").json()["state"] in ("queued", "running")
        client.post(f"{API}/jobs/{job}/cancel")
        assert Studio(client).ended(job)["state"] == "cancelled"


def refused(code: str, source: Path, data: Path) -> None:
    before = sorted(data.rglob("*")) if data.exists() else None
    with pytest.raises(InputError) as error:
        restore(source, data)
    assert error.value.code == code
    assert (sorted(data.rglob("*")) if data.exists() else None) == before


def test_a_folder_that_holds_something_is_left_alone(backed_up: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wara.db").write_text("mine")
    refused("restore-not-empty", backed_up, tmp_path / "data")


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_backup_that_is_cut_short_restores_nothing(backed_up: Path, tmp_path: Path, keep: float) -> None:
    content = backed_up.read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    refused("backup-damaged", tmp_path / "cut.tar", tmp_path / "data")


def test_a_changed_byte_is_found(backed_up: Path, tmp_path: Path) -> None:
    content = bytearray(backed_up.read_bytes())
    with tarfile.open(backed_up) as archive:
        place = next(member for member in archive if member.name == "wara.db").offset_data
    content[place + 200] ^= 1
    (tmp_path / "changed.tar").write_bytes(content)
    refused("backup-damaged", tmp_path / "changed.tar", tmp_path / "data")


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "datasets/../../out.txt"])
def test_a_file_that_would_land_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        archive.add(tmp_path / "x", arcname=name)
    refused("backup-damaged", tmp_path / "bad.tar", tmp_path / "deep" / "data")
    assert not (tmp_path / "out.txt").exists() and not (tmp_path / "deep" / "out.txt").exists()


def test_a_second_backup_never_replaces_the_first(backed_up: Path, tmp_path: Path) -> None:
    (tmp_path / "wara.db").write_bytes(b"")
    with pytest.raises(InputError) as error:
        back_up(tmp_path, backed_up)
    assert error.value.code == "backup-exists"
    with pytest.raises(InputError) as error:
        back_up(tmp_path / "nothing", tmp_path / "n.tar")
    assert error.value.code == "backup-nothing"
