"""Packs: many small files in one upload, their names and sizes in front, their bytes one after the other.

A pack is one line of JSON, ``[["chest/NORMAL/1.png", 50123], ...]``, a line end, and the bytes of the files in that
order. A browser makes one of a thousand files without reading any (a Blob of Blobs), and it can be unpacked as it is
read; a zip would have the browser compute sums of every file first, and keeps its list at the far end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

from backend.problems import RequestRefused
from backend.settings import MEGABYTE

MAX_BYTES = 64 * MEGABYTE
MAX_FILES = 10_000
MAX_HEAD_BYTES = 4 * MEGABYTE
BLOCK_BYTES = MEGABYTE


def read_pack(file: IO[bytes], length: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield each file's name, as it was sent, and its bytes in blocks; blocks that nobody takes are skipped.

    Args:
        file: the pack, open at its beginning.
        length: its length in bytes.

    Raises:
        RequestRefused: 422 when it is no pack, or when the sizes in its list do not add up to its length.
    """
    head = file.readline(MAX_HEAD_BYTES)
    entries = _entries(head)
    if len(head) + sum(size for _, size in entries) != length:
        raise broken(f"sizes that add up to {sum(size for _, size in entries):,} of {length - len(head):,} bytes")
    position = len(head)
    for name, size in entries:
        file.seek(position)
        yield name, _blocks(file, size)
        position += size


def _entries(head: bytes) -> list[tuple[str, int]]:
    try:
        listed = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise broken("no list of files in its first line") from error
    good = (
        head.endswith(b"\n")
        and isinstance(listed, list)
        and 0 < len(listed) <= MAX_FILES
        and all(isinstance(entry, list) and len(entry) == 2 for entry in listed)
        and all(isinstance(name, str) and type(size) is int and size >= 0 for name, size in listed)
    )
    if not good:
        raise broken("a first line that is no list of names and sizes")
    return [(name, size) for name, size in listed]


def _blocks(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        block = file.read(min(size, BLOCK_BYTES))
        if not block:
            raise broken("fewer bytes than its list says")
        size -= len(block)
        yield block


def broken(seen: str) -> RequestRefused:
    """Return the 422 for a pack that cannot be read."""
    return RequestRefused(
        422,
        "A pack of files cannot be read",
        seen=seen,
        remedy='Begin it with one line of JSON, [["folder/file.png", bytes], ...], and the files in that order.',
        code="pack-broken",
    )
