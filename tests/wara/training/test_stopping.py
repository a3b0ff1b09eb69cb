"""Runs that are stopped, killed or short of memory in the middle of an epoch, and go on to the same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.wara.support import draw_folder, small_recipe
from wara.training import checkpoint as checkpoints
from wara.training import loop
from wara.training.checkpoint import Checkpoint
from wara.training.loop import Stopped
from wara.training.run import train

OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 4, "dropout": 0.1}
SAME = ("predictions.csv", "split.csv", "calibration.json", "adapter/adapter_model.safetensors")
TIMES = ("seconds", "images_per_second", "peak_memory_mb")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("stopping") / "set", images_per_class=12)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stopping-pixels")


@pytest.fixture(scope="module")
def whole(images: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that nothing disturbed."""
    run = tmp_path_factory.mktemp("stopping-run") / "run"
    return run, train(images, run, small_recipe(**OPTIONS), cache=cache)


def after(steps: int) -> Callable[[], bool]:
    """Say stop at the so-manieth question."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == steps

    return stop


def assert_same(run: Path, metrics: dict[str, Any], whole: tuple[Path, dict[str, Any]]) -> None:
    for name in SAME:
        assert (run / name).read_bytes() == (whole[0] / name).read_bytes(), name
    assert {k: v for k, v in metrics.items() if k not in TIMES} == {k: v for k, v in whole[1].items() if k not in TIMES}


@pytest.mark.parametrize("steps", [2, 5, 9], ids=["within-an-epoch", "while-validating", "in-the-second-epoch"])
def test_a_run_stopped_at_any_step_goes_on_to_the_same_bits(
    steps: int, images: Path, cache: Path, whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        train(images, tmp_path / "run", small_recipe(**OPTIONS), cache=cache, stop=after(steps))
    assert not (tmp_path / "run" / "metrics.json").exists()
    metrics = train(images, tmp_path / "run", small_recipe(**OPTIONS), cache=cache, resume=True)
    assert_same(tmp_path / "run", metrics, whole)


def test_the_time_of_a_stopped_run_holds_what_it_took_to_read_the_images_the_first_time(
    images: Path, cache: Path, tmp_path: Path
) -> None:
    def read_slowly(event: dict[str, Any]) -> None:
        if event.get("phase") == "reading" and event["type"] == "phase":
            time.sleep(2)

    with pytest.raises(Stopped):
        train(images, tmp_path / "run", small_recipe(**OPTIONS), cache=cache, stop=after(2), on_event=read_slowly)
    state = Checkpoint(tmp_path / "run" / "checkpoint").read()
    assert state is not None
    before = state["fit"]["earlier_seconds"]
    metrics = train(images, tmp_path / "run", small_recipe(**OPTIONS), cache=cache, resume=True)
    assert metrics["seconds"] > before > 2


def test_in_shares_a_stopped_run_goes_on_to_the_same_bits(
    images: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "number_of", lambda model, device: 3)  # as with three cores
    recipe = small_recipe(epochs=2, batch_size=12)
    undisturbed = train(images, tmp_path / "whole", recipe, cache=cache)
    with pytest.raises(Stopped):
        train(images, tmp_path / "run", recipe, cache=cache, stop=after(2))
    metrics = train(images, tmp_path / "run", recipe, cache=cache, resume=True)
    assert_same(tmp_path / "run", metrics, (tmp_path / "whole", undisturbed))


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.wara.support import small_recipe
from tests.wara.training.test_stopping import OPTIONS
from wara.training import checkpoint
from wara.training.run import train
checkpoint.EVERY_SECONDS, checkpoint._LARGEST_SHARE = 0.0, 1e9  # one after every step
steps = 0
def stop():
    global steps
    steps += 1
    if steps == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return False
train(Path(sys.argv[1]), Path(sys.argv[2]), small_recipe(**OPTIONS), cache=Path(sys.argv[3]), stop=stop)
"""


def test_a_killed_run_goes_on_from_within_its_epoch_to_the_same_bits(
    images: Path, cache: Path, whole: tuple[Path, dict[str, Any]], tmp_path: Path, repository: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, images, tmp_path / "run", cache],
        cwd=repository, env={**os.environ, "PYTHONPATH": str(repository)}, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL
    kept = Checkpoint(tmp_path / "run" / "checkpoint").read()
    assert kept is not None and kept["part"]["step"] >= 1 and kept["fit"]["history"] == []
    metrics = train(images, tmp_path / "run", small_recipe(**OPTIONS), cache=cache, resume=True)
    assert_same(tmp_path / "run", metrics, whole)


def test_within_an_epoch_a_checkpoint_is_due_by_time_and_a_dear_one_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: clock)
    kept = Checkpoint(tmp_path)
    assert not kept.is_due()
    clock += checkpoints.EVERY_SECONDS
    assert kept.is_due()
    kept.write({"x": 1})
    assert not kept.is_due()
    kept._cost = 60.0  # a minute to write: not every minute
    clock += checkpoints.EVERY_SECONDS
    assert not kept.is_due()


def test_a_batch_in_parts_has_the_gradient_of_the_whole(
    images: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With class weights and smoothed labels, where a mean of means would be another function; and in shares."""
    gradients: dict[tuple[int, int], list[Tensor]] = {}
    clip = torch.nn.utils.clip_grad_norm_
    options = {"batch_size": 18, "class_balanced": True, "label_smoothing": 0.1, "epochs": 1, "precision": "float32"}
    ways = [(1, 1), (2, 1), (4, 1), (1, 4), (2, 2)]
    for way in ways:
        parts, shares = way

        def look(parameters: list[Tensor], largest: float, way: tuple[int, int] = way) -> Tensor:
            gradients.setdefault(way, [p.grad.clone() for p in parameters if p.grad is not None])
            return clip(parameters, largest)

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", look)
        monkeypatch.setattr(loop, "number_of", lambda model, device, shares=shares: shares)
        folder = tmp_path / (str(parts) if shares == 1 else f"{parts}-{shares}")
        train(images, folder, small_recipe(**options), cache=cache, accumulate=parts)
    for way in ways[1:]:
        for one, other in zip(gradients[1, 1], gradients[way], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    ends = [json.loads((tmp_path / str(parts) / "metrics.json").read_text())["test"]["auroc"] for parts in (1, 4)]
    assert ends[0] == ends[1]
    assert json.loads((tmp_path / "4" / "recipe.json").read_text())["accumulate"] == 4
