"""Models in a process of their own: asked by messages, started when needed, started anew when it has ended."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.decoding import widen
from backend.jobs.process import ROOT
from backend.problems import RequestRefused
from wara.errors import InputError
from wara.imaging.view import DicomView
from wara.messages import Message, read_message, refused, write_message
from wara.predictions import Decode, Prediction, Reader, ReadFile, answer_readable

log = logging.getLogger("backend.models")


class ModelFailed(Exception):
    """The work on an order met an error that nobody foresaw; it says where."""


class _Ended(Exception):
    """The process ended before it answered."""


class ModelProcess:
    """A process that holds models (``wara.inference_apart``); safe to use from several threads.

    Args:
        capacity: models that it keeps at once.
        rest_s: seconds without an order after which it is ended, until the next; None keeps it.
    """

    def __init__(self, capacity: int, rest_s: float | None = None) -> None:
        self._capacity, self._rest_s = capacity, rest_s
        self._lock = threading.Lock()
        self._once_more = threading.Lock()
        self._process: _Process | None = None
        self._under_way = 0
        self._rest: threading.Timer | None = None

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
                head, said = self._running().ask(order, body)
            except _Ended:
                # It may have been over another order, or for memory that others took: once more, in a new process, one
                # by one, so that an order that ends each process takes none of the others with it a second time.
                try:
                    with self._once_more:
                        head, said = self._running().ask(order, body)
                except _Ended:
                    raise RequestRefused(
                        503, "The process that holds the models ended while it worked on this",
                        remedy="Try again. If it happens again, there is too little memory: see the server's log.",
                        code="model-ended",
                    ) from None  # fmt: skip
        if head["kind"] == "refused":
            raise refused(head)
        if head["kind"] == "failed":
            raise ModelFailed(head["said"])
        return head, said

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
        self.close()

    def _running(self) -> _Process:
        with self._lock:
            if self._process is None or self._process.ended:
                self._process = _Process(self._capacity)
            return self._process


class _Process:
    """One process, from its start to its end. Answers come in the order of the orders."""

    def __init__(self, capacity: int) -> None:
        self.ended = False
        self._sending = threading.Lock()
        self._asked: deque[Future[Message]] = deque()
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.child = subprocess.Popen(
            [sys.executable, "-m", "wara.inference_apart", str(capacity)],
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
            self._asked.append(answer)
            try:
                write_message(self.child.stdin, order, *body)
                self.child.stdin.flush()
            except (OSError, ValueError):
                self.child.kill()  # who receives finds the end
        return answer.result()

    def end(self) -> None:
        self.child.kill()
        self.child.wait()

    def _receive(self) -> None:
        assert self.child.stdin is not None and self.child.stdout is not None
        with contextlib.suppress(OSError, ValueError, MemoryError):  # it is gone, or writes what is no answer
            while (message := read_message(self.child.stdout)) is not None:
                self._asked.popleft().set_result(message)
        self.ended = True
        self.child.kill()
        code = self.child.wait()
        with self._sending:
            left = list(self._asked)
            for pipe in (self.child.stdin, self.child.stdout):
                with contextlib.suppress(OSError):  # what was not sent yet cannot be sent any more
                    pipe.close()
        if left:
            log.warning("The process that holds the models ended with %s; %d orders were under way", code, len(left))
        for answer in left:
            answer.set_exception(_Ended())


class ServedModel:
    """One run, as a server uses it: files are read here, with limits; the network answers in its process.

    Args:
        process: holds the network.
        model_id: its name here.
        run: the RUN folder.
        backbone: spec of its backbone.
        device: "auto", "cpu", "cuda" or "mps".
        decode: how files become squares.

    Raises:
        InputError: the folder is not a whole run, or the backbone is not the one that it was trained on.
    """

    def __init__(
        self, process: ModelProcess, model_id: str, run: Path, backbone: str, device: str, decode: Decode
    ) -> None:
        self.id = model_id
        self._process = process
        self._name = {"run": str(run), "backbone": backbone, "device": device}
        facts, _ = process.ask({"task": "load", **self._name})
        self.reader = Reader(facts["size"], facts["fit"], DicomView(facts["frames"], facts["window"]), decode)
        self.classes = tuple(facts["classes"])
        # Of two classes the operating point, as when the model was loaded.
        self.threshold: float | None = facts["threshold"]

    def read(self, name: str, content: bytes | InputError) -> ReadFile:
        """Decode a file as the model takes it, or say why that cannot be."""
        return self.reader.read(name, content)

    def answer(self, files: Sequence[ReadFile]) -> list[Prediction]:
        """Classify files that were read, together; those that could not be read get their reason."""
        return answer_readable(files, self._answers_of)

    def forget(self) -> None:
        """Let the network go; the next order would load it anew."""
        if self._process.pid() is not None:
            self._process.ask({"task": "forget", **self._name})

    def _answers_of(self, squares: list[NDArray[np.uint8]], counts: list[int]) -> list[Prediction]:
        body = [np.ascontiguousarray(square).data.cast("B") for square in squares]
        head, _ = self._process.ask({"task": "answer", "counts": counts, **self._name}, body)
        sets = [None if one["classes"] is None else tuple(one["classes"]) for one in head["answers"]]
        return [Prediction(**{**one, "classes": held}) for one, held in zip(head["answers"], sets, strict=True)]


@functools.cache
def shared(purpose: str, capacity: int, rest_s: float | None = None) -> ModelProcess:
    """Return this process's one for a purpose, made at the first call and ended with it."""
    made = ModelProcess(capacity, rest_s)
    atexit.register(made.close)
    return made
