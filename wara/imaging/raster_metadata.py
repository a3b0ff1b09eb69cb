"""Take EXIF, XMP, comments, places and times out of PNG, JPEG, TIFF, WebP and BMP; the coded pixels are not touched.

Sources: PNG (W3C, third edition, chapter 11), the WebP container (developers.google.com/speed/webp), ITU-T T.81.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from wara.errors import UnreadableImage
from wara.imaging.code_streams import exif_with_orientation, jpeg_head, strip_jpeg
from wara.imaging.raster import PILLOW_FORMATS, read_orientation
from wara.imaging.tiff_metadata import strip_tiff

# Beside the picture: transparency, colour, the shape of a pixel; and an animation's frames, so that it is still
# seen to be one and refused.
_PNG_KEPT = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs", b"cICP",
     b"acTL", b"fcTL", b"fdAT")
)  # fmt: skip
_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"ALPH", b"ICCP", b"ANIM"))
# Where an orientation can stand (EXIF, XMP); without any of these the file need not be opened to know that it has none.
_MAY_TURN = {
    "JPEG": (b"\xff\xe1",), "PNG": (b"eXIf", b"tEXt", b"zTXt", b"iTXt"), "WebP": (b"EXIF", b"XMP "),
}  # fmt: skip
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04
_DAMAGED = "Copy or export it again from where it came."


def strip_raster(content: bytes, name: str, kind: str) -> bytes:
    """Return a raster image with its pixels as they are coded, its colour profile and its orientation, nothing else.

    Args:
        content: the whole file. One that is cut short stays cut short, and is named when it is decoded.
        name: shown in errors.
        kind: the format that ``formats.sniff`` found.

    Raises:
        UnreadableImage: so damaged that nobody can say what in it is the picture.
    """
    try:
        match kind:
            case "PNG":
                return _strip_png(content, _orientation(content, kind))
            case "JPEG":
                return strip_jpeg(content, _orientation(content, kind))
            case "WebP":
                return _strip_webp(content, _orientation(content, kind))
            case "TIFF":
                return strip_tiff(content)
            case _:
                return _strip_bmp(content)
    except (ValueError, struct.error, IndexError, zlib.error) as error:
        raise UnreadableImage(f"The {kind} file is damaged", seen=name, remedy=_DAMAGED, code="damaged") from error


def _orientation(content: bytes, kind: str) -> int:
    """Return the orientation that decoding will find, from wherever it does; 1 where the file cannot be opened."""
    head = jpeg_head(content) if kind == "JPEG" else content
    if not any(mark in head for mark in _MAY_TURN[kind]):
        return 1
    try:
        with Image.open(io.BytesIO(content), formats=PILLOW_FORMATS[kind]) as image:
            return read_orientation(image)
    except Image.DecompressionBombError:
        return 1  # refused when it is decoded
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, RuntimeError):
        return 1  # named as damaged when it is decoded


def _strip_png(content: bytes, orientation: int) -> bytes:
    kept = [content[:8]]
    for kind, chunk, body in _png_chunks(content):
        if kind == b"iCCP":
            # The profile's name is free text; what follows is its compression and the profile.
            profile = body.partition(b"\0")[2]
            kept.append(_png_chunk(b"iCCP", b"ICC\0" + profile))
        elif kind in _PNG_KEPT:
            kept.append(chunk)
        if kind == b"IHDR" and orientation != 1:
            kept.append(_png_chunk(b"eXIf", exif_with_orientation(orientation)))
        if kind == b"IEND":
            break
    return b"".join(kept)


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield each chunk's type, the whole chunk and its body; the last may be cut short."""
    place = 8
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if not kind.isalpha():
            raise ValueError("no chunk where one must be")
        yield kind, content[place : place + 12 + length], content[place + 8 : place + 8 + length]
        place += 12 + length


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _strip_webp(content: bytes, orientation: int) -> bytes:
    kept: list[bytes] = []
    place, end = 12, min(len(content), 8 + struct.unpack_from("<I", content, 4)[0])
    exif = orientation != 1
    while place + 8 <= end:
        kind, length = struct.unpack_from("<4sI", content, place)
        chunk = content[place : place + 8 + length + length % 2]
        if kind == b"VP8X":
            flags = chunk[8] & ~(_WEBP_EXIF | _WEBP_XMP) | (_WEBP_EXIF if exif else 0)
            kept.append(chunk[:8] + bytes((flags,)) + chunk[9:])
        elif kind in _WEBP_KEPT:
            kept.append(chunk)
        elif kind == b"ANMF":
            kept.append(chunk)  # a frame of an animation, which is refused when it is decoded
        place += len(chunk)
    if exif:
        block = exif_with_orientation(orientation)
        kept.append(b"EXIF" + struct.pack("<I", len(block)) + block)
    # A file that is cut short says the length that it should have, so that decoding finds it cut short.
    size = sum(map(len, kept)) + 4
    missing = max(0, 8 + struct.unpack_from("<I", content, 4)[0] - len(content))
    return b"RIFF" + struct.pack("<I", size + missing) + b"WEBP" + b"".join(kept)


def _strip_bmp(content: bytes) -> bytes:
    """Drop what stands behind the pixels, and the name of a linked colour profile (Windows' BITMAPV5HEADER)."""
    offset, header = struct.unpack_from("<I", content, 10)[0], struct.unpack_from("<I", content, 14)[0]
    if header < 40:
        return content  # the oldest headers know neither profiles nor compression
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    rows = bytearray(content)
    if compression in (0, 3, 6):  # uncompressed: rows of whole 32-bit words
        rows = rows[: offset + (abs(width) * bits + 31) // 32 * 4 * abs(height)]
    if header >= 124 and rows[14 + 56 : 14 + 60] == b"KNIL":  # 'LINK', as a little-endian word
        start, size = struct.unpack_from("<II", rows, 14 + 112)
        rows[14 + start : 14 + start + size] = b"\0" * len(rows[14 + start : 14 + start + size])
    return bytes(rows)
