"""Deflated DICOM files, looked over before pydicom inflates them: it does so at once and without a limit.

Source: DICOM PS3.5, A.5 (Deflated Explicit VR Little Endian); PS3.10, 7.1 (file meta information).
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from wara.errors import UnreadableImage

MOST_BYTES = 1 << 30
_STEP = 1 << 22
_UID = DeflatedExplicitVRLittleEndian.encode()
# What pydicom raises for headers that are cut off or altered.
HEADER_ERRORS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, RuntimeError, struct.error,
    zlib.error, BytesLengthException, InvalidDicomError,
)  # fmt: skip


def is_deflated(file: BinaryIO) -> bool:
    """Whether pydicom would inflate a file; leaves it where the deflated part begins.

    That is found as pydicom finds it: lengths that the file states may lie.

    Raises:
        Exception: any of ``HEADER_ERRORS``.
    """
    read_preamble(file, force=True)
    return bool(_read_file_meta_info(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)


def refuse_inflation(data: bytes, name: str) -> None:
    """Refuse a deflated file that inflates beyond any image that is read.

    Raises:
        UnreadableImage: code "too-large".
        Exception: any of ``HEADER_ERRORS``.
    """
    file = io.BytesIO(data)
    if _UID not in data or not is_deflated(file):
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    left, inflated = data[file.tell() :], 0
    while left and not inflater.eof:
        inflated += len(inflater.decompress(left, _STEP))
        left = inflater.unconsumed_tail
        if inflated > MOST_BYTES:
            raise UnreadableImage(
                "The DICOM file inflates beyond reason", seen=name, remedy="Export it uncompressed.", code="too-large"
            )
