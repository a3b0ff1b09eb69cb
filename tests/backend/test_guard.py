"""Who may ask: foreign names, foreign pages, and what the log keeps to itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.settings import Settings
from tests.backend.support import API, Studio, as_form, assert_problem, png, serve, settings_for, study

ORDER = {"dataset_id": "none", "backbone": "none"}


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
    with serve(settings_for(tmp_path, host="0.0.0.0")) as client:
        assert client.get(f"{API}/datasets", headers={"host": "workstation-7"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://localhost:7860"}, {"sec-fetch-site": "cross-site"},
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
    assert headers["x-content-type-options"] == "nosniff"
    assert not any(name.startswith("access-control-") for name in headers)


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
    text = "\n".join(f"{record.name} {record.getMessage()}" for record in ours)
    assert "backend.access" in text
    for word in ("Roe", "scarlet", "SECRET"):
        assert word not in text


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("{ spoilt"), lambda path: path.unlink()])
def test_an_unforeseen_error_shows_an_id_that_the_log_explains(
    studio: Studio, settings: Settings, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], Any]
) -> None:
    found = studio.ready(study(5))
    spoil(settings.data_dir / "datasets" / found["id"] / "catalogue.json")
    answer = studio.http.get(f"{API}/datasets/{found['id']}/report")
    problem = assert_problem(answer, 500, "server-error")
    assert "catalogue" not in answer.text and str(settings.data_dir) not in answer.text
    record = next(record for record in caplog.records if problem["error_id"] in record.getMessage())
    assert record.exc_info is not None
