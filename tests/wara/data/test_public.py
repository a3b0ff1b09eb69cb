"""Public sets by name, on small files in MedMNIST's own layout; nothing here asks the network but this machine."""

from __future__ import annotations

import functools
import hashlib
import http.server
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wara.cli import main
from wara.data.catalogue import read_catalogue
from wara.data.public import fetch, find_public, medmnist_table
from wara.data.sources import open_source
from wara.errors import InputError

SETS = medmnist_table()
COUNTS = {"train": 6, "val": 3, "test": 4}
Pack = Callable[..., Path]


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WARA_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """Write a set's .npz as MedMNIST packs it, and enter its checksum into the package's table."""

    def pack(name: str = "pneumoniamnist", size: int = 64, **changes: Any) -> Path:
        about = SETS[name]
        suffix = "" if size == 28 else f"_{size}"
        shape = (size, size, 3) if about["n_channels"] == 3 else (size, size)
        rng = np.random.default_rng(0)
        arrays: dict[str, Any] = {}
        for side, count in COUNTS.items():
            arrays[f"{side}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
            numbers = np.arange(count, dtype=np.uint8) % len(about["label"])
            arrays[f"{side}_labels"] = numbers[:, None]
        folder = tmp_path / "served"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}{suffix}.npz"
        np.savez_compressed(path, **(arrays | changes))
        monkeypatch.setitem(about, f"MD5{suffix}", hashlib.md5(path.read_bytes()).hexdigest())
        return path

    return pack


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Serve the packed files on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir(exist_ok=True)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def refused(*arguments: Any, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        fetch(*arguments, **options)
    return caught.value


def left(folder: Path) -> list[str]:
    """What lies in a folder beside what the fixtures put there."""
    return sorted(path.name for path in folder.iterdir() if path.name not in ("served", "home"))


def test_the_official_split_and_the_classes_are_read_back_as_they_were(pack: Pack, tmp_path: Path) -> None:
    file = pack()
    fetched = fetch("medmnist:pneumoniamnist", tmp_path / "out", 64, file=file)

    with open_source(tmp_path / "out") as source:
        catalogue = read_catalogue(source)
    sides = [item.split for item in catalogue.items]
    assert fetched.images == COUNTS == {side: sides.count(side) for side in COUNTS}
    assert catalogue.classes == ("normal", "pneumonia")
    assert catalogue.passed_over == ()
    assert left(tmp_path) == ["out"]


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("name", ["pneumoniamnist", "bloodmnist"])
def test_pixels_stay_what_they_were_and_say_where_they_are_from(
    pack: Pack, tmp_path: Path, name: str, by_column: bool
) -> None:
    file = pack(name)
    images = np.load(file)["test_images"]
    if by_column:
        file = pack(name, test_images=np.asfortranarray(images))
    fetch(f"medmnist:{name}", tmp_path / "out", 64, file=file)

    written = sorted((tmp_path / "out" / "test").rglob("*.png"), key=lambda path: path.name)
    assert [path.name for path in written] == [f"{name}_test_{number:06d}.png" for number in range(len(images))]
    for path, pixels in zip(written, images, strict=True):
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), pixels)
            assert image.info["Source"] == f"MedMNIST {name}, 64 px, CC BY 4.0"


