"""The data folder: safe names, full disks, whole files, one server at a time, packing."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.names import safe_relative
from backend.packing import zip_stream
from backend.problems import RequestRefused, is_disk_full, problem_of
from backend.storage import Storage, write_atomically
from wara.errors import InputError


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    made = Storage(tmp_path / "data", min_free_mb=1, max_upload_mb=10)
    made.prepare()
    yield made
    made.release()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a/b.png", "a/b.png"), ("./a//b.png", "a/b.png"), ("Größe/β.png", "Größe/β.png"), ("a/..b", "a/..b"),
        ("console/1.png", "console/1.png"), ("a b/c(1).png", "a b/c(1).png"),
    ],
)  # fmt: skip
def test_ordinary_names_are_kept(name: str, kept: str) -> None:
    assert safe_relative(name) == kept


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "/",
        "..",
        "a/..",
        "/a",
        "C:/a",
        "c:a",
        "a\\b",
        "a\0b",
        "a/\n",
        "NUL",
        "x/com1.txt",
        "é" * 200,
        "a/" * 600,
    ],
)
def test_names_that_could_do_harm_are_refused(name: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        safe_relative(name)
    assert caught.value.code == "unsafe-name"


def test_a_batch_that_is_not_placed_leaves_nothing(storage: Storage) -> None:
    folder = storage.folder("staging", "x")
    with storage.batch(folder) as batch:
        done = batch.open("a/1.png")
        done.write(b"123")
        done.close()
        begun = batch.open("a/2.png")
        begun.write(b"45")
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_file_and_a_folder_of_one_name_are_refused(storage: Storage) -> None:
    with storage.batch(storage.folder("staging", "x")) as batch:
        for name in ("a/b", "a/b/c.png"):
            writer = batch.open(name)
            writer.write(b"1")
            writer.close()
        with pytest.raises(RequestRefused) as caught:
            storage.place("x", batch.files)
    assert caught.value.status == 409


def test_a_disk_that_the_system_calls_full_is_a_507() -> None:
    # /dev/full answers every write as a full disk does.
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"1")
    assert is_disk_full(caught.value)
    problem = problem_of(caught.value)
    assert (problem["status"], problem["code"]) == (507, "disk-full")


def test_the_reserve_counts_what_is_about_to_come(storage: Storage) -> None:
    storage.require_space(1)
    with pytest.raises(RequestRefused) as caught:
        storage.require_space(10**18)
    assert (caught.value.status, caught.value.code) == (507, "disk-full")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_atomically(target, b"first")
    with pytest.raises(ZeroDivisionError):
        write_atomically(target, (str(1 // number) for number in (1, 0)))
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]
    write_atomically(target, iter(["in ", "pieces"]))
    assert target.read_bytes() == b"in pieces"


def test_a_second_server_on_the_folder_is_refused(storage: Storage) -> None:
    other = Storage(storage.root, min_free_mb=1, max_upload_mb=10)
    with pytest.raises(InputError) as caught:
        other.prepare()
    assert caught.value.code == "data-folder-in-use"
    storage.release()
    other.prepare()
    other.release()


def test_a_folder_that_cannot_be_made_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        Storage(tmp_path / "file", min_free_mb=1, max_upload_mb=10).prepare()
    assert caught.value.code == "data-folder-unusable"


def test_packing_gives_every_file_in_small_pieces(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "big.bin").write_bytes(bytes(range(256)) * 20_000)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "card.md").write_text("# Größe")
    pieces = list(zip_stream(tmp_path, "run"))
    assert len(pieces) > 4
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert archive.read("run/sub/big.bin") == (tmp_path / "sub" / "big.bin").read_bytes()
        assert archive.read("run/card.md").decode() == "# Größe"


def test_nobody_else_can_look_into_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir(mode=0o755)
    for root in (tmp_path / "old", tmp_path / "new" / "data"):
        made = Storage(root, min_free_mb=1, max_upload_mb=10)
        made.prepare()
        made.release()
        assert stat.S_IMODE(root.stat().st_mode) == 0o700


def put(storage: Storage, *names: str) -> None:
    with storage.batch(storage.folder("staging", "x")) as batch:
        for name in names:
            writer = batch.open(name)
            writer.write(b"1")
            writer.close()
        storage.place("x", batch.files)


def test_a_batch_whose_list_cannot_be_written_leaves_nothing(storage: Storage) -> None:
    manifest = storage.folder("staging", "x") / "manifest.jsonl"
    manifest.mkdir(parents=True)
    with pytest.raises(OSError):
        put(storage, "a/1.png", "a/2.png")
    manifest.rmdir()
    assert [path for path in (storage.folder("staging", "x")).rglob("*") if path.is_file()] == []
    put(storage, "a/1.png", "a/2.png")  # nothing stands in the way
    assert [entry["name"] for entry in storage.manifest("x")] == ["a/1.png", "a/2.png"]


def test_a_clash_in_the_middle_of_a_batch_takes_back_what_was_placed(storage: Storage) -> None:
    with pytest.raises(RequestRefused):
        put(storage, "a/b", "c/d.png", "a/b/c.png")
    assert [path for path in (storage.folder("staging", "x")).rglob("*") if path.is_file()] == []
    assert storage.manifest("x") == []


def test_a_half_written_last_line_of_the_list_counts_for_nothing(storage: Storage) -> None:
    put(storage, "a/1.png")
    manifest = storage.folder("staging", "x") / "manifest.jsonl"
    with manifest.open("a") as file:
        file.write('{"name": "a/2.p')
    assert [entry["name"] for entry in storage.manifest("x")] == ["a/1.png"]
    put(storage, "a/2.png")
    assert [entry["name"] for entry in storage.manifest("x")] == ["a/1.png", "a/2.png"]
