"""Lanes: how many requests of a kind are worked on at once, and how many may wait before the next must come later.

Each lane has threads of its own. So explanations, which take seconds each, and exports, which take minutes, never hold
the threads by which pages, lists and the signs of life are answered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from backend.problems import RequestRefused

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class Lane:
    """One kind of work.

    Args:
        name: for the figures of the server.
        threads: how many are worked on at once.
        room: how many requests may be in the lane, those that wait included.
        seconds: after how long a refused one should try again.
    """

    def __init__(self, name: str, threads: int, room: int, seconds: int) -> None:
        self.name = name
        self.inside = 0
        self.refused = 0
        self._threads, self._room, self._seconds = threads, room, seconds
        self._limiter: anyio.CapacityLimiter | None = None

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Be in the lane, from before the request's body is read to the answer.

        Raises:
            RequestRefused: 503 with ``retry_after`` while the lane is full.
        """
        if self.inside >= self._room:
            self.refused += 1
            raise RequestRefused(
                503,
                "The server has more to do than it can take on",
                seen=f"{self.inside} requests of this kind are waiting",
                remedy=f"Try again in {self._seconds} s.",
                code="busy",
                retry_after=self._seconds,
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Run a function in one of the lane's threads, once one is free. The caller is in the lane."""
        if self._limiter is None:  # belongs to the event loop, which there is only now
            self._limiter = anyio.CapacityLimiter(self._threads)
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._limiter)


class Lanes:
    """The server's lanes."""

    def __init__(self) -> None:
        self.predictions = Lane("predictions", threads=8, room=256, seconds=2)
        self.batches = Lane("batches", threads=4, room=64, seconds=5)
        self.explanations = Lane("explanations", threads=1, room=32, seconds=15)
        self.exports = Lane("exports", threads=1, room=8, seconds=30)
        self.estimates = Lane("estimates", threads=1, room=8, seconds=15)
        self.imports = Lane("imports", threads=1, room=4, seconds=15)
        self.thumbnails = Lane("thumbnails", threads=2, room=1024, seconds=5)

    def all(self) -> tuple[Lane, ...]:
        """Return every lane."""
        return (
            self.predictions, self.batches, self.explanations, self.exports, self.estimates, self.imports,
            self.thumbnails,
        )  # fmt: skip
