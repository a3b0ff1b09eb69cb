"""Ctrl-C while a run trains: it ends behind its step, says how to go on, and goes on to the same answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wara.support import draw_folder
from wara.cli_stop import stopping_by_keys

OPTIONS = ["--epochs", "3", "--batch-size", "4", "--device", "cpu", "--backbone", "vit_tiny_untrained"]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "wara", "train", *map(str, words), *OPTIONS]


def test_ctrl_c_ends_a_training_behind_its_step_and_the_same_command_goes_on(tmp_path: Path) -> None:
    images = draw_folder(tmp_path / "images", images_per_class=40)
    environment = {**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command(images, "--out", tmp_path / "run"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment, start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        said = ""
        for line in running.stdout:
            said += line
            if line.startswith("  epoch 1/"):
                os.killpg(running.pid, signal.SIGINT)  # as a terminal does, to all processes of the command
        assert running.wait(timeout=120) == 130
    assert "Ending after this step" in said and "The same command with --resume goes on" in said, said
    assert "Traceback" not in said and (tmp_path / "run" / "checkpoint").is_dir()
    for out, more in ((tmp_path / "run", ["--resume"]), (tmp_path / "whole", [])):
        done = subprocess.run(
            command(images, "--out", out, *more), capture_output=True, text=True, check=False, timeout=300,
            env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "predictions.csv").read_bytes() == (tmp_path / "whole" / "predictions.csv").read_bytes()


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_a_second_press_and_one_before_anybody_listens_end_at_once() -> None:
    told: list[int] = []
    with pytest.raises(KeyboardInterrupt), stopping_by_keys(lambda: told.append(1)):
        press()
    assert told == []
    with stopping_by_keys(lambda: told.append(1)) as is_asked:
        assert not is_asked()
        press()
        assert is_asked() and told == [1]
        with pytest.raises(KeyboardInterrupt):
            press()


def test_afterwards_ctrl_c_is_what_it_was_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stopping_by_keys(lambda: None) as is_asked:
        is_asked()
        press()
    assert signal.getsignal(signal.SIGINT) is before