def test_a_set_is_fetched_over_http_with_its_progress(
    pack: Pack, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pack("breastmnist", 28)
    monkeypatch.setitem(SETS["breastmnist"], "url", f"{served}/{file.name}?download=1")
    stages: list[tuple[str, int, int, str]] = []
    (tmp_path / "out").mkdir()  # an empty folder is as good as none

    fetch("medmnist:BreastMNIST", tmp_path / "out", 28, on_progress=lambda *stage: stages.append(stage))

    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == ["malignant", "normal, benign"]
    assert {stage for stage, *_ in stages} == {"Downloading", "Writing"}
    assert stages[-1] == ("Writing", 13, 13, "images")
    assert left(tmp_path) == ["out"]


def test_grades_are_taken_as_classes_and_the_note_says_so(pack: Pack, tmp_path: Path) -> None:
    fetched = fetch("medmnist:retinamnist", tmp_path / "out", 64, file=pack("retinamnist"))

    assert fetched.source.note is not None and "grades" in fetched.source.note
    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("size", [28, 64, 128, 224])
@pytest.mark.parametrize("name", [name for name, about in SETS.items() if "3d" not in name])
def test_every_flat_set_is_known_in_every_size_or_refused_for_its_labels(name: str, size: int) -> None:
    if name == "chestmnist":
        with pytest.raises(InputError, match="several labels"):
            find_public(f"medmnist:{name}", size)
        return
    found = find_public(f"medmnist:{name}", size)

    assert found.url.startswith("https://") and found.file == (f"{name}_{size}.npz" if size > 28 else f"{name}.npz")
    assert len(found.md5) == 32 and len(found.labels) >= 2


@pytest.mark.parametrize(
    ("name", "size", "code", "said"),
    [
        ("medmnist:pneumonia", 64, "public-unknown", "Did you mean medmnist:pneumoniamnist?"),
        ("medmnist:bloodmnits", 64, "public-unknown", "Did you mean medmnist:bloodmnist"),
        ("pneumoniamnist", 64, "public-unknown", "Did you mean medmnist:pneumoniamnist"),
        ("cats", 64, "public-unknown", "The sets by name are medmnist:pathmnist, "),
        ("medmnist:pneumoniamnist", 256, "public-size", "(seen: 256 px). Its sizes are 28, 64, 128, 224."),
        ("medmnist:chestmnist", 64, "public-kind", "several labels"),
        ("medmnist:nodulemnist3d", 64, "public-kind", "volumes"),
    ],
)
def test_a_name_or_size_that_cannot_be_had_is_refused_with_what_can(
    tmp_path: Path, name: str, size: int, code: str, said: str
) -> None:
    error = refused(name, tmp_path / "out", size)

    assert error.code == code
    assert said in error.sentence()
    assert left(tmp_path) == []


def test_offline_it_says_so_and_how_to_bring_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARA_OFFLINE", "true")
    error = refused("medmnist:pneumoniamnist", tmp_path / "out")

    assert error.code == "public-offline"
    assert "switched off here (seen: medmnist:pneumoniamnist). Unset WARA_OFFLINE" in str(error)
    assert "pneumoniamnist_224.npz" in error.remedy and "--file" in error.remedy
    assert left(tmp_path) == []


def test_a_file_that_is_there_needs_no_network(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARA_OFFLINE", "true")

    assert fetch("medmnist:pneumoniamnist", tmp_path / "out", 64, file=pack()).images == COUNTS


@pytest.mark.parametrize("port_answers", [True, False])
def test_a_server_that_does_not_answer_is_one_sentence_and_leaves_nothing(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port_answers: bool
) -> None:
    url = f"{served}/not-there.npz" if port_answers else "http://127.0.0.1:1/pneumoniamnist_64.npz"
    monkeypatch.setitem(SETS["pneumoniamnist"], "url_64", url)
    error = refused("medmnist:pneumoniamnist", tmp_path / "new" / "out", 64)

    assert error.code == "public-unreachable"
    assert "127.0.0.1" in (error.seen or "") and "try again" in error.remedy
    assert left(tmp_path) == []


def test_a_file_that_did_not_arrive_whole_is_refused_and_leaves_nothing(
    pack: Pack, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pack()
    file.write_bytes(file.read_bytes()[:-100])
    monkeypatch.setitem(SETS["pneumoniamnist"], "url_64", f"{served}/{file.name}")
    error = refused("medmnist:pneumoniamnist", tmp_path / "out", 64)

    assert error.code == "public-damaged" and "checksum" in (error.seen or "")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"val_images": np.zeros((3, 32, 32), np.uint8)},
        {"val_images": np.zeros((2, 64, 64), np.uint8)},
        {"val_labels": np.full((3, 1), 9, np.uint8)},
        {"val_labels": np.zeros((3, 2), np.uint8)},
        {"val_labels": np.array([[None]] * 3)},
    ],
    ids=["size", "count", "class", "several-labels", "pickled"],
)
def test_arrays_that_do_not_fit_the_set_are_refused_and_leave_nothing(
    pack: Pack, tmp_path: Path, changes: dict[str, Any]
) -> None:
    error = refused("medmnist:pneumoniamnist", tmp_path / "out", 64, file=pack(**changes))

    assert error.code == "public-damaged"
    assert left(tmp_path) == []


def test_an_interrupt_leaves_nothing(pack: Pack, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int, unit: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("medmnist:pneumoniamnist", tmp_path / "out", 64, file=pack(), on_progress=stop)
    assert left(tmp_path) == []


def test_a_folder_that_holds_something_is_left_alone(pack: Pack, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep", encoding="utf-8")
    error = refused("medmnist:pneumoniamnist", tmp_path / "out", 64, file=pack())

    assert error.code == "folder-not-empty"
    assert left(tmp_path / "out") == ["mine.txt"]


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", None)

    assert "pip install medmnist==" in refused("medmnist:pneumoniamnist", tmp_path / "out").remedy


def test_the_command_says_what_it_wrote_and_under_which_licence(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fetch", "medmnist:dermamnist", "--size", "64", "--file", pack("dermamnist"), "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["wara", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "13 images (6 train, 3 val, 4 test)" in said
    assert "CC BY-NC 4.0" in said


def test_offline_the_command_ends_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WARA_OFFLINE", "1")
    monkeypatch.setattr(sys, "argv", ["wara", "fetch", "medmnist:bloodmnist", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("Error: This public data set") and said.count("\n") == 1


def test_the_empty_folder_of_the_import_may_be_taken_back_by_another_process_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "medmnist"]:
        monkeypatch.delitem(sys.modules, name)
    taken: list[Path] = []

    def rmdir_second(folder: Path) -> None:
        folder_rmdir(folder)
        taken.append(folder)
        folder_rmdir(folder)

    folder_rmdir = Path.rmdir
    monkeypatch.setattr(Path, "rmdir", rmdir_second)
    assert set(medmnist_table()) == set(SETS)
    assert taken == [tmp_path / ".medmnist"]
    assert list(tmp_path.iterdir()) == []
