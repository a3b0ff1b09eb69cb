"""Take what is no picture out of JPEG and JPEG 2000 streams, without decoding: comments, EXIF, XMP, thumbnails.

Source: ITU-T T.81, Annex B (JPEG's marker segments); ITU-T T.871 (JFIF); ITU-T T.800, Annex A (JPEG 2000).
"""

from __future__ import annotations

import re
import struct

# The next marker after the coded picture. Inside it FF 00 is a plain FF and FF D0 to FF D7 are restarts (T.81,
# B.1.1.2); in JPEG-LS a byte below 80 follows a plain FF (T.87, Annex A).
_NEXT_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]", re.DOTALL)
_APP0, _APP1, _APP2, _APP8, _APP14, _APP15, _COM = 0xE0, 0xE1, 0xE2, 0xE8, 0xEE, 0xEF, 0xFE
_SOS, _EOI = 0xDA, 0xD9
_J2K_SIZ, _J2K_COM, _J2K_SOT = 0x51, 0x64, 0x90


def jpeg_head(data: bytes) -> bytes:
    """Return what stands before the coded picture of a JPEG, or all of it where its segments do not lead there."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _SOS:
            return data[:place]
        # FF is filling before a marker; the others of these have no length (T.81, B.1.1.3).
        alone = marker == 0x01 or 0xD0 <= marker <= 0xD8
        place += 1 if marker == 0xFF else 2 if alone else 2 + int.from_bytes(data[place + 2 : place + 4])
    return data


def strip_jpeg(data: bytes, orientation: int = 1) -> bytes:
    """Return a JPEG (also lossless and JPEG-LS) with its picture, its colour facts and nothing else.

    Kept: every segment that the picture needs, JFIF's header without its thumbnail, ICC profiles, Adobe's and
    JPEG-LS's marks of the colour transform. What stands behind the end of the picture goes too.

    Args:
        data: the stream, from its first byte FF D8. One that is cut short stays cut short.
        orientation: EXIF orientation (1 to 8) to be kept; 1 needs no mark.

    Raises:
        ValueError: the segments do not follow each other as they must.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError("no JPEG")
    kept = [data[:2]]
    if orientation != 1:
        kept.append(_segment(_APP1, b"Exif\0\0" + exif_with_orientation(orientation)))
    place = 2
    while place < len(data):
        if data[place] != 0xFF:
            raise ValueError("no marker where one must be")
        while place < len(data) and data[place] == 0xFF:  # a marker may be preceded by filling bytes
            place += 1
        if place >= len(data):
            break
        marker = data[place]
        place += 1
        if marker == _EOI:
            kept.append(b"\xff\xd9")
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            kept.append(bytes((0xFF, marker)))
            continue
        if place + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, place)
        if length < 2:
            raise ValueError("a segment without a length")
        body = data[place + 2 : place + length]
        if place + length > len(data):
            break  # cut short within a segment: what of it is here may be anything
        place += length
        kept.extend(_kept_segment(marker, body))
        if marker == _SOS:
            found = _NEXT_MARKER.search(data, place)
            end = found.start() if found else len(data)
            kept.append(data[place:end])
            place = end
    return b"".join(kept)


def _kept_segment(marker: int, body: bytes) -> list[bytes]:
    if marker == _APP0:
        # Version, units and densities; then the thumbnail's size (none) and no thumbnail.
        return [_segment(marker, body[:12] + b"\0\0")] if body.startswith(b"JFIF\0") and len(body) >= 12 else []
    if marker == _APP2:
        return [_segment(marker, body)] if body.startswith(b"ICC_PROFILE\0") else []
    if marker == _APP8:
        return [_segment(marker, body[:5])] if body.startswith(b"mrfx") else []
    if marker == _APP14:
        return [_segment(marker, body[:12])] if body.startswith(b"Adobe") else []
    if _APP0 <= marker <= _APP15 or marker == _COM:
        return []
    return [_segment(marker, body)]


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def exif_with_orientation(orientation: int) -> bytes:
    """Return an EXIF block (a TIFF header and one directory) that says the orientation and nothing else."""
    return b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def strip_jpeg2000(data: bytes) -> bytes:
    """Return a JPEG 2000 codestream without the comments of its main header and without boxes around it.

    Args:
        data: a codestream, or a JP2 file of which the codestream is taken.

    Raises:
        ValueError: there is no codestream, or its header is damaged.
    """
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise ValueError("no JPEG 2000 codestream")
    kept, place = [data[start : start + 2]], start + 2
    while data[place : place + 2] != bytes((0xFF, _J2K_SOT)):
        if place + 4 > len(data) or data[place] != 0xFF:
            raise ValueError("damaged header")
        (length,) = struct.unpack_from(">H", data, place + 2)
        if data[place + 1] != _J2K_COM:
            kept.append(data[place : place + 2 + length])
        place += 2 + length
    kept.append(data[place:])
    return b"".join(kept)
