"""Write a TIFF anew with its pixels as they are coded and the tags that decoding needs; every other byte goes.

Source: TIFF 6.0 (Adobe, 1992); BigTIFF's wider fields as libtiff reads and writes them. Tags that point to further
directories (EXIF, GPS, others) are not followed, and stray bytes between the parts are not copied.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from wara.imaging.code_streams import strip_jpeg

# NewSubfileType to Threshholding, FillOrder, the strips, resolution, planes, fax options, transfer, predictor, colours,
# tiles, extra samples, sample formats and ranges, JPEG tables, YCbCr, the ICC profile; and the orientation.
_KEPT = frozenset(
    (254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284, 292, 293, 296, 301, 317, 318,
     319, 320, 321, 322, 323, 324, 325, 338, 339, 340, 341, 347, 529, 530, 531, 532, 34675)
)  # fmt: skip
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325
_COMPRESSION, _JPEG_TABLES, _NEW_JPEG, _OLD_JPEG = 259, 347, 7, 6
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_PAGES = 10_000


@dataclass(frozen=True)
class _Form:
    """How numbers are written: the byte order and the width of offsets."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def entry_bytes(self) -> int:
        return 20 if self.big else 12

    @property
    def inline_bytes(self) -> int:
        return 8 if self.big else 4

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.big else "H")


Tags = dict[int, tuple[int, int, bytes]]


def strip_tiff(content: bytes) -> bytes:
    """Return a TIFF of the same pages, coded pixels, colours and orientation, and nothing else.

    Raises:
        ValueError: directories or pixels lie outside the file, or JPEG in the form that TIFF 6.0 gave up.
    """
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    form = _Form(order, struct.unpack_from(f"{order}H", content, 2)[0] == 43)
    start = 8 if form.big else 4
    (place,) = struct.unpack_from(form.offset, content, start)
    out = bytearray(content[: 4 + (4 if form.big else 0)] + b"\0" * (8 if form.big else 4))
    link, seen = start, set[int]()
    while place and place not in seen and len(seen) < _MOST_PAGES:
        seen.add(place)
        tags, place = _read_directory(content, form, place)
        link = _write_page(out, content, form, tags, link)
    if not seen:
        raise ValueError("no page")
    return bytes(out)


def _read_directory(content: bytes, form: _Form, place: int) -> tuple[Tags, int]:
    (number,) = struct.unpack_from(form.count, content, place)
    place += struct.calcsize(form.count)
    tags: Tags = {}
    for _ in range(number):
        tag, kind = struct.unpack_from(f"{form.order}HH", content, place)
        (count,) = struct.unpack_from(form.offset, content, place + 4)
        at = place + 4 + struct.calcsize(form.offset)
        size = _TYPE_BYTES.get(kind, 0) * count
        if size > form.inline_bytes:
            (at,) = struct.unpack_from(form.offset, content, at)
        if tag in _KEPT and kind in _TYPE_BYTES:
            tags[tag] = (kind, count, _slice(content, at, size))
        place += form.entry_bytes
    return tags, struct.unpack_from(form.offset, content, place)[0]


def _slice(content: bytes, start: int, size: int) -> bytes:
    if start + size > len(content):
        raise ValueError("a value lies outside the file")
    return content[start : start + size]


def _numbers(form: _Form, entry: tuple[int, int, bytes]) -> list[int]:
    kind, count, data = entry
    return list(struct.unpack(f"{form.order}{count}{_WHOLE[kind]}", data)) if kind in _WHOLE else []


def _write_page(out: bytearray, content: bytes, form: _Form, tags: Tags, link: int) -> int:
    """Append a page's pixels and its directory, set the link to it, and return where the next link stands."""
    compression = _numbers(form, tags[_COMPRESSION])[0] if _COMPRESSION in tags else 1
    if compression == _OLD_JPEG:
        raise ValueError("JPEG in the form that was given up")
    if _JPEG_TABLES in tags:
        data = strip_jpeg(tags[_JPEG_TABLES][2])
        tags[_JPEG_TABLES] = (7, len(data), data)
    for places, sizes in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
        if places in tags:
            _copy_pixels(out, content, form, tags, (places, sizes), compression == _NEW_JPEG)
    entries = []
    for tag, (kind, count, data) in sorted(tags.items()):
        value = data.ljust(form.inline_bytes, b"\0")
        if len(data) > form.inline_bytes:
            value = struct.pack(form.offset, _append(out, data))
        entries.append(struct.pack(f"{form.order}HH", tag, kind) + struct.pack(form.offset, count) + value)
    directory = struct.pack(form.count, len(entries)) + b"".join(entries)
    struct.pack_into(form.offset, out, link, _append(out, directory))
    next_link = len(out)
    out += struct.pack(form.offset, 0)
    return next_link


def _copy_pixels(out: bytearray, content: bytes, form: _Form, tags: Tags, pair: tuple[int, int], jpeg: bool) -> None:
    starts = _numbers(form, tags[pair[0]])
    # The count of bytes may be missing where there is one strip (TIFF 6.0 asks for it, old writers left it out).
    sizes = _numbers(form, tags[pair[1]]) if pair[1] in tags else [len(content) - starts[0]]
    if len(starts) != len(sizes):
        raise ValueError("strips without a length")
    new_starts, new_sizes = [], []
    for start, size in zip(starts, sizes, strict=True):
        # A strip may run beyond the end in a file that is cut short; decoding says so.
        data = content[start : start + size]
        stripped = strip_jpeg(data) if jpeg and data[:2] == b"\xff\xd8" else data
        new_starts.append(_append(out, stripped))
        new_sizes.append(len(stripped) + size - len(data))
    letter, kind = ("Q", 16) if form.big else ("I", 4)
    for tag, values in zip(pair, (new_starts, new_sizes), strict=True):
        tags[tag] = (kind, len(values), struct.pack(f"{form.order}{len(values)}{letter}", *values))


def _append(out: bytearray, data: bytes) -> int:
    """Append at an even place, as TIFF 6.0 asks, and return it."""
    out += b"\0" * (len(out) % 2)
    place = len(out)
    out += data
    return place
