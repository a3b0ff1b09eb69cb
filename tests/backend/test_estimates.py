"""A measurement is made once for a kind of order, never beside a training, and its failure is a sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from backend.estimates import Estimator
from backend.problems import RequestRefused
from backend.settings import Settings
from tests.wara.support import small_recipe
from wara.errors import InputError

ANSWER = {"step_s": [0.5, 0.6], "image_s": 0.01, "start_s": 3.0, "memory_mb": 900.0, "available_mb": 9000.0,
          "device": "cpu"}  # fmt: skip


def measuring(settings: Settings, tmp_path: Path, answer: object = None, running: int = 0) -> Estimator:
    """An estimator whose process notes that it was started, and answers at once."""
    text = json.dumps({"warm_up": ANSWER} if answer is None else answer)
    program = f"import pathlib; pathlib.Path({str(tmp_path / 'started')!r}).open('a').write('x'); print({text!r})"
    return Estimator(settings, lambda: running, (sys.executable, "-c", program))


def starts(tmp_path: Path) -> int:
    file = tmp_path / "started"
    return len(file.read_text()) if file.exists() else 0


def test_one_measurement_serves_every_preset_seed_and_learning_rate(settings: Settings, tmp_path: Path) -> None:
    estimates = measuring(settings, tmp_path)

    first = estimates.warm_up(small_recipe(), 3)
    again = estimates.warm_up(small_recipe(epochs=40, seed=5, learning_rate=0.1), 3)

    assert first == again and first.step_s == (0.5, 0.6)
    assert starts(tmp_path) == 1


def test_what_changes_the_cost_is_measured_anew(settings: Settings, tmp_path: Path) -> None:
    estimates = measuring(settings, tmp_path)

    for recipe, classes in ((small_recipe(), 3), (small_recipe(), 4), (small_recipe(batch_size=4), 3)):
        estimates.warm_up(recipe, classes)
    estimates.warm_up(small_recipe(method="lora"), 3)

    assert starts(tmp_path) == 4


def test_nothing_is_measured_beside_a_training(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="A training is running") as refused:
        measuring(settings, tmp_path, running=1).warm_up(small_recipe(), 3)

    assert (refused.value.status, refused.value.code, starts(tmp_path)) == (409, "estimate-busy", 0)


def test_a_problem_of_the_order_is_given_on(settings: Settings, tmp_path: Path) -> None:
    problem = {"what": "It does not fit", "seen": "64 images", "remedy": "Take 32.", "code": "out-of-memory"}

    with pytest.raises(InputError, match=r"It does not fit \(seen: 64 images\)\. Take 32\."):
        measuring(settings, tmp_path, {"problem": problem}).warm_up(small_recipe(), 3)


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('no json')"])
def test_a_measurement_that_fails_is_a_sentence_and_tried_again(settings: Settings, program: str) -> None:
    estimates = Estimator(settings, lambda: 0, (sys.executable, "-c", program))

    for _ in range(2):
        with pytest.raises(RequestRefused, match=r"could not be measured.* Start it all the same") as refused:
            estimates.warm_up(small_recipe(), 3)
        assert refused.value.status == 503
