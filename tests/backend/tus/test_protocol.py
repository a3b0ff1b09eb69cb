"""The protocol as any client of tus 1.0.0 meets it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.requests import Request

from backend.problems import RequestRefused
from backend.settings import Settings
from backend.tus import uploads as receiving
from tests.backend.support import API, Studio, assert_problem, make_zip, serve, settings_for, study
from tests.backend.tus.support import CHUNK, UPLOADS, VERSION, Sender, checksum, metadata, packed


@pytest.fixture
def sender(studio: Studio, settings: Settings) -> Sender:
    return Sender(studio, settings.data_dir)


def test_the_server_says_what_it_speaks(sender: Sender) -> None:
    answer = sender.http.options(UPLOADS)
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
    assert set(answer.headers["tus-extension"].split(",")) == {
        "creation", "creation-with-upload", "expiration", "termination", "checksum",
    }  # fmt: skip
    assert {"sha1", "sha256"} <= set(answer.headers["tus-checksum-algorithm"].split(","))
    assert int(answer.headers["tus-max-size"]) == 50_000 * 1024 * 1024


def test_a_pack_becomes_the_data_set_that_a_plain_upload_becomes(studio: Studio, sender: Sender) -> None:
    files = study() | {"study/fine/größe 1.png": study(1, start=50)["study/fine/fine_0.png"]}
    dataset = sender.dataset(name="study")
    sender.send(dataset, packed(files))
    arrived = sender.arrived(dataset)
    assert (arrived["files"], arrived["bytes"]) == (25, sum(map(len, files.values())))
    assert sorted(sender.names(dataset)) == sorted(files)
    assert arrived["refused"] == arrived["unfinished"] == []
    assert sender.finish(dataset).status_code == 202
    ready = studio.checked(dataset)
    assert (ready["status"], ready["images"], ready["name"]) == ("ready", 25, "study")
    assert [entry["name"] for entry in ready["classes"]] == ["coarse", "fine"]
    again = studio.upload(files)
    assert_problem(again, 409, "dataset-exists")


def test_a_zip_goes_as_one_upload_in_pieces(studio: Studio, sender: Sender, settings: Settings) -> None:
    archive = make_zip(study())
    dataset = sender.dataset()
    url = sender.begun(dataset, len(archive), path="all scans.zip", key="k")
    for start in range(0, len(archive), 10_000):
        assert sender.offset(url) == start
        piece = archive[start : start + 10_000]
        assert sender.patch(url, start, piece, **checksum(piece, "sha1")).status_code == 204
    assert sender.offset(url) == len(archive)
    assert [path.name for path in (settings.data_dir / "uploads" / dataset).iterdir()] == ["taken"]
    sender.finish(dataset)
    assert (studio.checked(dataset)["images"], studio.dataset(dataset)["name"]) == (24, "all scans")
    assert not (settings.data_dir / "uploads" / dataset).exists()


def test_bytes_at_another_offset_are_refused_and_change_nothing(sender: Sender) -> None:
    url = sender.begun(sender.dataset(), 10, path="a/1.png")
    assert sender.patch(url, 0, b"01234").headers["upload-offset"] == "5"
    problem = assert_problem(sender.patch(url, 0, b"01234"), 409, "wrong-offset")
    assert "5 bytes are here" in problem["detail"]
    assert sender.patch(url, 9, b"9").headers["tus-resumable"] == "1.0.0"
    assert sender.offset(url) == 5


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_changed_bytes_are_refused_and_the_same_offset_takes_the_right_ones(sender: Sender, algorithm: str) -> None:
    dataset = sender.dataset()
    url = sender.begun(dataset, 10, path="a/1.png")
    sender.patch(url, 0, b"01234", **checksum(b"01234", algorithm))
    assert_problem(sender.patch(url, 5, b"5678x", **checksum(b"56789", algorithm)), 460, "checksum-mismatch")
    assert sender.offset(url) == 5
    assert sender.patch(url, 5, b"56789", **checksum(b"56789", algorithm)).status_code == 204
    assert sender.names(dataset) == ["a/1.png"]


def test_a_page_without_hash_functions_may_send_crc32(sender: Sender) -> None:
    url = sender.begun(sender.dataset(), 9, path="a/1.png")
    assert sender.patch(url, 0, b"123456789", **{"Upload-Checksum": "crc32 y/Q5Jg=="}).status_code == 204


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412, "tus-version"),
        ({"Content-Type": "application/octet-stream"}, 415, "chunk-type"),
        ({"Upload-Offset": "-1"}, 400, "upload-header-invalid"),
        ({"Upload-Offset": "²"}, 400, "upload-header-invalid"),
        ({"Upload-Checksum": "md5 AAAA"}, 400, "upload-header-invalid"),
        ({"Upload-Checksum": "sha256 ???"}, 400, "upload-header-invalid"),
    ],
)
def test_headers_that_cannot_be_used_are_named(sender: Sender, headers: dict[str, str], status: int, code: str) -> None:
    url = sender.begun(sender.dataset(), 10, path="a/1.png")
    sent = {key: value.encode("utf-8") for key, value in {**CHUNK, "Upload-Offset": "0", **headers}.items()}
    answer = sender.http.patch(url, content=b"01234", headers=sent)
    assert_problem(answer, status, code)
    if status == 412:
        assert answer.headers["tus-version"] == "1.0.0"
    assert sender.offset(url) == 0


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "upload-length-missing"),
        ({"Upload-Defer-Length": "1"}, "upload-length-missing"),
        ({"Upload-Length": "4", "Upload-Concat": "partial"}, "upload-concat"),
        ({"Upload-Length": "many"}, "upload-header-invalid"),
        ({"Upload-Length": "5", "Upload-Metadata": "dataset §"}, "upload-header-invalid"),
    ],
)
def test_an_upload_that_cannot_be_begun_says_why(sender: Sender, headers: dict[str, str], code: str) -> None:
    sent = {key: value.encode("utf-8") for key, value in {**VERSION, **headers}.items()}
    assert_problem(sender.http.post(UPLOADS, headers=sent), 400, code)


def test_the_first_bytes_may_come_with_the_request_that_begins(sender: Sender) -> None:
    dataset = sender.dataset()
    headers = {**CHUNK, "Upload-Length": "5", **metadata(dataset=dataset, path="a/1.png")}
    answer = sender.http.post(UPLOADS, content=b"01", headers=headers)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "2")
    assert sender.patch(answer.headers["location"], 2, b"234").status_code == 204
    assert sender.names(dataset) == ["a/1.png"]
    refused = sender.http.post(UPLOADS, content=b"01", headers=headers | {"Upload-Checksum": "sha1 AAAA"})
    assert_problem(refused, 460, "checksum-mismatch")
    assert sender.arrived(dataset)["unfinished"] == []


def test_methods_may_be_named_in_a_header(sender: Sender) -> None:
    url = sender.begun(sender.dataset(), 10, path="a/1.png")
    headers = {**CHUNK, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert sender.http.post(url, content=b"01234", headers=headers).headers["upload-offset"] == "5"
    assert sender.http.post(url, headers={**VERSION, "X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert sender.http.head(url, headers=VERSION).status_code == 404
    assert_problem(sender.http.post(UPLOADS + "/x", headers=VERSION), 405, "method-not-allowed")


def test_a_terminated_upload_is_gone_and_its_data_set_goes_on(sender: Sender, settings: Settings) -> None:
    dataset = sender.dataset()
    url = sender.begun(dataset, 10, path="a/1.png")
    sender.patch(url, 0, b"01234")
    assert_problem(sender.finish(dataset), 409, "uploads-unfinished")
    assert sender.http.delete(url, headers=VERSION).status_code == 204
    assert_problem(sender.patch(url, 5, b"5"), 404, "upload-not-found")
    assert list((settings.data_dir / "uploads" / dataset).iterdir()) == []
    sender.send(dataset, packed(study()))
    assert sender.finish(dataset).status_code == 202


def test_an_upload_that_nobody_goes_on_with_expires(tmp_path: Path) -> None:
    with serve(settings_for(tmp_path / "data")) as client:
        assert client.app.state.parts.uploads.store.keep == timedelta(days=3)
        sender = Sender(Studio(client), tmp_path)
        url = sender.begun(sender.dataset(), 10, path="a/1.png")
        assert sender.patch(url, 0, b"01234").headers["upload-expires"].endswith("GMT")
        client.app.state.parts.uploads.store.keep = timedelta(0)
        assert_problem(sender.patch(url, 5, b"56789"), 410, "upload-expired")
        assert_problem(sender.patch(url, 5, b"56789"), 404, "upload-not-found")


def test_two_requests_cannot_write_to_one_upload(studio: Studio, sender: Sender) -> None:
    url = sender.begun(sender.dataset(), 10, path="a/1.png")
    store = studio.http.app.state.parts.uploads.store
    with store.claim(url.rpartition("/")[2]):
        assert_problem(sender.patch(url, 0, b"other"), 423, "upload-locked")
        assert_problem(sender.http.delete(url, headers=VERSION), 423, "upload-locked")
    assert sender.patch(url, 0, b"0123456789").status_code == 204


def test_a_success_that_the_sender_did_not_hear_of_is_told_again(sender: Sender) -> None:
    dataset = sender.dataset()
    url = sender.send(dataset, packed(study()), key="the first")
    assert sender.offset(url) == len(packed(study()))
    assert sender.arrived(dataset)["files"] == 24
    assert sender.arrived(dataset)["taken"] == ["the first"]
    # The same pack once more, as by a sender that lost the address: nothing changes, nothing is refused.
    sender.send(dataset, packed(study()))
    assert (sender.arrived(dataset)["files"], sender.arrived(dataset)["refused"]) == (24, [])


def test_what_a_killed_server_did_not_take_in_enters_the_data_set_when_it_is_asked_for(
    studio: Studio, sender: Sender, settings: Settings
) -> None:
    data, dataset = packed(study()), sender.dataset()
    url = sender.begun(dataset, len(data))
    store = studio.http.app.state.parts.uploads.store
    upload = store.load(url.rpartition("/")[2])
    store.data(upload).write_bytes(data)
    store.commit(upload, len(data))
    assert_problem(sender.finish(dataset), 409, "uploads-unfinished")
    with store.claim(upload.id):  # while it is taken in, its sender is asked to wait
        assert sender.http.head(url, headers=VERSION).status_code == 423
    assert sender.offset(url) == len(data)
    assert (sender.arrived(dataset)["files"], sender.arrived(dataset)["unfinished"]) == (24, [])

    # Killed a moment later, when the files had entered and only the note was missing.
    (note,) = settings.data_dir.glob("uploads/*/taken/*.json")
    note.unlink()
    store.data(upload).parent.mkdir()
    store.data(upload).write_bytes(data)
    store.commit(upload, len(data))
    assert sender.offset(url) == len(data)
    assert (sender.arrived(dataset)["files"], sender.arrived(dataset)["unfinished"]) == (24, [])
    assert list((settings.data_dir / "scratch").iterdir()) == []


def test_names_that_cannot_be_kept_are_refused_by_name_and_the_rest_arrives(
    sender: Sender, settings: Settings, tmp_path: Path
) -> None:
    wrong = ["../up.png", "/etc/passwd", "a/../../b.png", "C:/x.png", "a\\b.png", "a/\n.png", "nul", "a" * 300]
    wrong.append("\ud800")  # half of a surrogate pair
    good = ["ä/Größe 你好.png", "a/1.png", "./a/2.png"]
    dataset = sender.dataset()
    sender.send(dataset, packed(dict.fromkeys(wrong, b"x") | {name: name.encode() for name in good}))
    arrived = sender.arrived(dataset)
    assert sender.names(dataset) == ["ä/Größe 你好.png", "a/1.png", "a/2.png"]
    assert [entry["file"] for entry in arrived["refused"]] == [name.replace("\ud800", "?")[:200] for name in wrong]
    assert all("name" in entry["reason"] for entry in arrived["refused"])
    assert not (tmp_path / "up.png").exists()
    assert_problem(sender.begin(dataset, 5, path="../up.png"), 422, "unsafe-name")


def test_a_file_sent_twice_with_another_content_or_as_a_folder_is_refused(sender: Sender) -> None:
    dataset = sender.dataset()
    sender.send(dataset, packed({"a/1.png": b"1", "a/2.png": b"2"}))
    sender.send(dataset, packed({"a/1.png": b"other", "a/2.png": b"2", "a": b"x", "a/1.png/x.png": b"x", "b": b"b"}))
    arrived = sender.arrived(dataset)
    assert sender.names(dataset) == ["a/1.png", "a/2.png", "b"]
    assert {entry["file"] for entry in arrived["refused"]} == {"a/1.png", "a", "a/1.png/x.png"}


@pytest.mark.parametrize(
    "data",
    [
        b"no list",
        b'{"a": 1}\nx',
        b"[]\n",
        b'[["a.png", 5]]\n1234',
        b'[["a.png", -1]]\n',
        b'[["a.png"]]\n1',
        b'[["a", 1]]',
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_broken_pack_is_refused_whole(sender: Sender, data: bytes) -> None:
    dataset = sender.dataset()
    url = sender.begun(dataset, len(data))
    assert_problem(sender.patch(url, 0, data), 422, "pack-broken")
    arrived = sender.arrived(dataset)
    assert (arrived["files"], arrived["unfinished"]) == (0, [])


def test_what_cannot_fit_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    with serve(settings_for(tmp_path / "data", max_upload_mb=1)) as client:
        sender = Sender(Studio(client), tmp_path)
        dataset = sender.dataset()
        assert_problem(sender.begin(dataset, 2_000_000, path="a.zip"), 413, "upload-too-large")
        assert_problem(sender.begin(dataset, 10, path="a.zip", total="2000000"), 413, "upload-too-large")
        sender.begun(dataset, 700_000, path="a.zip")
        assert_problem(sender.begin(dataset, 700_000, path="b.zip"), 413, "upload-too-large")
        assert_problem(sender.begin("0" * 12, 10, path="b.zip"), 404, "data-set-not-found")
    with serve(settings_for(tmp_path / "other")) as client:
        client.app.state.parts.storage.free_mb = lambda: 2.0
        sender = Sender(Studio(client), tmp_path)
        dataset = sender.dataset()
        assert_problem(sender.begin(dataset, 2_000_000, path="a.zip"), 507, "disk-full")
        assert_problem(sender.begin(dataset, 70_000_000), 413, "pack-too-large")
        url = sender.begun(dataset, 10, path="a/1.png")
        assert_problem(sender.patch(url, 0, b"0123456789x"), 413, "upload-too-long")
        assert sender.offset(url) == 0


def test_a_finished_data_set_takes_no_more_bytes(sender: Sender) -> None:
    dataset = sender.dataset()
    sender.send(dataset, packed(study()))
    sender.finish(dataset)
    assert_problem(sender.begin(dataset, 5, path="a.png"), 409, "dataset-not-receiving")


def test_a_deleted_data_set_takes_its_uploads_with_it(sender: Sender, settings: Settings) -> None:
    dataset = sender.dataset()
    url = sender.begun(dataset, 10, path="a/1.png")
    sender.patch(url, 0, b"01234")
    assert sender.http.delete(f"{API}/datasets/{dataset}").status_code == 204
    assert_problem(sender.patch(url, 5, b"56789"), 404, "upload-not-found")
    assert list((settings.data_dir / "uploads").iterdir()) == []


@pytest.mark.parametrize("name", ["x", "..", "0-0", "..%2f..%2fwara.db", "a" * 12 + "-" + "b" * 16])
def test_an_address_of_no_upload_is_not_found(sender: Sender, name: str) -> None:
    assert sender.http.head(f"{UPLOADS}/{name}", headers=VERSION).status_code == 404


def test_another_site_cannot_begin_or_send(sender: Sender) -> None:
    url = sender.begun(sender.dataset(), 5, path="a/1.png")
    foreign = sender.patch(url, 0, b"01234", Origin="http://evil.example")
    assert_problem(foreign, 403, "cross-origin-refused")


@pytest.mark.anyio
@pytest.mark.parametrize("proven", [True, False])
async def test_a_connection_that_says_nothing_is_ended_and_what_came_counts_unless_it_was_to_be_proven(
    studio: Studio, sender: Sender, monkeypatch: pytest.MonkeyPatch, proven: bool
) -> None:
    monkeypatch.setattr(receiving, "STALL_SECONDS", 0.05)
    url = sender.begun(sender.dataset(), 10, path="a/1.png")
    messages = iter([{"type": "http.request", "body": b"01234", "more_body": True}])

    async def receive():  # type: ignore[no-untyped-def]
        for message in messages:
            return message
        await asyncio.Event().wait()

    headers = [(b"content-length", b"10")]
    if proven:
        headers.append((b"upload-checksum", checksum(b"0123456789")["Upload-Checksum"].encode()))
    request = Request({"type": "http", "method": "PATCH", "headers": headers}, receive)
    with pytest.raises(RequestRefused) as caught:
        await studio.http.app.state.parts.uploads.receive(request, url.rpartition("/")[2], 0)
    assert (caught.value.status, caught.value.code) == (408, "upload-stalled")
    assert sender.offset(url) == (0 if proven else 5)


def test_no_file_name_is_in_an_address_or_a_log(
    sender: Sender, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    with caplog.at_level("DEBUG"):
        dataset = sender.dataset()
        url = sender.send(dataset, packed({"Doe Jane/1.png": b"1"}))
        zipped = sender.send(dataset, b"2", path="Doe Jane/2.png")
    assert "Doe" not in url + zipped and "Jane" not in caplog.text
    states = [json.loads(path.read_text()) for path in settings.data_dir.glob("uploads/*/taken/*.json")]
    assert len(states) == 2 and "Doe" not in str(states)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
