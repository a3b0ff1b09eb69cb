"""Slows down whoever guesses passwords: after a few wrong ones a name, or an address, waits ever longer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

FREE_TRIES = 5
# Many people may sign in from behind one address.
FREE_TRIES_OF_AN_ADDRESS = 30
LONGEST_WAIT_S = 900.0
FORGOTTEN_AFTER_S = 3600.0
_MOST_KEYS = 10_000


@dataclass
class _Failures:
    count: int
    last: float


class Throttle:
    """Counts failures by key, in memory: a restart forgets them, and is not in a guesser's hands.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[tuple[str, str], _Failures] = {}

    def wait_s(self, name: str, address: str) -> float:
        """Return for how many seconds this name or address must still wait; 0 when it may try."""
        moment = self._clock()
        with self._lock:
            waits = [
                self._wait(("name", name), FREE_TRIES, moment),
                self._wait(("address", address), FREE_TRIES_OF_AN_ADDRESS, moment),
            ]
        return max(waits)

    def failed(self, name: str, address: str) -> None:
        """Note a wrong password."""
        moment = self._clock()
        with self._lock:
            if len(self._failures) >= _MOST_KEYS:
                self._forget(moment)
            for key in (("name", name), ("address", address)):
                found = self._failures.get(key)
                if found is None or moment - found.last > FORGOTTEN_AFTER_S:
                    found = self._failures[key] = _Failures(0, moment)
                found.count, found.last = found.count + 1, moment

    def succeeded(self, name: str) -> None:
        """Forget a name's wrong passwords; its address's stay, or one known account would free a guesser."""
        with self._lock:
            self._failures.pop(("name", name), None)

    def _wait(self, key: tuple[str, str], free: int, moment: float) -> float:
        found = self._failures.get(key)
        if found is None or found.count < free or moment - found.last > FORGOTTEN_AFTER_S:
            return 0.0
        wait = min(LONGEST_WAIT_S, 2.0 ** min(found.count - free, 20))
        return max(0.0, found.last + wait - moment)

    def _forget(self, moment: float) -> None:
        """Drop what is old; where all is new, the oldest half, so that memory stays flat under any storm."""
        kept = {key: found for key, found in self._failures.items() if moment - found.last <= FORGOTTEN_AFTER_S}
        if len(kept) >= _MOST_KEYS:
            newest = sorted(kept.items(), key=lambda entry: -entry[1].last)[: _MOST_KEYS // 2]
            kept = dict(newest)
        self._failures = kept
