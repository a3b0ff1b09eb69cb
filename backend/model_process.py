"""Models in a process of their own: asked by messages, started when needed, started anew when it has ended."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import logging
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from backend.decoding import widen
from backend.jobs.process import ROOT
from backend.problems import RequestRefused
from wara.messages import Message, packed, read_message, refused

log = logging.getLogger("backend.models")


class ModelFailed(Exception):
    """The work on an order met an error that nobody foresaw; it says where."""


class _Ended(Exception):
    """The process ended before it answered."""


class ModelProcess:
    """A process that holds models (``wara.inference_apart``); safe to use from several threads.

    Args:
        rest_s: seconds without an order after which it is ended, until the next; None keeps it.
    """

    def __init__(self, rest_s: float | None = None) -> None:
        self._rest_s = rest_s
        self._lock = threading.Lock()
        self._once_more = threading.Lock()
        self._process: _Process | None = None
        self._under_way = 0
        self._rest: threading.Timer | None = None
        self._dropped: deque[str] = deque()

    def start(self) -> None:
        """Start the process, which takes seconds until it answers; the first order would do it too."""
        self._running()

    def ask(self, order: dict[str, Any], body: Sequence[bytes | memoryview] = ()) -> Message:
        """Have an order carried out and return what came of it. Orders of other threads may be on their way meanwhile.

        Raises:
            InputError: what was asked for cannot be, as the library says.
            RequestRefused: 503: the process ended over the order twice.
            ModelFailed: an error that nobody foresaw.
        """
        with self._at_work():
            try:
                with self._once_more:
                    pass  # while an order is tried by itself, the others wait
                head, said = self._running().ask(self._with_dropped(order), body)
            except _Ended:
                # It may have been over another order, or for memory that others took: once more, in a new process, one
                # by one, so that an order that ends each process takes none of the others with it a second time.
                try:
                    with self._once_more:
                        head, said = self._running().ask(order, body)
                except _Ended:
                    raise RequestRefused(
                        503, "The process that holds the models ended while it worked on this",
                        remedy="Try again. If it happens again, there may be too little memory: see the server's log.",
                        code="model-ended",
                    ) from None  # fmt: skip
        if head["kind"] == "refused":
            raise refused(head)
        if head["kind"] == "failed":
            raise ModelFailed(head["said"])
        return head, said

    def drop(self, key: str) -> None:
        """Say that no order will name this model again; it goes with the next order. Never waits."""
        self._dropped.append(key)

    def close(self) -> None:
        """End the process, whatever it does."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.end()

    def pid(self) -> int | None:
        """Return the id of the process, None where none runs."""
        with self._lock:
            return None if self._process is None or self._process.ended else self._process.child.pid

    def _with_dropped(self, order: dict[str, Any]) -> dict[str, Any]:
        keys = []
        with contextlib.suppress(IndexError):
            while True:
                keys.append(self._dropped.popleft())
        return {**order, "drop": keys}

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        with self._lock:
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                if self._rest_s is not None and not self._under_way:
                    if self._rest is not None:
                        self._rest.cancel()
                    self._rest = threading.Timer(self._rest_s, self._close_at_rest)
                    self._rest.daemon = True
                    self._rest.start()

    def _close_at_rest(self) -> None:
        with self._lock:
            if self._under_way or threading.current_thread() is not self._rest:
                return
            process, self._process = self._process, None
        if process is not None:
            process.end()

    def _running(self) -> _Process:
        with self._lock:
            if self._process is None or self._process.ended:
                self._process = _Process()
            return self._process


class _Process:
    """One process, from its start to its end."""

    def __init__(self) -> None:
        self.ended = False
        self._sending = threading.Lock()
        self._numbers = itertools.count()
        self._asked: dict[int, Future[Message]] = {}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.child = subprocess.Popen(
            [sys.executable, "-m", "wara.inference_apart"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries may quote an image's header
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # an interrupt of the terminal is the server's to handle
        )  # fmt: skip
        for pipe in (self.child.stdin, self.child.stdout):
            widen(pipe)
        threading.Thread(target=self._receive, name="model-answers", daemon=True).start()

    def ask(self, order: dict[str, Any], body: Sequence[bytes | memoryview]) -> Message:
        assert self.child.stdin is not None
        answer: Future[Message] = Future()
        with self._sending:
            if self.ended:
                raise _Ended
            number = next(self._numbers)
            pieces = packed({**order, "number": number}, *body)
            self._asked[number] = answer
            try:
                self.child.stdin.writelines(pieces)
                self.child.stdin.flush()
            except (OSError, ValueError):
                self.child.kill()  # who receives finds the end
            except BaseException:
                self.child.kill()  # half an order may be on its way
                raise
        return answer.result()

    def end(self) -> None:
        self.child.kill()
        self.child.wait()

    def _receive(self) -> None:
        assert self.child.stdin is not None and self.child.stdout is not None
        try:
            while (message := read_message(self.child.stdout)) is not None:
                if message[0]["number"] is None:
                    head = message[0]
                    log.error("The process that holds the models cannot start: %s\n%s", head["error"], head["said"])
                else:
                    self._asked.pop(message[0]["number"]).set_result(message)
        except Exception as error:  # it is gone, or writes what is no answer
            log.warning("What the process that holds the models writes is no answer: %s", type(error).__name__)
        finally:
            self.ended = True
            self.child.kill()
            code = self.child.wait()
            with self._sending:
                left = list(self._asked.values())
                for pipe in (self.child.stdin, self.child.stdout):
                    with contextlib.suppress(OSError):  # what was not sent yet cannot be sent any more
                        pipe.close()
            if left:
                said = "The process that holds the models ended with %s; %d orders were under way"
                log.warning(said, code, len(left))
            for answer in left:
                answer.set_exception(_Ended())


@functools.cache
def shared(purpose: str, rest_s: float | None = None) -> ModelProcess:
    """Return this process's one for a purpose, made at the first call and ended with it."""
    made = ModelProcess(rest_s)
    atexit.register(made.close)
    return made
