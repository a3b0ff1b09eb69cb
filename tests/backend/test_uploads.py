"""Uploads as a stream: any cut of the bytes, flat memory, broken and odd bodies."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import pytest
from starlette.requests import Request

from backend.problems import RequestRefused
from backend.storage import Storage
from backend.uploads import MultipartReceiver, receive
from tests.backend.support import API, Studio, assert_problem

TYPE = "multipart/form-data; boundary=xyz"


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + data + b"\r\n"


BODY = (
    part("name", "Größe".encode())
    + part("files", b"1\r\n--xy\r\n23", "a/ü 1.png")
    + part("files", b"", "a/%22q%22.png")
    + part("files", b"", "")
    + b"--xyz--\r\n"
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path, min_free_mb=0, max_upload_mb=1000)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, 10_000])
def test_however_the_bytes_are_cut_the_files_are_the_same(storage: Storage, step: int) -> None:
    with storage.scratch() as batch:
        receiver = MultipartReceiver(TYPE, batch, "files")
        for start in range(0, len(BODY), step):
            receiver.feed(BODY[start : start + step])
        receiver.finish()
        assert receiver.fields == {"name": "Größe"}
        assert [(file.name, file.path.read_bytes()) for file in batch.files] == [
            ("a/ü 1.png", b"1\r\n--xy\r\n23"),
            ('a/"q".png', b""),
        ]
        assert batch.files[0].size == 11


@pytest.mark.parametrize("room", [0, 10, 11, 1000])
def test_a_small_request_is_held_in_memory_and_a_larger_one_goes_to_the_disk(storage: Storage, room: int) -> None:
    with storage.scratch(room=room) as batch:
        receiver = MultipartReceiver(TYPE, batch, "files")
        for start in range(0, len(BODY), 3):
            receiver.feed(BODY[start : start + 3])
        receiver.finish()
        files = batch.files
        assert [file.content is None for file in files] == [room < 11] * 2
        assert (storage.root / "scratch").exists() == (room < 11)
        assert [file.read() for file in files] == [b"1\r\n--xy\r\n23", b""]
        assert [file.on_disk().read_bytes() for file in files] == [file.read() for file in files]
        assert [(file.size, file.digest) for file in files] == [
            (len(file.read()), hashlib.blake2b(file.read(), digest_size=16).hexdigest()) for file in files
        ]
    assert not list((storage.root / "scratch").glob("*"))


@pytest.mark.anyio
@pytest.mark.parametrize("room", [10, 11])
async def test_files_of_a_request_that_outgrows_its_room_are_whole(storage: Storage, room: int) -> None:
    parts = [part("files", bytes([number]) * 6, f"{number}.png") for number in range(4)]
    body = b"".join(parts) + b"--xyz--\r\n"

    async def stream() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", TYPE.encode()), (b"content-length", str(len(body)).encode())]
    request = Request({"type": "http", "method": "POST", "headers": headers}, stream)
    with storage.scratch(room=room) as batch:
        await receive(request, storage, batch)
        assert [file.read() for file in batch.files] == [bytes([number]) * 6 for number in range(4)]
        assert [file.content is None for file in batch.files] == [False, True, True, True]


@pytest.mark.parametrize("cut", [5, 60, 100, len(BODY) - 9])
def test_a_body_that_breaks_off_is_refused(storage: Storage, cut: int) -> None:
    with storage.scratch() as batch:
        receiver = MultipartReceiver(TYPE, batch, "files")
        receiver.feed(BODY[:cut])
        with pytest.raises(RequestRefused) as caught:
            receiver.finish()
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{}", 415, "not-multipart"),
        ("multipart/form-data", BODY, 415, "not-multipart"),
        (TYPE, b"no boundary here at all", 400, "upload-broken"),
        (TYPE, b"", 400, "upload-broken"),
        (TYPE, part("pictures", b"1", "a.png") + b"--xyz--\r\n", 422, "unknown-file-field"),
        (TYPE, part("files", b"no file") + b"--xyz--\r\n", 422, "file-as-text"),
        (TYPE, part("name", b"x" * 100_000) + b"--xyz--\r\n", 413, "field-too-long"),
        (TYPE, b"".join(part(f"f{i}", b"") for i in range(200)) + b"--xyz--\r\n", 400, "upload-broken"),
    ],
)
def test_an_odd_body_is_a_problem(studio: Studio, content_type: str, body: bytes, status: int, code: str) -> None:
    answer = studio.http.post(f"{API}/datasets", content=body, headers={"content-type": content_type})
    assert_problem(answer, status, code)
    assert studio.http.get(f"{API}/datasets").json()["items"] == []


@pytest.mark.anyio
async def test_memory_stays_flat_however_much_comes(storage: Storage) -> None:
    chunk = bytes(64 * 1024)
    pieces = 1600  # 100 MiB in 20 files

    async def messages():  # type: ignore[no-untyped-def]
        for index in range(pieces):
            if index % 80 == 0:
                head = b'\r\n--xyz\r\nContent-Disposition: form-data; name="files"; filename="a/%d.bin"\r\n\r\n' % index
                yield {"type": "http.request", "body": head[2 if index == 0 else 0 :], "more_body": True}
            yield {"type": "http.request", "body": chunk, "more_body": True}
        yield {"type": "http.request", "body": b"\r\n--xyz--\r\n", "more_body": False}

    source = messages()
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", TYPE.encode())]}
    tracemalloc.start()
    with storage.scratch() as batch:
        await receive(Request(scope, source.__anext__), storage, batch)
        peak = tracemalloc.get_traced_memory()[1]
        assert [file.size for file in batch.files] == [80 * len(chunk)] * 20
    tracemalloc.stop()
    assert peak < 100 * 1024 * 1024 / 4


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
