"""Thumbnails: the check makes them while an image's pixels are there; one that is missing is made when asked for.

Each lies under the digest of what it shows, so that it stays true whatever number, name or label its image gets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from backend import decoding
from backend.storage import write_atomically
from wara.data.items import Item
from wara.data.sources import open_source

THUMBNAILS_FOLDER = "thumbnails"
THUMBNAIL_PIXELS = 256
THUMBNAIL_TYPE = "image/jpeg"


def keeper(folder: Path) -> Callable[[str, bytes], None]:
    """Return what writes a thumbnail, given with its image's digest, into a data set's folder.

    For a check alone: nobody reads them before it ends, and one that is ended half-way begins anew.
    """
    root = folder / THUMBNAILS_FOLDER
    with contextlib.suppress(OSError):  # the data set was deleted meanwhile
        root.mkdir(mode=0o700, exist_ok=True)

    def keep(digest: str, content: bytes) -> None:
        with contextlib.suppress(OSError):  # it is made again when it is asked for
            _path(root, digest).write_bytes(content)

    return keep


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
    with contextlib.suppress(FileNotFoundError):
        if item.digest:
            return _path(folder / THUMBNAILS_FOLDER, item.digest).read_bytes()
    with open_source(source) as opened:
        content = opened.read(item.path)
    seen = next(decoding.shared().see(content, item.file, frame=item.frame, thumbnail=THUMBNAIL_PIXELS))
    made = seen.thumbnail or b""
    if item.digest:
        root = folder / THUMBNAILS_FOLDER
        with contextlib.suppress(OSError):  # the data set was deleted meanwhile, or the disk is full
            root.mkdir(mode=0o700, exist_ok=True)
            write_atomically(_path(root, item.digest), made)
    return made


def forget_thumbnails(folder: Path, items: Iterable[tuple[int, Item]]) -> None:
    """Remove those of images, given with their numbers in the catalogue as it was; earlier versions kept by these."""
    root = folder / THUMBNAILS_FOLDER
    for number, item in items:
        (root / f"{number}.webp").unlink(missing_ok=True)
        if item.digest:
            _path(root, item.digest).unlink(missing_ok=True)


def _path(root: Path, digest: str) -> Path:
    return root / f"{digest}.jpg"
