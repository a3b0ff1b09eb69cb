"""Thumbnails: the check makes them while an image's pixels are there; one that is missing is made when asked for.

Each lies under the digest of what it shows, so that it stays true whatever number, name or label its image gets. All of
a data set are in one file: to make a file of its own costs more than to make the thumbnail.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from backend import decoding
from wara.data.items import Item
from wara.data.sources import open_source

THUMBNAILS_FILE = "thumbnails.db"
THUMBNAIL_PIXELS = 256
THUMBNAIL_TYPE = "image/jpeg"

# Earlier versions kept each in a file of its own.
_FORMER_FOLDER = "thumbnails"
_WAIT_S = 10.0
_TABLE = "CREATE TABLE IF NOT EXISTS thumbnails (digest TEXT PRIMARY KEY, picture BLOB NOT NULL)"


@contextlib.contextmanager
def keeper(folder: Path) -> Iterator[Callable[[str, bytes], None]]:
    """Give what writes a thumbnail, given with its image's digest, into a data set's folder; from any thread.

    For a check alone: nobody reads them before it ends, and one that is ended half-way begins anew.
    """
    remove_thumbnails(folder)
    lock = threading.Lock()
    with contextlib.ExitStack() as stack:
        try:
            shelf = stack.enter_context(_opened(folder))
            shelf.execute("PRAGMA page_size = 16384")  # a thumbnail in one page, or in two
            shelf.execute(_TABLE)
        except sqlite3.Error:  # the data set was deleted meanwhile, or the disk is full
            yield lambda digest, content: None
            return

        def keep(digest: str, content: bytes) -> None:
            with lock, contextlib.suppress(sqlite3.Error):  # it is made again when it is asked for
                shelf.execute("INSERT OR REPLACE INTO thumbnails VALUES (?, ?)", (digest, content))

        yield keep
        with contextlib.suppress(sqlite3.Error):
            shelf.commit()


def thumbnail(folder: Path, source: Path, item: Item) -> bytes:
    """Return an image's thumbnail, and keep it where it was not there yet.

    Args:
        folder: the data set's folder.
        source: what holds its images.
        item: of the catalogue as it was checked.

    Raises:
        UnreadableImage: the image cannot be decoded any more.
        InputError: its file cannot be read.
    """
    kept = _kept(folder, item.digest) if item.digest else None
    if kept is not None:
        return kept
    with open_source(source) as opened:
        content = opened.read(item.path)
    seen = next(decoding.shared().see(content, item.file, frame=item.frame, thumbnail=THUMBNAIL_PIXELS))
    made = seen.thumbnail or b""
    if item.digest:
        with contextlib.suppress(sqlite3.Error), _opened(folder) as shelf:  # as above
            shelf.execute(_TABLE)
            shelf.execute("INSERT OR REPLACE INTO thumbnails VALUES (?, ?)", (item.digest, made))
            shelf.commit()
    return made


def forget_thumbnails(folder: Path, items: Iterable[Item]) -> None:
    """Remove those of some images, and what they showed from the disk; all of them where that fails."""
    shutil.rmtree(folder / _FORMER_FOLDER, ignore_errors=True)
    if not (folder / THUMBNAILS_FILE).exists():
        return
    try:
        with _opened(folder) as shelf:
            # What is deleted would stay in the file until its place is needed.
            shelf.execute("PRAGMA secure_delete = ON")
            shelf.execute(_TABLE)
            shelf.executemany("DELETE FROM thumbnails WHERE digest = ?", [(item.digest,) for item in items])
            shelf.commit()
    except sqlite3.Error:
        remove_thumbnails(folder)


def remove_thumbnails(folder: Path) -> None:
    """Remove all thumbnails of a data set."""
    with contextlib.suppress(OSError):  # still open, where that keeps a file in its place
        (folder / THUMBNAILS_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / _FORMER_FOLDER, ignore_errors=True)


def _kept(folder: Path, digest: str) -> bytes | None:
    path = folder / THUMBNAILS_FILE
    if not path.exists():
        return None
    try:
        with _opened(folder) as shelf:
            row = shelf.execute("SELECT picture FROM thumbnails WHERE digest = ?", (digest,)).fetchone()
    except sqlite3.OperationalError:  # somebody writes for very long, or the data set was deleted meanwhile
        return None
    except sqlite3.DatabaseError:  # damaged; all of it can be made again
        remove_thumbnails(folder)
        return None
    return None if row is None else bytes(row[0])


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """Give the file of a data set's thumbnails; nothing waits for the disk, for all of it can be made again."""
    shelf = sqlite3.connect(folder / THUMBNAILS_FILE, timeout=_WAIT_S, check_same_thread=False)
    try:
        shelf.execute("PRAGMA synchronous = OFF")
        # What is overwritten is not to lie in a second file.
        shelf.execute("PRAGMA journal_mode = MEMORY")
        yield shelf
    finally:
        shelf.close()
