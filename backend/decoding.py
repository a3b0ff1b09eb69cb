"""Decoding in processes of their own, with limits of memory and time: a file that breaks a decoder breaks nothing else.

A few long-lived processes (``wara.data.apart``) take one file at a time, or several small ones. One that dies, or works
on a file for too long, is replaced; the file is then one that cannot be read, and says so.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import psutil  # type: ignore[import-untyped]

from backend.jobs.process import ROOT
from wara.data.seen import Found, Look, Seen
from wara.errors import InputError, UnreadableImage
from wara.home import home
from wara.imaging import DecodedImage, DicomView
from wara.imaging.image import Pixels
from wara.imaging.view import DEFAULT_VIEW
from wara.messages import Message, read_message, refused, write_message

# A picture of 100 megapixels, the largest that is read, takes about 3 GB where every step makes a copy.
MEMORY_MB = 4096
# Of one image, in time of the processor: a busy machine makes no file unreadable.
LIMIT_S = 60.0
# By the clock, where a decoder waits for something that never comes.
_LIMIT_BY_CLOCK = 10
_MOST_WORKERS = 4
_PIPE_BYTES = 1 << 20
# How the answers for a file end.
_ENDS = ("end", "refused", "failed")
_REMEDY = "Copy or export it again from where it came."

log = logging.getLogger("backend.decoding")

# What came of a file: a message for each of its images, and the error that ended them.
_Answer = tuple[list[Message], InputError | None]


class Decoders:
    """A few processes that decode; safe to use from several threads. They start when they are first needed.

    Args:
        workers: processes at most; a further caller waits for one.
        memory_mb: address space that one may take, where the system keeps such limits (Linux).
        limit_s: seconds of the processor that one image may take.
    """

    def __init__(self, workers: int | None = None, *, memory_mb: int = MEMORY_MB, limit_s: float = LIMIT_S) -> None:
        self._memory_mb, self._limit_s = memory_mb, limit_s
        self._free = threading.Semaphore(workers or min(_MOST_WORKERS, os.cpu_count() or 1))
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._watch: threading.Thread | None = None
        self._closed = threading.Event()

    def see(
        self, data: bytes, name: str, view: DicomView = DEFAULT_VIEW, frame: int | None = None,
        thumbnail: int | None = None,
    ) -> Iterator[Seen]:  # fmt: skip
        """Do as ``wara.data.seen.see``.

        Raises:
            UnreadableImage: as there; or decoding it crashed (code "decoder-crash") or took too long ("decoder-time").
            InputError: as there.
        """
        (found,) = self.see_all([Look(data, name, frame)], view, thumbnail)
        yield from found.seen
        if found.error is not None:
            raise found.error

    def see_all(
        self, looks: Sequence[Look], view: DicomView = DEFAULT_VIEW, thumbnail: int | None = None
    ) -> Iterator[Found]:
        """Do as ``wara.data.seen.see_all``; all of the files go to one process.

        Raises:
            InputError: as there.
        """
        order = {"task": "see", "frames": view.frames, "window": view.window, "thumbnail": thumbnail}
        for answers, error in self._ask(order, looks):
            if error is not None and not isinstance(error, UnreadableImage):
                raise error
            yield Found([Seen.of_message(head, body) for head, body in answers], error)

    def squares(
        self, data: bytes, name: str, size: int, fit: str = "pad", view: DicomView = DEFAULT_VIEW,
        frame: int | None = None,
    ) -> Iterator[tuple[Pixels, DecodedImage]]:  # fmt: skip
        """Do as ``wara.imaging.read_squares``, but the decoded image's own pixels are those of the square.

        Raises:
            UnreadableImage: as there; or as ``see``.
            InputError: as there.
        """
        order = {"task": "squares", "frames": view.frames, "window": view.window, "size": size, "fit": fit}
        [(answers, error)] = self._ask(order, [Look(data, name, frame)])
        for head, body in answers:
            head.pop("kind")
            square = np.frombuffer(bytearray(body), np.uint8).reshape(head.pop("shape"))
            pairs = {key: None if head[key] is None else tuple(head[key]) for key in ("window", "spacing")}
            yield square, DecodedImage(**{**head, **pairs, "pixels": square})
        if error is not None:
            raise error

    def close(self) -> None:
        """End the processes."""
        self._closed.set()
        with self._lock:
            workers = [*self._idle, *self._busy]
            self._idle.clear()
        for worker in workers:
            worker.end()

    def processes(self) -> list[int]:
        """Return the process ids of those that run."""
        with self._lock:
            return [worker.process.pid for worker in (*self._idle, *self._busy)]

    def _ask(self, order: dict[str, Any], looks: Sequence[Look]) -> list[_Answer]:
        """Return for each file its images' answers, and the error that they ended with."""
        if not looks:
            return []
        with self._free:
            worker = self._take()
            ended, begun = worker.ask(order, looks)
            self._put_back(worker)
        found = [(messages[:-1], _error(messages[-1][0], look.name))
                 for messages, look in zip(ended, looks, strict=False)]  # fmt: skip
        rest = looks[len(found) :]
        if not rest:
            return found
        if len(looks) == 1:
            return [self._blame(order, looks[0], worker, begun)]
        # Nobody knows which of them it was: answers were on their way. Each by itself will show.
        log.warning("A decoder ended among %d files; %d of them are read one by one", len(looks), len(rest))
        return found + [answer for look in rest for answer in self._ask(order, [look])]

    def _blame(self, order: dict[str, Any], look: Look, worker: _Worker, begun: list[Message]) -> _Answer:
        """Return what came of a file by itself over which a decoder ended."""
        if not worker.too_long:
            log.warning("A decoder ended with %s while it read an image", worker.process.returncode)
            # Once more, in a new process: it may have been ended for what it, or its neighbour, had taken before.
            with self._free:
                worker = self._take()
                ended, begun = worker.ask(order, [look])
                self._put_back(worker)
            if ended:
                return ended[0][:-1], _error(ended[0][-1][0], look.name)
        if worker.too_long:
            log.warning("Decoding an image was ended after %.0f s", self._limit_s)
            return begun, _unreadable("The file takes too long to decode", look.name, "decoder-time")
        log.warning("A decoder ended with %s while it read an image", worker.process.returncode)
        crashed = "The file cannot be read: its decoder crashed over it"
        return begun, _unreadable(crashed, look.name, "decoder-crash")

    def _take(self) -> _Worker:
        place = str(home())
        with self._lock:
            self._closed.clear()
            while self._idle:
                worker = self._idle.pop()
                if worker.place == place and worker.process.poll() is None:
                    break
                worker.end()  # it was ended from outside, or hides patients by another key
            else:
                worker = _Worker(self._memory_mb, place)
            worker.begin()
            self._busy.add(worker)
            if self._watch is None or not self._watch.is_alive():
                self._watch = threading.Thread(target=self._keep_watching, name="watching-decoders", daemon=True)
                self._watch.start()
        return worker

    def _put_back(self, worker: _Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
            if worker.process.poll() is None and not self._closed.is_set():
                self._idle.append(worker)
                return
        worker.end()

    def _keep_watching(self) -> None:
        while not self._closed.wait(min(1.0, self._limit_s / 4)):
            with self._lock:
                busy = list(self._busy)
            for worker in busy:
                worker.end_if_beyond(self._limit_s)


class _Worker:
    """One process. Its caller has it alone; only the watch looks on."""

    def __init__(self, memory_mb: int, place: str) -> None:
        self.place = place
        self.too_long = False
        self._cpu_before: float | None = None
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wara.data.apart", str(memory_mb)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders may quote a patient's data
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # an interrupt of the terminal is the server's to handle
        )  # fmt: skip
        for pipe in (self.process.stdin, self.process.stdout):
            widen(pipe)
        self.begin()

    def begin(self) -> None:
        """Begin to count the time; that of the processor is asked for when the watch first looks, which is rare."""
        self._since, self._cpu_before = time.monotonic(), None

    def ask(self, order: dict[str, Any], looks: Sequence[Look]) -> tuple[list[list[Message]], list[Message]]:
        """Return the answers of each file that came to an end, and those of the one that did not."""
        assert self.process.stdin is not None and self.process.stdout is not None
        ended: list[list[Message]] = []
        begun: list[Message] = []
        files = [(look.name, look.frame, len(look.data)) for look in looks]
        try:
            write_message(self.process.stdin, {**order, "files": files}, b"".join(look.data for look in looks))
            self.process.stdin.flush()
            while (message := read_message(self.process.stdout)) is not None:
                begun.append(message)
                if message[0]["kind"] in _ENDS:
                    ended.append(begun)
                    begun = []
                    if len(ended) == len(looks):
                        return ended, begun
                self.begin()  # each frame has its own time
        except (OSError, ValueError, KeyError, MemoryError):
            pass  # it is gone, or writes what is no answer
        self.end()
        return ended, begun

    def end_if_beyond(self, limit_s: float) -> None:
        """End the process where it worked on one image for longer."""
        beyond, used = time.monotonic() - self._since, self._cpu()
        if self._cpu_before is None:
            self._cpu_before = used
        elif used - self._cpu_before > limit_s or beyond > limit_s * _LIMIT_BY_CLOCK:
            self.too_long = True
            self.process.kill()

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not sent yet cannot be sent any more
                    pipe.close()

    def _cpu(self) -> float:
        try:
            used = psutil.Process(self.process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(used.user + used.system)


@functools.cache
def shared() -> Decoders:
    """Return the decoders of this process, made at the first call and ended with it."""
    decoders = Decoders()
    atexit.register(decoders.close)
    return decoders


def widen(pipe: IO[bytes] | None) -> None:
    """Let a whole image lie in a pipe, so that neither side waits for the other within it; Linux alone can."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        assert pipe is not None
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _error(head: dict[str, Any], name: str) -> InputError | None:
    if head["kind"] == "end":
        return None
    if head["kind"] == "failed":
        log.error("Decoding an image met an error that nobody foresaw\n%s", head["said"])
        return _unreadable("The file cannot be read: its decoder failed over it", name, "decoder-failed")
    return refused(head)


def _unreadable(what: str, name: str, code: str) -> UnreadableImage:
    return UnreadableImage(what, seen=name, remedy=_REMEDY, code=code)
