"""DICOM to pixels as radiologists see them, one frame at a time, by pydicom.

Rescale or modality table, then window or VOI table, then inversion where low values are bright; palettes and YBR
become RGB. Source: DICOM PS3.3, C.11.1, C.11.2, C.7.6.3.1.2, C.7.6.6 and C.7.6.16.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit

from wara.errors import UnreadableImage
from wara.imaging.burned_in import declared_in
from wara.imaging.dicom_colour import show_palette, to_8_bits, ybr_to_rgb
from wara.imaging.dicom_frame import frame_values, spacing_of
from wara.imaging.dicom_grey import show_grey
from wara.imaging.dicom_header import COMPRESSION, DAMAGED, Header
from wara.imaging.identity import pseudonym
from wara.imaging.image import DecodedImage, is_grey
from wara.imaging.quiet import silence_loggers
from wara.imaging.view import DicomView

silence_loggers()

# What pydicom and its decoders raise on damaged files, as seen on its own test files and by altering them.
DECODER_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    BytesLengthException,
    InvalidDicomError,
)
# Where several decoders know a compression, pydicom tries GDCM first, which prints on stderr for damaged data.
_DECODERS = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
}


def decode_dicom(data: bytes, name: str, view: DicomView, frame: int | None = None) -> DecodedImage:
    """Decode one frame of a DICOM file; ``pixels`` is (H, W) for greyscale, else (H, W, 3).

    Args:
        data: the whole file, with or without the 128-byte preamble.
        name: shown in errors. Nothing of the header is.
        view: the frame and the window to show; where "all" frames are chosen, the middle one.
        frame: the number of a frame, from 1; goes before the view's choice.

    Raises:
        UnreadableImage: no pixels, no such frame or window, an unknown kind of colour, damaged, or a compression
            that no decoder here knows.
        InputError: the key that hides patient IDs cannot be made.
    """
    header = _read(data, name)
    number = view.frame_of(header.frames) if frame is None else frame
    if not 1 <= number <= header.frames:
        raise UnreadableImage(
            f"The DICOM file has no frame number {number}",
            seen=f"{name}: it has {header.frames}",
            remedy=f"Name a frame from 1 to {header.frames}.",
            code="frame-missing",
        )
    return next(_decode(header, view, name, [number]))


def decode_frames(data: bytes, name: str, view: DicomView) -> Iterator[DecodedImage]:
    """Decode all frames of a DICOM file in their order; the file is read once and one frame is held at a time.

    Raises:
        UnreadableImage: as ``decode_dicom``; in the midst of the frames where one is damaged.
        InputError: as ``decode_dicom``.
    """
    header = _read(data, name)
    yield from _decode(header, view, name, None)


def _read(data: bytes, name: str) -> Header:
    try:
        return Header(data, name)
    except UnreadableImage:
        raise
    except DECODER_ERRORS:
        # From None, here and below: pydicom's own words can quote the header, and a log would keep them.
        raise UnreadableImage(
            "The DICOM file is damaged: its header cannot be read", seen=name, remedy=DAMAGED, code="damaged"
        ) from None


def _decode(header: Header, view: DicomView, name: str, numbers: list[int] | None) -> Iterator[DecodedImage]:
    """Yield frames by their numbers, all where none are given."""
    patient = pseudonym(header.patient_id)
    arrays = stored_frames(header, name, numbers)
    for number in range(1, header.frames + 1) if numbers is None else numbers:
        shown = name if header.frames == 1 else f"{name}, frame {number} of {header.frames}"
        try:
            image = _show(next(arrays), header, view, number, shown, patient)
        except UnreadableImage:
            raise
        except StopIteration:
            raise UnreadableImage("The DICOM file is cut short", seen=shown, remedy=DAMAGED, code="truncated") from None
        except MemoryError as error:
            raise UnreadableImage(
                "The image does not fit into memory", seen=name, remedy="Export it smaller.", code="too-large"
            ) from error
        except DECODER_ERRORS as error:
            raise _explain(error, header, shown) from None
        yield image


def stored_frames(header: Header, name: str, numbers: list[int] | None) -> Iterator[npt.NDArray[Any]]:
    """Yield the stored values of frames, (H, W) or (H, W, 3), YBR of 8 bits already as RGB."""
    options: dict[str, Any] = {}
    if converts_itself(header):
        options["raw"] = True
    if header.photometric == "YBR_PARTIAL_422":
        options["photometric_interpretation"] = "YBR_FULL_422"  # stored in the same order, which pydicom knows
    frames: Iterable[tuple[npt.NDArray[Any], dict[str, Any]]] = header.decoder(name).iter_array(
        header.dataset,
        # Without indices a compressed file is walked through once, where each index would search from its beginning.
        indices=None if numbers is None else [number - 1 for number in numbers],
        decoding_plugin=_DECODERS.get(header.syntax, ""),
        **options,
    )
    for stored, _ in frames:
        yield stored


def converts_itself(header: Header) -> bool:
    """Whether YBR is turned into RGB here: pydicom does so for the full range of 8 bits only."""
    full = header.photometric in ("YBR_FULL", "YBR_FULL_422") and header.bits > 8
    return full or header.photometric == "YBR_PARTIAL_422"


def _show(
    stored: npt.NDArray[Any], header: Header, view: DicomView, number: int, name: str, patient: str | None
) -> DecodedImage:
    values = frame_values(header.dataset, number - 1)
    window = None
    if header.photometric == "PALETTE COLOR":
        pixels = show_palette(stored, header.dataset, header.little_endian)
    elif header.samples == 3:
        if converts_itself(header):
            stored = ybr_to_rgb(stored, header.bits, partial=header.photometric == "YBR_PARTIAL_422")
        pixels = to_8_bits(stored, header.bits)
    else:
        pixels, window = show_grey(stored, values, view.window, header.little_endian, name)
        if header.photometric == "MONOCHROME1":
            pixels = 255 - pixels
    grey = pixels.ndim == 2 or is_grey(pixels)
    if grey and pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[..., 0])
    return DecodedImage(
        pixels, "DICOM", header.columns, header.rows, header.bits, grey, window, patient,
        spacing=spacing_of(values), frame=number, frames=header.frames, modality=header.modality,
        declared_text=declared_in(header.dataset).reason,
    )  # fmt: skip


def _explain(error: BaseException, header: Header, name: str) -> UnreadableImage:
    text = str(error).lower()
    if "less than" in text or "truncated" in text or "unexpected end" in text:
        return UnreadableImage("The DICOM file is cut short", seen=name, remedy=DAMAGED, code="truncated")
    if header.syntax.is_encapsulated:
        return UnreadableImage(
            f"The DICOM image cannot be decompressed ({header.syntax.name}): it is damaged or of a kind that is not "
            "read",
            seen=name,
            remedy=COMPRESSION,
            code="damaged",
        )
    return UnreadableImage("The DICOM file's image is damaged", seen=name, remedy=DAMAGED, code="damaged")
