"""Decoded pixels kept in one file and mapped into memory, so that every image is decoded once.

Layout: 4,096 bytes of preamble (magic, count, side, channels, place and length of the header), then the images as
uint8 (n, channels, size, size), then the header as JSON. A store is written under another name and renamed when it
is whole: one that is cut short never opens.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from wara.data.disk import plain_disk_errors
from wara.data.items import Catalogue, Item, PassedOver
from wara.errors import InputError
from wara.imaging.image import Pixels
from wara.imaging.view import DEFAULT_VIEW, DicomView

_MAGIC = b"WARAPIX1"
_PREAMBLE = struct.Struct("<8sQQQQQ")
_START = 4096  # a page, so that the images are aligned in the mapping
_CHUNK = 64


class PixelStore:
    """Read side of a store: ``len``, ``rows``, ``image`` and the catalogue that it was made from.

    Row i holds the image of ``catalogue.items[i]``. Safe from several threads; pickles by its path.

    Attributes:
        path: the file.
        size: pixels a side.
        channels: 1 where every image is grey, else 3.
        fit: how the images were brought to a square.
        view: which frames of DICOM files were taken, and by which window.
        catalogue: as ``ingest`` returned it.
    """

    def __init__(self, path: Path, pixels: npt.NDArray[np.uint8], header: dict[str, Any]) -> None:
        self.path = path
        self.size: int = pixels.shape[-1]
        self.channels: int = pixels.shape[1]
        self.fit: str = header["fit"]
        self.view = DicomView(*header["view"])
        self.catalogue = _catalogue(header)
        self._pixels = pixels

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a store.

        Raises:
            InputError: there is none, or it is not whole; code "pixel-store".
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                preamble = file.read(_PREAMBLE.size)
                magic, count, size, channels, place, length = _PREAMBLE.unpack(preamble)
                if magic != _MAGIC or path.stat().st_size != place + length or count < 1:
                    raise ValueError("not a whole store")
                file.seek(place)
                header = json.loads(file.read(length))
            pixels = np.memmap(path, np.uint8, "r", offset=_START, shape=(count, channels, size, size))
            store = cls(path, pixels, header)
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise InputError(
                "The stored pixels cannot be used",
                seen=path,
                remedy="Delete this file; it is made anew.",
                code="pixel-store",
            ) from error
        return store

    def matches(self, fingerprint: str, size: int, fit: str, view: DicomView = DEFAULT_VIEW) -> bool:
        """Whether the store was made from this catalogue (by its fingerprint) in this size, fit and view."""
        made = (self.catalogue.fingerprint, self.size, self.fit, self.view)
        return made == (fingerprint, size, fit, view)

    def __len__(self) -> int:
        return int(self._pixels.shape[0])

    def rows(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Pixels:
        """Return images as uint8 (b, 3, size, size), a copy of its own; grey is repeated."""
        planes = self.planes(indices)
        return np.repeat(planes, 3, axis=1) if self.channels == 1 else planes

    def planes(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Pixels:
        """Return images as uint8 (b, channels, size, size) as stored: a third of ``rows`` where all are grey."""
        chosen: Pixels = self._pixels[np.asarray(indices, dtype=np.intp)]
        return np.asarray(chosen)

    def image(self, index: int) -> Pixels:
        """Return one image as uint8 (size, size, 3), for showing."""
        return np.ascontiguousarray(self.rows([index])[0].transpose(1, 2, 0))

    def __reduce__(self) -> tuple[Any, ...]:
        return PixelStore.open, (self.path,)


class PixelWriter:
    """Write side: append squares in order, then ``finish``; anything else leaves nothing behind.

    Starts with one channel. The first colour image widens what is written so far; no image is decoded again.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        self._channels, self._count = 1, 0
        self._draft: Path | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        with plain_disk_errors(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale_drafts(self._path)
            self._draft, self._file = self._new_draft()
        return self

    def append(self, square: Pixels) -> None:
        """Add one image, (size, size) or (size, size, 3).

        Raises:
            InputError: code "disk-full".
        """
        with plain_disk_errors(self._path.parent):
            if square.ndim == 3 and self._channels == 1:
                self._widen()
            planes = square[np.newaxis] if square.ndim == 2 else square.transpose(2, 0, 1)
            if planes.shape[0] < self._channels:
                planes = np.repeat(planes, self._channels, axis=0)
            self._open_file.write(np.ascontiguousarray(planes).data)
            self._count += 1

    def finish(self, catalogue: Catalogue, fit: str, view: DicomView = DEFAULT_VIEW) -> PixelStore:
        """Write the header, put the store in its place and open it.

        Args:
            catalogue: of as many items as images were appended, in the same order.
            fit: how the images were brought to a square.
            view: which frames of DICOM files were taken, and by which window.

        Raises:
            InputError: code "disk-full".
        """
        if len(catalogue.items) != self._count:
            raise ValueError(f"{len(catalogue.items)} items for {self._count} images")
        header = json.dumps(_header(catalogue, fit, view)).encode()
        file, draft = self._open_file, self._draft
        assert draft is not None
        with plain_disk_errors(self._path.parent):
            place = file.tell()
            file.write(header)
            file.flush()
            # The preamble goes in last: until then the file has no magic and opens as nothing.
            file.seek(0)
            file.write(_PREAMBLE.pack(_MAGIC, self._count, self._size, self._channels, place, len(header)))
            file.flush()
            os.fsync(file.fileno())
            draft.replace(self._path)
            self._draft = None
            file.close()
        return PixelStore.open(self._path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _discard(self._file, self._draft)

    @property
    def _open_file(self) -> IO[bytes]:
        if self._file is None:
            raise RuntimeError("the writer is not open")
        return self._file

    def _new_draft(self) -> tuple[Path, IO[bytes]]:
        while True:
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f"{self._path.name}.", suffix=".partial")
            file = os.fdopen(handle, "w+b", buffering=1 << 20)
            # Between its making and the lock another writer may have taken the draft for a stale one.
            if _lock(file) and Path(name).exists():
                file.write(b"\0" * _START)
                return Path(name), file
            _discard(file, Path(name))

    def _widen(self) -> None:
        """Rewrite the images so far with three channels."""
        self._channels = 3
        if self._count == 0:
            return
        old_draft, old = self._draft, self._open_file
        draft, file = self._new_draft()
        self._draft, self._file = draft, file
        try:
            old.seek(_START)
            plane = self._size * self._size
            for start in range(0, self._count, _CHUNK):
                count = min(_CHUNK, self._count - start)
                grey = np.frombuffer(old.read(count * plane), np.uint8).reshape(count, 1, plane)
                file.write(np.repeat(grey, 3, axis=1).data)
        finally:
            _discard(old, old_draft)


def _header(catalogue: Catalogue, fit: str, view: DicomView) -> dict[str, Any]:
    return {
        "fit": fit,
        "view": [view.frames, view.window],
        "fingerprint": catalogue.fingerprint,
        "digest": catalogue.digest,
        "layout": catalogue.layout,
        "classes": list(catalogue.classes),
        "from_table": list(catalogue.from_table),
        "items": [list(asdict(item).values()) for item in catalogue.items],
        "passed_over": [[entry.file, entry.reason, entry.label] for entry in catalogue.passed_over],
    }


def _catalogue(header: dict[str, Any]) -> Catalogue:
    return Catalogue(
        items=tuple(Item(*entry) for entry in header["items"]),
        classes=tuple(header["classes"]),
        passed_over=tuple(PassedOver(*entry) for entry in header["passed_over"]),
        layout=header["layout"],
        fingerprint=header["fingerprint"],
        digest=header["digest"],
        from_table=tuple(header.get("from_table", ())),
    )


def _discard(file: IO[bytes] | None, draft: Path | None) -> None:
    if draft is not None:
        draft.unlink(missing_ok=True)
    if file is not None:
        # On a full disk closing fails once more on what is still in the buffer; the file is gone already.
        with contextlib.suppress(OSError):
            file.close()


def _lock(file: IO[bytes]) -> bool:
    """Mark a draft as being written, as long as this process lives; False where another one holds it."""
    try:
        import fcntl
    except ImportError:  # Windows, where an open file cannot be removed by others anyway
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_stale_drafts(path: Path) -> None:
    """Remove drafts of writers that were killed: those that nobody holds."""
    for draft in path.parent.glob(f"{path.name}.*.partial"):
        with contextlib.suppress(OSError), draft.open("rb") as file:
            if _lock(file):
                draft.unlink()
