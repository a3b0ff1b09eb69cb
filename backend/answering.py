"""Images of many requests answered together: read by a few threads, run through the model in common batches.

Whoever asks waits for its own images alone. A file of a request that sends thousands stands in one line with the single
image of another, and no request has more than ``WINDOW`` files in memory.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from wara.errors import InputError
from wara.predictions import Classifier, Prediction, ReadFile

Content = tuple[str, bytes | InputError]
Fetch = Callable[[], Content]

AT_ONCE = 32  # images of a batch
# Batches given to a model at once: the second waits there, so that no core waits for it.
UNDER_WAY = 2
# How long a batch that is not full waits while further files are being read; nothing is waited for when none are.
FILL_SECONDS = 0.004
WINDOW = 64


@dataclass(frozen=True)
class _Due:
    """A file that was read and waits for its model."""

    predictor: Classifier
    file: ReadFile
    answer: Future[Prediction]


class Answering:
    """Reads files in threads, gathers them to batches, and gives a model the next one while it computes.

    Args:
        readers: threads that decode files.
        seen: called with the number of images of every batch that was run, for the figures of the server.
    """

    def __init__(self, readers: int, seen: Callable[[int], None] = lambda images: None) -> None:
        self._reader_count = readers
        self._seen = seen
        self._readers: ThreadPoolExecutor | None = None
        self._askers: ThreadPoolExecutor | None = None
        self._runner: threading.Thread | None = None
        self._due: deque[_Due] = deque()
        self._reading = 0
        self._under_way = 0
        self._stopping = False
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many files are being read or wait for their model."""
        return self._reading + len(self._due)

    def start(self) -> None:
        """Begin to answer."""
        self._stopping = False
        self._readers = ThreadPoolExecutor(self._reader_count, thread_name_prefix="reading")
        self._askers = ThreadPoolExecutor(UNDER_WAY, thread_name_prefix="asking")
        self._runner = threading.Thread(target=self._run, name="answering", daemon=True)
        self._runner.start()

    def stop(self) -> None:
        """Answer what was asked, then end."""
        if self._readers is not None:
            self._readers.shutdown()
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._runner is not None:
            self._runner.join()
        if self._askers is not None:
            self._askers.shutdown()

    async def answer(self, predictor: Classifier, files: Sequence[Fetch]) -> list[Prediction]:
        """Classify files, in their order.

        Args:
            predictor: the model.
            files: each gives its name and content, or why there is no content; called in a thread that reads.
        """
        answers: list[Prediction] = []
        under_way: deque[Future[Prediction]] = deque()
        for fetch in files:
            if len(under_way) >= WINDOW:
                answers.append(await asyncio.wrap_future(under_way.popleft()))
            under_way.append(self._ask(predictor, fetch))
        return answers + [await asyncio.wrap_future(answer) for answer in under_way]

    def answer_each(self, predictor: Classifier, files: Iterable[Content]) -> Iterator[Prediction]:
        """Do as ``answer`` does, in the caller's thread, for files that come one after the other, as of a zip."""
        under_way: deque[Future[Prediction]] = deque()
        for content in files:
            if len(under_way) >= WINDOW:
                yield under_way.popleft().result()
            under_way.append(self._ask(predictor, functools.partial(_same, content)))
        while under_way:
            yield under_way.popleft().result()

    def _ask(self, predictor: Classifier, fetch: Fetch) -> Future[Prediction]:
        if self._readers is None:
            raise RuntimeError("nothing is answered before the start")
        answer: Future[Prediction] = Future()
        with self._changed:
            self._reading += 1
        try:
            self._readers.submit(self._read, predictor, fetch, answer)
        except RuntimeError:  # the server stops at this moment
            with self._changed:
                self._reading -= 1
            raise
        return answer

    def _read(self, predictor: Classifier, fetch: Fetch, answer: Future[Prediction]) -> None:
        file: ReadFile | None = None
        try:
            if answer.set_running_or_notify_cancel():  # not where the asking client has gone
                file = predictor.read(*fetch())
        except BaseException as error:
            answer.set_exception(error)
        with self._changed:
            self._reading -= 1
            if file is not None:
                self._due.append(_Due(predictor, file, answer))
            self._changed.notify()

    def _run(self) -> None:
        assert self._askers is not None
        while batch := self._next():
            self._askers.submit(self._answer, batch)

    def _answer(self, batch: list[_Due]) -> None:
        try:
            answers = batch[0].predictor.answer([due.file for due in batch])
        except BaseException as error:
            for due in batch:
                due.answer.set_exception(error)
        else:
            self._seen(len(batch))
            for due, answer in zip(batch, answers, strict=True):
                due.answer.set_result(answer)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify()

    def _next(self) -> list[_Due]:
        """Wait for files and return those of the next batch; none when the server stops.

        While a batch is under way the next one goes when it is full, or when the model is free: what has come by then
        had better share a batch with what comes meanwhile.
        """
        with self._changed:
            while not self._due or (self._under_way and len(self._due) < AT_ONCE) or self._under_way == UNDER_WAY:
                if self._stopping and not self._due:
                    return []
                self._changed.wait()
            end = time.monotonic() + FILL_SECONDS
            while len(self._due) < AT_ONCE and self._reading and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            self._under_way += 1
            return self._take()

    def _take(self) -> list[_Due]:
        """Take the oldest file and those behind it that are for the same model, as many images as a batch holds."""
        predictor = self._due[0].predictor
        batch: list[_Due] = []
        others: deque[_Due] = deque()
        images = 0
        while self._due and images < AT_ONCE:
            due = self._due.popleft()
            images_then = images + len(due.file.squares)
            if due.predictor is predictor and (not batch or images_then <= AT_ONCE):
                batch.append(due)
                images = images_then
            else:
                others.append(due)
        self._due.extendleft(reversed(others))
        return batch


def _same(content: Content) -> Content:
    return content
