"""Images are looked at while others still arrive; a check finds what was seen, and sees the rest itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from backend import looks_ahead
from backend.incoming import StoredFile
from backend.looks_ahead import LooksAhead
from tests.backend.support import jpeg, png
from wara.data.ingest import TOGETHER
from wara.data.seen import Found, Look, file_digest, see_all
from wara.errors import InputError
from wara.imaging import DicomView
from wara.imaging.view import DEFAULT_VIEW


class Eyes:
    """Sees as the check does, and counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self, looks: Sequence[Look], view: DicomView) -> Iterator[Found]:
        self.asked += [look.name for look in looks]
        self.open.wait(60)
        if self.error is not None:
            raise self.error
        return see_all(looks, view, 64)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "files"
        self.folder.mkdir()
        self.eyes = Eyes()
        self.ahead = LooksAhead(folder, self.eyes)

    def arrive(self, files: dict[str, bytes], dataset: str = "one") -> None:
        folder = self.folder / dataset
        folder.mkdir(exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        stored = [StoredFile(n, len(d), file_digest(d), folder / n) for n, d in files.items()]
        self.ahead.look(dataset, folder, stored)

    def wait(self, dataset: str = "one") -> None:
        for task in self.ahead._ahead[dataset].waiting:
            task.result(60)

    def check(self, files: dict[str, bytes], view: DicomView = DEFAULT_VIEW, dataset: str = "one") -> list[Found]:
        self.eyes.asked.clear()
        return list(self.ahead.seen(dataset)([Look(data, name, None, name) for name, data in files.items()], view))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.eyes.open.set()
    made.ahead.stop()


FILES = {"a.png": png(1), "b.jpg": jpeg(2), "c.png": b"\x89PNG\r\n\x1a\n cut short"}


def plain(found: Found) -> tuple[object, ...]:
    return found.seen, found.error and (found.error.what, found.error.seen, found.error.code)


def test_what_was_seen_ahead_is_what_the_check_would_see_and_is_not_seen_again(bench: Bench) -> None:
    bench.arrive(FILES)
    bench.wait()
    found = bench.check(FILES)
    # What could not be read may have been the machine's fault: the check tries it itself.
    assert bench.eyes.asked == ["c.png"]
    expected = see_all([Look(data, name) for name, data in FILES.items()], DEFAULT_VIEW, 64)
    assert [plain(one) for one in found] == [plain(one) for one in expected]
    assert [one.digest for one in found] == [file_digest(FILES["a.png"]), file_digest(FILES["b.jpg"]), None]
    assert found[0].seen[0].thumbnail and found[2].error is not None


def test_the_check_sees_itself_what_was_not_seen_ahead_and_answers_keep_their_order(bench: Bench) -> None:
    bench.arrive({name: FILES[name] for name in ("b.jpg",)})
    bench.wait()
    found = bench.check(FILES)
    assert bench.eyes.asked == ["a.png", "c.png"]
    assert [one.seen[0].format for one in found[:2]] == ["PNG", "JPEG"]
    assert found[2].error is not None


def test_another_view_or_a_single_frame_is_seen_anew(bench: Bench) -> None:
    bench.arrive(FILES)
    bench.wait()
    bench.check(FILES, DicomView(frames="first"))
    assert bench.eyes.asked == list(FILES)
    bench.eyes.asked.clear()
    list(bench.ahead.seen("one")([Look(FILES["a.png"], "a.png", 1, "a.png")], DEFAULT_VIEW))
    assert bench.eyes.asked == ["a.png"]


def test_data_sets_do_not_see_each_others_images_though_names_are_the_same(bench: Bench) -> None:
    bench.arrive({"a.png": png(1)}, "one")
    bench.arrive({"a.png": png(2)}, "two")
    bench.wait("one")
    bench.wait("two")
    [one], [two] = (bench.check({"a.png": b""}, dataset=name) for name in ("one", "two"))
    assert one.seen[0].pixels != two.seen[0].pixels


def test_once_a_check_begins_no_further_look_does(bench: Bench) -> None:
    bench.eyes.open.clear()
    many = {f"{number}.png": png(number) for number in range(TOGETHER * 12)}
    bench.arrive(many)
    bench.ahead.settle("one")
    begun = len(bench.eyes.asked)
    bench.eyes.open.set()
    for task in bench.ahead._ahead["one"].waiting:
        assert task.cancelled() or task.result(60) is None
    assert len(bench.eyes.asked) <= begun + TOGETHER * bench.ahead._threads < len(many)


def test_tables_and_zips_are_not_looked_at_and_files_that_are_gone_are_left_to_the_check(bench: Bench) -> None:
    bench.arrive({"labels.csv": b"file,label\n", "all.zip": b"PK", "a.png": png(1)})
    bench.wait()
    assert bench.eyes.asked == ["a.png"]
    stored = StoredFile("gone.png", 10, file_digest(b""), bench.folder / "gone.png")
    bench.ahead.look("one", bench.folder, [stored])
    bench.wait()
    bench.check({"gone.png": png(3)})
    assert bench.eyes.asked == ["gone.png"]


def test_a_look_that_fails_changes_nothing(bench: Bench) -> None:
    bench.eyes.error = InputError("It does not work now", remedy="Wait.", code="later")
    bench.arrive({"a.png": png(1)})
    bench.wait()
    bench.eyes.error = None
    [found] = bench.check({"a.png": png(1)})
    assert bench.eyes.asked == ["a.png"] and found.seen


def test_what_is_forgotten_leaves_no_file_and_is_seen_anew_even_by_a_check_under_way(bench: Bench) -> None:
    bench.arrive(FILES)
    bench.wait()
    assert sorted(path.name for path in bench.folder.parent.iterdir()) == ["files"]
    see = bench.ahead.seen("one")
    bench.ahead.forget("one")
    bench.eyes.asked.clear()
    assert next(see([Look(FILES["a.png"], "a.png", None, "a.png")], DEFAULT_VIEW)).seen
    assert bench.eyes.asked == ["a.png"]
    bench.check(FILES)
    assert bench.eyes.asked == list(FILES)


def test_for_one_data_set_too_many_the_first_is_dropped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks_ahead, "MOST", 2)
    for number, name in enumerate(("one", "two", "three")):
        bench.arrive({"a.png": png(number)}, name)
        bench.wait(name)
    for name, asked in (("one", ["a.png"]), ("two", []), ("three", [])):
        bench.check({"a.png": png(1)}, dataset=name)
        assert bench.eyes.asked == asked


def test_what_arrives_after_the_end_is_not_looked_at_and_after_a_new_start_it_is(bench: Bench) -> None:
    bench.ahead.stop()
    bench.arrive({"a.png": png(1)})
    assert bench.ahead._pool is None and not bench.ahead._ahead
    bench.ahead.start()
    bench.arrive({"a.png": png(1)})
    bench.wait()
    bench.check({"a.png": png(1)})
    assert bench.eyes.asked == []
