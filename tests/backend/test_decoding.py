"""Decoding in processes of their own: the same answers as here, and a decoder that dies costs one file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from backend import decoding
from backend.decoding import Decoders
from tests.backend.support import Studio, jpeg, png, start_instead, study, wait_until
from wara.data.seen import Look, see, see_all
from wara.errors import InputError, UnreadableImage
from wara.imaging import read_squares
from wara.imaging.view import DEFAULT_VIEW, DicomView

# Stands for a decoder that a file brings down: the worker's own program, where a word in the file does what it says.
BROKEN = """
import ctypes, os, signal, sys, time
import wara.data.apart as apart
from pathlib import Path
real = apart.see
def see(data, *rest):
    if b"SEGV-ONCE" in data and not Path(sys.argv[2]).exists():
        Path(sys.argv[2]).touch()
        ctypes.string_at(0)
    if b"SEGV-ALWAYS" in data:
        ctypes.string_at(0)
    if b"RUNAWAY" in data:
        while True: pass
    if b"GREEDY" in data:
        hog = bytearray(1 << 40)
    if b"CHATTER" in data:
        os.write(1, b"printed by a decoder of C")
    if b"FAULT" in data:
        raise ZeroDivisionError("SECRET")
    return real(data, *rest)
apart.see = see
sys.exit(apart.main())
"""


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    found = Decoders(2)
    yield found
    found.close()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Decoders]:
    start_instead(monkeypatch, decoding, BROKEN, str(tmp_path / "once"))
    found = Decoders(2, limit_s=1.0)
    yield found
    found.close()


def test_what_is_seen_apart_is_what_is_seen_here(decoders: Decoders) -> None:
    for data, name in ((png(1), "a.png"), (jpeg(2), "b.jpg")):
        assert list(decoders.see(data, name)) == list(see(data, name, DEFAULT_VIEW, None))
        (square, image), (here, known) = next(decoders.squares(data, name, 32)), next(read_squares(data, name, 32))
        assert np.array_equal(square, here)
        assert (image.format, image.width, image.window) == (known.format, known.width, known.window)
    assert len(decoders.processes()) == 1


def test_a_refusal_is_worded_as_here(decoders: Decoders) -> None:
    with pytest.raises(UnreadableImage) as here:
        list(see(png(1)[:80], "cut.png", DEFAULT_VIEW, None))
    with pytest.raises(UnreadableImage) as apart:
        list(decoders.see(png(1)[:80], "cut.png"))
    assert (apart.value.sentence(), apart.value.code) == (here.value.sentence(), here.value.code)
    with pytest.raises(InputError) as wrong:
        list(decoders.squares(png(1), "a.png", 32, "bend"))
    assert not isinstance(wrong.value, UnreadableImage)


def test_all_frames_of_a_file_come_in_their_order(decoders: Decoders) -> None:
    from tools.bad_input_cases import example

    data = example("SC_rgb_rle_2frame.dcm")
    frames = [image.frame for _, image in decoders.squares(data, "a.dcm", 16, "pad", DicomView("all"))]
    assert frames == [1, 2]


def test_a_decoder_that_is_killed_between_two_files_is_replaced(decoders: Decoders) -> None:
    for _ in range(3):
        list(decoders.see(png(1), "a.png"))
        (pid,) = decoders.processes()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert len(list(decoders.see(png(1), "a.png"))) == 1
    assert pid not in decoders.processes()


def test_a_decoder_that_is_killed_at_work_reads_the_file_again_and_then_gives_it_up(broken: Decoders) -> None:
    data, killed = png(1) + b"RUNAWAY", set()
    stop = threading.Event()

    def kill() -> None:
        while not stop.is_set():
            with broken._lock:
                pids = [worker.process.pid for worker in broken._busy]
            for pid in pids:
                killed.add(pid)
                with contextlib.suppress(ProcessLookupError):  # it was reaped since
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(UnreadableImage, match="crashed"):
        list(broken.see(data, "a.png"))
    stop.set()
    killer.join()
    assert len(killed) == 2


@pytest.mark.parametrize(
    ("word", "code"), [("SEGV-ALWAYS", "decoder-crash"), ("RUNAWAY", "decoder-time"), ("GREEDY", "too-large"),
                       ("FAULT", "decoder-failed")],
)  # fmt: skip
def test_a_file_that_brings_its_decoder_down_cannot_be_read_and_its_neighbours_can(
    broken: Decoders, word: str, code: str
) -> None:
    files = {f"{index}.png": png(index) + (word.encode() if index == 3 else b"") for index in range(8)}

    def outcome(name: str) -> str:
        try:
            return str(len(list(broken.see(files[name], name))))
        except UnreadableImage as error:
            assert "SECRET" not in error.sentence()
            return error.code

    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(files, pool.map(outcome, files), strict=True))
    assert found.pop("3.png") == code
    assert set(found.values()) == {"1"}


@pytest.mark.parametrize(
    ("word", "code", "place"),
    [("SEGV-ALWAYS", "decoder-crash", 0), ("SEGV-ALWAYS", "decoder-crash", 3), ("SEGV-ALWAYS", "decoder-crash", 7),
     ("SEGV-ONCE", None, 3), ("RUNAWAY", "decoder-time", 5), ("GREEDY", "too-large", 2), ("FAULT", "decoder-failed", 6),
     ("CHATTER", None, 1)],
)  # fmt: skip
def test_of_files_that_are_looked_at_together_a_bad_one_costs_itself_alone(
    broken: Decoders, word: str, code: str | None, place: int
) -> None:
    looks = [Look(png(index) + (word.encode() if index == place else b""), f"{index}.png") for index in range(8)]
    found = list(broken.see_all(looks))
    expected = [(0, code) if index == place and code else (1, None) for index in range(8)]
    assert [(len(each.seen), each.error and each.error.code) for each in found] == expected
    assert [each.seen for index, each in enumerate(found) if index != place] == [
        each.seen for index, each in enumerate(see_all([Look(png(index), f"{index}.png") for index in range(8)],
                                                       DEFAULT_VIEW)) if index != place
    ]  # fmt: skip


def test_files_that_are_looked_at_together_are_named_in_what_is_refused(decoders: Decoders) -> None:
    looks = [Look(png(1), "whole.png"), Look(png(1)[:80], "cut.png"), Look(b"", "empty.png")]
    here, apart = list(see_all(looks, DEFAULT_VIEW)), list(decoders.see_all(looks))
    assert [each.error and each.error.sentence() for each in apart] == [
        each.error and each.error.sentence() for each in here
    ]
    assert apart[0] == here[0] and "cut.png" in str(apart[1].error)
    assert list(decoders.see_all([])) == []


def test_a_file_during_which_a_decoder_died_once_is_read(broken: Decoders) -> None:
    assert len(list(broken.see(png(1) + b"SEGV-ONCE", "a.png"))) == 1


def test_what_a_decoder_prints_stands_not_among_the_answers(broken: Decoders) -> None:
    assert len(list(broken.see(png(1) + b"CHATTER", "a.png"))) == 1


def test_no_process_is_left_once_they_are_closed(decoders: Decoders) -> None:
    list(decoders.see(png(1), "a.png"))
    pids = decoders.processes()
    decoders.close()
    assert pids and not any(psutil.pid_exists(pid) for pid in pids)


def test_a_decoder_ends_with_whoever_started_it(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom backend.decoding import Decoders\nd = Decoders(1)\n"
        "list(d.see(sys.stdin.buffer.read(), 'a.png'))\nprint(d.processes()[0], flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], input=png(1), capture_output=True, check=False)
    pid = int(ended.stdout)
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_crash_at_the_door_costs_one_image_of_the_data_set(
    studio: Studio, broken: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "shared", lambda: broken)
    found = studio.ready(study(4) | {"study/fine/bad.png": png(99) + b"SEGV-ALWAYS"})
    assert (found["images"], found["passed_over"]) == (8, 1)
    report = studio.http.get(f"/api/v1/datasets/{found['id']}/report").json()
    assert "crashed" in report["passed_over"]["list"][0]["reason"]
