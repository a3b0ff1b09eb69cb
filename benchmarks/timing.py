"""Interleaved measurement: every variant once a round, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(steps: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Return the seconds of each step in each round; the order turns by one a round, the first rounds do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for round_ in range(warm_up + rounds):
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            _wait()
            start = time.perf_counter()
            steps[name]()
            _wait()
            if round_ >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio_of(ours: list[float], peer: list[float]) -> tuple[float, float]:
    """Return the median over rounds of ours / peer, and half the distance of its quartiles.

    The two of one round stand beside each other, so that a slow moment of the machine cancels.
    """
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    if len(ratios) < 2:
        return ratios[0], 0.0
    low, _, high = statistics.quantiles(ratios, n=4)
    return statistics.median(ratios), (high - low) / 2


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
