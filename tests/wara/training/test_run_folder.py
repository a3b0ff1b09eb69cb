"""The folder of a run: what it may hold before, who works in it, and what is said when it cannot be used."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wara.support import small_recipe
from wara.errors import InputError
from wara.training.run import train

# A training that holds its folder and gets no further.
HOLDER = """
import sys, time
from pathlib import Path
from wara.training.run_folder import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a folder cannot be locked on Windows")
def test_a_second_training_is_kept_out_of_a_folder_until_the_first_one_ends(
    image_folder: Path, pixel_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    first = subprocess.Popen([sys.executable, "-c", HOLDER, out], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    with first:
        try:
            assert first.stdout.readline() == "held\n"
            with pytest.raises(InputError, match="Another training is at work") as refused:
                train(image_folder, out, small_recipe(epochs=1), cache=pixel_cache)
            assert refused.value.code == "out-in-use"
            assert not list(out.iterdir())
        finally:
            first.send_signal(signal.SIGKILL)
    assert train(image_folder, out, small_recipe(epochs=1), cache=pixel_cache)["epochs_run"] == 1


def test_resuming_a_whole_run_returns_its_metrics_and_other_options_are_refused(
    image_folder: Path, pixel_cache: Path, tmp_path: Path
) -> None:
    first = train(image_folder, tmp_path / "run", small_recipe(), cache=pixel_cache)
    assert train(image_folder, tmp_path / "run", small_recipe(), cache=pixel_cache, resume=True) == first

    with pytest.raises(InputError, match=r"other options or data \(seen: rank: 8 then, 4 now\)"):
        train(image_folder, tmp_path / "run", small_recipe(rank=4), cache=pixel_cache, resume=True)
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"cannot be resumed with other options or data \(seen: rank: 8 then, 4 now\)"):
        train(image_folder, tmp_path / "run", small_recipe(rank=4), cache=pixel_cache, resume=True)


def test_resuming_in_a_folder_that_holds_something_else_is_refused(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.txt").write_text("mine")
    with pytest.raises(InputError, match="something else than a run"):
        train(image_folder, tmp_path, small_recipe(), resume=True)


def test_a_refusal_leaves_nothing_that_stands_in_the_way_of_the_next_try(image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        train(image_folder, tmp_path / "run", small_recipe(rank=97))
    assert train(image_folder, tmp_path / "run", small_recipe(epochs=1))["epochs_run"] == 1


def test_an_output_folder_in_use_is_not_overwritten(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="not empty"):
        train(image_folder, tmp_path, small_recipe())
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_a_full_disk_is_told_as_such(
    image_folder: Path, pixel_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("wara.training.outputs.write_history", no_space)
    with pytest.raises(InputError, match="no space left on the disk") as caught:
        train(image_folder, tmp_path / "run", small_recipe(), cache=pixel_cache)
    assert caught.value.code == "disk-full"
    monkeypatch.undo()
    assert train(image_folder, tmp_path / "run", small_recipe(), cache=pixel_cache, resume=True)["epochs_run"] == 2
