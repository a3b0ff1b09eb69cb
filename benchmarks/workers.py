"""Work spread over child processes, replaced when they die or take too long: a crash costs one piece of work."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

Task = tuple[str, str]
Work = Callable[[Task, dict[str, Any]], Any]


class Died(NamedTuple):
    """A piece of work whose process did not live to answer, and why."""

    reason: str
    seconds: float


class _Worker:
    def __init__(self, work: Work, series: deque[Task]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()
        self.series, self.started = series, 0.0

    def begin(self) -> None:
        self.started = time.monotonic()
        self.connection.send(self.series[0])

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


def spread(work: Work, series: Sequence[Sequence[Task]], workers: int, limit_s: float) -> Iterator[tuple[Task, Any]]:
    """Yield each task with its answer, or with `Died`, as they come.

    Args:
        work: a function of a module; it is given a task and what it kept in this process from tasks before.
        series: tasks that one process should do one after the other.
        workers: number of processes.
        limit_s: seconds that one task may take.
    """
    waiting = deque(deque(tasks) for tasks in series if tasks)
    running: list[_Worker] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_Worker(work, waiting.popleft()))
                running[-1].begin()
            soonest = min(worker.started for worker in running) + limit_s
            wait([worker.connection for worker in running], timeout=max(0.0, soonest - time.monotonic()))
            for worker in list(running):
                answer = _answer(worker, limit_s)
                if answer is None:
                    continue
                yield worker.series.popleft(), answer
                if not worker.series and waiting:
                    worker.series = waiting.popleft()
                if isinstance(answer, Died) or not worker.series:
                    worker.stop()
                    running.remove(worker)
                    if worker.series:
                        waiting.appendleft(worker.series)
                else:
                    worker.begin()
    finally:
        for worker in running:
            worker.stop()


def _answer(worker: _Worker, limit_s: float) -> Any:
    taken = time.monotonic() - worker.started
    if worker.connection.poll():
        try:
            return worker.connection.recv()
        except EOFError:
            worker.process.join()
            return Died(f"its process ended with code {worker.process.exitcode}", taken)
    return Died(f"it took longer than {limit_s:.0f} s", taken) if taken > limit_s else None


def _serve(connection: Connection, work: Work) -> None:
    kept: dict[str, Any] = {}
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(work(task, kept))
