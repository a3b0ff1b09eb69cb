"""PNG and TIFF files by hand, of kinds that Pillow reads but does not write."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_PNG_KINDS = {1: 0, 3: 2, 2: 4, 4: 6}
_CODES = {1: "B", 3: "H", 4: "I"}


def png(values: np.ndarray, *chunks: tuple[bytes, bytes], bits: int = 16) -> bytes:
    """Return a PNG of (H, W) or (H, W, channels); ``bits`` below 8 packs grey values."""
    planes = values if values.ndim == 3 else values[..., np.newaxis]
    if bits < 8:
        ones = np.unpackbits(planes.astype(np.uint8), axis=2)[..., 8 - bits :]
        rows = [np.packbits(row.ravel()).tobytes() for row in ones]
    else:
        rows = [row.astype(f">u{bits // 8}").tobytes() for row in planes]
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, _PNG_KINDS[planes.shape[2]], 0, 0, 0)
    image = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", head), *chunks, (b"IDAT", image), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff(
    values: np.ndarray, *, order: str = "<", planes: bool = False, compressed: bool = False, extra: int | None = None,
    orientation: int = 1,
) -> bytes:  # fmt: skip
    """Return a TIFF of one strip (one a plane) of (H, W) or (H, W, channels), its sample format that of the values."""
    stacked = values if values.ndim == 3 else values[..., np.newaxis]
    height, width, channels = stacked.shape
    ordered = stacked.astype(stacked.dtype.newbyteorder(order))
    strips = [ordered[..., n].tobytes() for n in range(channels)] if planes else [ordered.tobytes()]
    strips = [zlib.compress(strip) for strip in strips] if compressed else strips
    places = [8 + sum(len(strip) for strip in strips[:n]) for n in range(len(strips))]
    tags: dict[int, tuple[int, list[int]]] = {
        256: (3, [width]), 257: (3, [height]), 258: (3, [8 * values.dtype.itemsize] * channels),
        259: (3, [8 if compressed else 1]), 262: (3, [2 if channels > 2 else 1]), 273: (4, places),
        274: (3, [orientation]), 277: (3, [channels]), 278: (3, [height]), 279: (4, [len(strip) for strip in strips]),
        284: (3, [2 if planes else 1]), 339: (3, [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * channels),
    }  # fmt: skip
    if extra is not None:
        tags[338] = (3, [extra])
    body = b"".join(strips)
    body += b"\0" * (len(body) % 2)
    entries = b""
    for tag, (kind, numbers) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(numbers)}{_CODES[kind]}", *numbers)
        if len(value) > 4:
            body, value = body + value, struct.pack(f"{order}I", 8 + len(body))
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + value.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
