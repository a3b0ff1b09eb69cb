"""Images are looked at while the rest of their upload still arrives; the check then finds what was seen of them.

What was seen lies in a file without a name, which is gone with the server: whatever is missing there, the check decodes
itself.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from backend.incoming import StoredFile
from backend.problems import unexpected
from wara.data.ingest import together
from wara.data.seen import Found, Look, SeeAll, Seen
from wara.errors import InputError
from wara.imaging import DicomView
from wara.imaging.formats import is_image_name
from wara.imaging.view import DEFAULT_VIEW
from wara.messages import Message, packed, read_message

# Data sets at a time: each holds an open file. For one more, what was seen of the first is dropped.
MOST = 32
# Larger ones are left to the check: each thread holds a file whole, while the memory of an upload is to stay flat.
MOST_BYTES = 32 << 20


class LooksAhead:
    """Looks at images that have arrived, in threads of its own; safe to use from several.

    Args:
        folder: where the files without names may be.
        see: as the check sees images; decodes them in processes of their own.
    """

    def __init__(self, folder: Path, see: SeeAll) -> None:
        self._folder = folder
        self._see = see
        self._threads = min(4, os.cpu_count() or 1) + 1  # one more than decode at a time: it brings the next files
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._stopped = False
        self._ahead: dict[str, _Ahead] = {}

    def start(self) -> None:
        """Look again after `stop`."""
        with self._lock:
            self._stopped = False

    def look(self, dataset_id: str, folder: Path, files: Iterable[StoredFile]) -> None:
        """Have files looked at that lie in a folder now under their names, after those that wait already."""
        images = [file for file in files if is_image_name(file.name) and file.size <= MOST_BYTES]
        if not images:
            return
        with self._lock:
            first = next(iter(self._ahead)) if len(self._ahead) >= MOST and dataset_id not in self._ahead else None
        if first is not None:
            self.forget(first)
        with self._lock:
            if self._stopped:
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="look-ahead")
            ahead = self._ahead.get(dataset_id)
            if ahead is None:
                try:
                    file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (open until it is forgotten)
                except OSError:  # the disk is full, which the upload itself will say
                    return
                ahead = self._ahead[dataset_id] = _Ahead(file)
            ahead.waiting = [task for task in ahead.waiting if not task.done()]
            batches = together(images, lambda file: file.size)
            ahead.waiting += [self._pool.submit(self._look, ahead, folder, batch) for batch in batches]

    def settle(self, dataset_id: str) -> None:
        """Begin no further looks: the check begins, and looks at the rest itself."""
        with self._lock:
            ahead = self._ahead.get(dataset_id)
        for task in [] if ahead is None else ahead.waiting:
            task.cancel()

    def seen(self, dataset_id: str) -> SeeAll:
        """Return what sees images as the check does, but knows what was seen already."""
        with self._lock:
            ahead = self._ahead.get(dataset_id)

        def see(looks: Sequence[Look], view: DicomView) -> Iterator[Found]:
            if ahead is None:
                yield from self._see(looks, view)
                return
            known = [
                ahead.take(look.place) if view == DEFAULT_VIEW and look.frame is None else None for look in looks
            ]
            rest = [look for look, found in zip(looks, known, strict=True) if found is None]
            fresh = iter(self._see(rest, view)) if rest else iter(())
            for found in known:
                yield next(fresh) if found is None else found

        return see

    def forget(self, dataset_id: str) -> None:
        """Drop what was seen of a data set."""
        self.settle(dataset_id)
        with self._lock:
            ahead = self._ahead.pop(dataset_id, None)
        if ahead is not None:
            ahead.close()

    def stop(self) -> None:
        """End the threads and drop everything."""
        with self._lock:
            self._stopped = True
            pool, self._pool = self._pool, None
            known = list(self._ahead)
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        for dataset_id in known:
            self.forget(dataset_id)

    def _look(self, ahead: _Ahead, folder: Path, batch: list[StoredFile]) -> None:
        looks: list[Look] = []
        read: list[StoredFile] = []
        for file in batch:
            with contextlib.suppress(OSError):  # the data set was deleted, or its check has begun
                looks.append(Look((folder / file.name).read_bytes(), file.name))
                read.append(file)
        try:
            for file, found in zip(read, self._see(looks, DEFAULT_VIEW), strict=True):
                if found.error is None:  # it may have been the machine's fault, and is for the check to say
                    ahead.note(file, found)
        except (InputError, OSError, ValueError):
            pass  # the check meets it too, and says it; or the disk is full, or the data set is forgotten
        except Exception as error:
            unexpected(error)


@dataclass
class _Ahead:
    """What was seen of one data set's files: messages in a file, and by name the digest and where in it they begin."""

    file: IO[bytes]
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    waiting: list[Future[None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, file: StoredFile, found: Found) -> None:
        messages: list[Message] = [*(seen.as_message() for seen in found.seen), ({"kind": "end"}, b"")]
        told = b"".join(piece for message in messages for piece in packed(*message))
        with self.lock:
            place = self.file.seek(0, os.SEEK_END)
            self.file.write(told)
            self.places[file.name] = (file.digest, place)

    def take(self, name: str) -> Found | None:
        seen: list[Seen] = []
        with self.lock, contextlib.suppress(OSError, ValueError):  # half written on a full disk, or forgotten
            if name not in self.places:
                return None
            digest, place = self.places[name]
            self.file.seek(place)
            while (message := read_message(self.file)) is not None:
                head, body = message
                if head["kind"] == "end":
                    return Found(seen, digest=digest)
                seen.append(Seen.of_message(head, body))
        return None

    def close(self) -> None:
        with self.lock, contextlib.suppress(OSError):  # what was not written yet has no place on a full disk
            self.file.close()
