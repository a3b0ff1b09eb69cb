"""Tell what a file is from its first bytes, and why one that is no readable image is not."""

from __future__ import annotations

import struct
from pathlib import PurePosixPath

from wara.errors import UnreadableImage

RASTER_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})
IMAGE_SUFFIXES = RASTER_SUFFIXES | DICOM_SUFFIXES
READABLE = "PNG, JPEG, TIFF, WebP, BMP or DICOM"

_OTHERS = (
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"\x1f\x8b", "a gzip-compressed file"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image outside DICOM"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image outside DICOM"),
    (b"NRRD", "an NRRD volume"),
    (b"\x89HDF", "an HDF5 file"),
    (b"8BPS", "a Photoshop file"),
    (b"SIMPLE  =", "a FITS image"),
)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is worth opening as an image.

    A name without a suffix, or with one of digits (``1.2.840.113619.2.5``), is often a DICOM file.
    """
    suffix = _suffix(name)
    return suffix in IMAGE_SUFFIXES or suffix == "" or suffix[1:].isdigit()


def is_raster_name(name: str) -> bool:
    """Whether a file of this name is a picture of a kind other than DICOM."""
    return _suffix(name) in RASTER_SUFFIXES


def _suffix(name: str) -> str:
    # As ``PurePosixPath(name).suffix``, which takes longer than all else here; this is asked of 100,000 names.
    file = name.rpartition("/")[2]
    dot = file.rfind(".")
    return file[dot:].lower() if 0 < dot < len(file) - 1 else ""


def sniff(data: bytes, name: str) -> str:
    """Return "PNG", "JPEG", "TIFF", "WebP", "BMP" or "DICOM" by the content, whatever the name says.

    Raises:
        UnreadableImage: the file is empty, text, or of a kind that is not read.
    """
    kind = _magic(data)
    if kind is not None:
        return kind
    if not data:
        raise UnreadableImage(
            "The file is empty", seen=name, remedy="Copy or export it again from where it came.", code="empty-file"
        )
    if _looks_like_bare_dicom(data):
        return "DICOM"
    for magic, what in _OTHERS:
        if data.startswith(magic):
            raise _unreadable(f"The file is {what}, which is not read", name)
    if data[4:12] in (b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1"):
        raise _unreadable("The file is a HEIC or AVIF photo, which is not read", name)
    if data[344:348] in (b"n+1\0", b"ni1\0"):
        raise _unreadable("The file is a NIfTI volume, which is not read", name)
    if b"<svg" in data[:1024] and _is_text(data[:1024]):
        raise _unreadable("The file is an SVG drawing, which is not read", name)
    if _is_text(data[:4096]):
        raise _unreadable("The file is a text file, not an image", name)
    if PurePosixPath(name).suffix.lower() in DICOM_SUFFIXES:
        return "DICOM"  # cut off before its first element, or not DICOM at all: the DICOM reader words it
    raise _unreadable("The file is not an image of a kind that is read, or its beginning is damaged", name)


def _unreadable(what: str, name: str) -> UnreadableImage:
    return UnreadableImage(what, seen=name, remedy=f"Export it as {READABLE}.", code="not-an-image")


def _magic(data: bytes) -> str | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        # A DICOM file may carry a TIFF header in its 128 free bytes (dual personality, PS3.10 Annex A).
        return "DICOM" if data[128:132] == b"DICM" else "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[:2] == b"BM" and len(data) >= 26 and data[6:10] == b"\0\0\0\0":
        return "BMP"
    return None


def _looks_like_bare_dicom(data: bytes) -> bool:
    """Whether the data starts with an element of group 2 or 8, as DICOM files without the preamble do."""
    if len(data) < 8:
        return False
    for order in ("<", ">"):
        group, element, length = struct.unpack_from(f"{order}HHI", data)
        known_vr = data[4:6] in (b"UL", b"UI", b"OB", b"CS", b"SH", b"LO", b"DA", b"TM")
        if group in (0x0002, 0x0008) and element <= 0x0070 and (known_vr or length <= 256):
            return True
    return False


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return True
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A multi-byte character may be cut at the end of the piece looked at.
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8")
    return bool(text) and all(character.isprintable() or character in "\r\n\t\f" for character in text)
