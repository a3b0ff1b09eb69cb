"""Interleaved measurement: every variant once a round, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import torch

T = TypeVar("T")


def in_turn(steps: Mapping[str, Callable[[], T]], rounds: int, warm_up: int = 0) -> dict[str, list[T]]:
    """Return what each step answered in each round; the order turns by one a round, the first rounds do not count."""
    answers: dict[str, list[T]] = {name: [] for name in steps}
    names = list(steps)
    for round_ in range(warm_up + rounds):
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            answer = steps[name]()
            if round_ >= warm_up:
                answers[name].append(answer)
    return answers


def interleaved(steps: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Return the seconds of each step in each round, as `in_turn` orders them."""
    return in_turn({name: partial(_seconds, step) for name, step in steps.items()}, rounds, warm_up)


def ratio_of(ours: Sequence[float], peer: Sequence[float]) -> tuple[float, float]:
    """Return the median over rounds of ours / peer, and half the distance of its quartiles.

    The two of one round stand beside each other, so that a slow moment of the machine cancels.
    """
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    if len(ratios) < 2:
        return ratios[0], 0.0
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return statistics.median(ratios), (high - low) / 2


def _seconds(step: Callable[[], object]) -> float:
    _wait()
    start = time.perf_counter()
    step()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
