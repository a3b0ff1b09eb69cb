"""Warm models: loaded once, the oldest forgotten, never loaded twice at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backend.serving import PredictorCache

RUN = Path("run")


class Loader:
    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, model_id: str, run: Path, backbone: str) -> Any:
        self.loaded.append(backbone)
        assert self.gate.wait(10)
        return backbone


def ask(cache: PredictorCache, name: str) -> Any:
    return cache.get(name, RUN, name)


def test_a_model_is_loaded_once_and_the_least_used_forgotten() -> None:
    load = Loader()
    cache = PredictorCache(2, load)
    assert ask(cache, "a") == "a"
    for name in ("b", "a", "c", "a", "b"):
        ask(cache, name)
    assert load.loaded == ["a", "b", "c", "b"]
    assert cache.warm() == ["a", "b"]
    assert (cache.ready("a"), cache.ready("c")) == ("a", None)
    assert cache.warm() == ["b", "a"]
    cache.forget("a")
    assert cache.warm() == ["b"]
    cache.forget("never seen")


def test_requests_at_once_load_a_model_once() -> None:
    load = Loader()
    load.gate.clear()
    cache = PredictorCache(2, load)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, cache, "a") for _ in range(4)]
        load.gate.set()
        assert [answer.result(10) for answer in answers] == ["a"] * 4
    assert load.loaded == ["a"]


def test_a_model_that_fails_to_load_is_tried_again() -> None:
    attempts = []

    def load(model_id: str, run: Path, backbone: str) -> Any:
        attempts.append(backbone)
        if len(attempts) == 1:
            raise ValueError("not yet")
        return backbone

    cache = PredictorCache(1, load)
    with pytest.raises(ValueError, match="not yet"):
        ask(cache, "a")
    assert cache.warm() == []
    assert ask(cache, "a") == "a"
