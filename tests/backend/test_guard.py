"""Who may ask: foreign names, foreign pages, and what the log keeps to itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from backend.catalogues import forget
from backend.db import Database
from backend.problems import unexpected
from backend.settings import Settings
from tests.backend.support import API, Studio, as_form, assert_problem, png, serve, settings_for, study

ORDER = {"dataset_id": "none", "backbone": "none"}
PASSWORD = "correct horse battery staple"


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "LOCALHOST"])
def test_this_machine_is_answered_under_its_names(studio: Studio, host: str) -> None:
    assert studio.http.get(f"{API}/datasets", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:7860", "", "10.0.0.5:7860", "[::1"])
def test_a_name_that_was_made_to_point_here_is_refused(studio: Studio, host: str) -> None:
    assert_problem(studio.http.get(f"{API}/datasets", headers={"host": host}), 403, "host-refused")


def test_further_names_can_be_allowed(tmp_path: Path) -> None:
    with serve(settings_for(tmp_path, allowed_hosts="studio.hospital.example, other")) as client:
        assert client.get(f"{API}/datasets", headers={"host": "Studio.Hospital.example"}).status_code == 200
        assert client.get(f"{API}/datasets", headers={"host": "evil.example"}).status_code == 403


def test_a_server_that_listens_to_all_answers_under_any_name(tmp_path: Path) -> None:
    with serve(settings_for(tmp_path, host="0.0.0.0", admin_password=PASSWORD)) as client:
        assert client.get(f"{API}/health/live", headers={"host": "workstation-7"}).status_code == 200
        assert_problem(client.get(f"{API}/datasets", headers={"host": "workstation-7"}), 401, "sign-in-needed")


def test_published_on_loopback_it_answers_under_the_names_of_loopback_alone(tmp_path: Path) -> None:
    """Without accounts, a name of another site that leads here must open nothing."""
    with serve(settings_for(tmp_path, host="0.0.0.0", published_on_loopback=True)) as client:
        assert client.get(f"{API}/datasets").status_code == 200
        assert_problem(client.get(f"{API}/datasets", headers={"host": "evil.example"}), 403, "host-refused")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://localhost:7860"}, {"origin": "http://["}, {"sec-fetch-site": "cross-site"},
    ],
)  # fmt: skip
def test_a_page_of_another_site_can_change_nothing(studio: Studio, headers: dict[str, str]) -> None:
    assert_problem(studio.http.post(f"{API}/jobs", json=ORDER, headers=headers), 403, "cross-origin-refused")
    assert_problem(studio.http.delete(f"{API}/jobs/none", headers=headers), 403, "cross-origin-refused")
    upload = studio.http.post(f"{API}/datasets", files=as_form(study(2)), headers=headers)
    assert_problem(upload, 403, "cross-origin-refused")
    assert studio.http.get(f"{API}/datasets", headers=headers).json()["items"] == []


def test_the_own_page_can(studio: Studio) -> None:
    headers = {"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"}
    assert_problem(studio.http.post(f"{API}/jobs", json=ORDER, headers=headers), 404, "data-set-not-found")


def test_answers_cannot_be_shown_by_other_sites(studio: Studio) -> None:
    headers = studio.http.get(f"{API}/datasets").headers
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not any(name.startswith("access-control-") for name in headers)


def test_every_answer_says_that_it_is_not_for_frames(studio: Studio) -> None:
    for answer in (
        studio.http.get(f"{API}/datasets"),
        studio.http.get(f"{API}/nothing"),
        studio.http.get(f"{API}/datasets", headers={"host": "evil.example"}),
        studio.http.get("/api/docs"),
        studio.http.get("/nothing"),
    ):
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({"host": "0.0.0.0"}, True), ({"host": "0.0.0.0", "allowed_hosts": "studio"}, False), ({}, False),
        ({"host": "0.0.0.0", "published_on_loopback": True}, False),
    ],
)  # fmt: skip
def test_listening_to_all_under_any_name_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, values: dict[str, Any], warned: bool
) -> None:
    with serve(settings_for(tmp_path, admin_password=PASSWORD, **values)):
        pass
    assert any("WARA_ALLOWED_HOSTS" in record.getMessage() for record in caplog.records) is warned


def test_logs_hold_no_file_name_class_or_query(studio: Studio, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    files = {f"Jane Roe/{name}_class/Roe_{i}.png": png(i) for name in ("scarlet", "plain") for i in range(5)}
    files |= {"Jane Roe/plain_class/Roe_text.png": b"SECRET CONTENT"}
    found = studio.ready(files)
    studio.http.get(f"{API}/datasets/{found['id']}/images", params={"cls": "scarlet_class"})
    studio.http.get(f"{API}/datasets/{found['id']}/images/0/thumbnail")
    studio.http.get(f"{API}/Jane Roe/scarlet_class")
    assert_problem(studio.upload(files), 409, "dataset-exists")
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    lines = "\n".join(f"{record.name} {record.getMessage()}" for record in ours)
    assert "backend.access" in lines
    for word in ("Roe", "scarlet", "SECRET"):
        assert word not in lines


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("{ spoilt"), lambda path: path.unlink()])
def test_an_unforeseen_error_shows_an_id_that_the_log_explains(
    studio: Studio, settings: Settings, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], Any]
) -> None:
    found = studio.ready(study(5))
    spoil(settings.data_dir / "datasets" / found["id"] / "catalogue.json")
    forget()  # the server has the catalogue in memory since it listed the data set
    answer = studio.http.get(f"{API}/datasets/{found['id']}/report")
    problem = assert_problem(answer, 500, "server-error")
    assert "catalogue" not in answer.text and str(settings.data_dir) not in answer.text
    record = next(record for record in caplog.records if problem["error_id"] in record.getMessage())
    assert "in read_checked" in record.getMessage() and record.exc_info is None


def test_the_log_of_an_error_names_no_file(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    file = tmp_path / " ".join(("Jane", "Roe"))
    try:
        try:
            file.read_bytes()
        except FileNotFoundError as error:
            raise ValueError("cannot go on") from error
    except ValueError as error:
        unexpected(error)
    assert "FileNotFoundError (ENOENT)" in caplog.text and "cannot go on" in caplog.text
    assert __file__ in caplog.text  # the frames are there
    assert "Jane Roe" not in caplog.text


def test_an_error_of_the_database_names_no_values(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.data_dir.mkdir()
    person = " ".join(("Jane", "Roe"))
    database = Database(settings.data_dir / "wara.db")
    with pytest.raises(OperationalError) as caught, database.session() as session:
        session.execute(text("SELECT * FROM nowhere WHERE name = :name"), {"name": person})
    unexpected(caught.value)
    database.close()
    assert "nowhere" in caplog.text and person not in caplog.text
