"""Cover rectangles of every frame of a DICOM file, and write it uncompressed.

Source: DICOM PS3.3, C.7.6.3 (image pixel module), C.7.5.1.1.2 (padding); PS3.5, A.2 (Explicit VR Little Endian).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import ExplicitVRLittleEndian

from wara.errors import InputError, UnreadableImage
from wara.imaging.dicom import DECODER_ERRORS, converts_itself, stored_frames
from wara.imaging.dicom_colour import show_palette
from wara.imaging.dicom_frame import first_number, frame_values
from wara.imaging.dicom_grey import show_grey
from wara.imaging.dicom_header import DAMAGED, Header
from wara.imaging.mask import covered, inside, not_without_loss
from wara.imaging.text_detector import Box

_FLOATS = ("FloatPixelData", "DoubleFloatPixelData")
# Small copies of the picture, drawings over it, and tables of where compressed frames begin.
_DROPPED = ("IconImageSequence", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelDataProviderURL")


def mask_dicom(content: bytes, name: str, rectangles: Sequence[Box], *, settled: bool) -> bytes:
    """Return the file with its rectangles in the darkest stored value, uncompressed (see ``wara.imaging.mask.mask``).

    Of a grey frame that is the value outside the rectangles that is shown darkest, padding left out: any other could
    change the range by which the frame is shown. Of a palette it is the darkest entry. Colours are written as RGB. The
    header stays, but for icons and overlays; BurnedInAnnotation becomes NO where ``settled``.

    Raises:
        UnreadableImage: as ``read_image``; float pixels, big-endian files, YBR of more than 8 bits (code "mask-kind").
        InputError: no rectangle covers a pixel.
    """
    try:
        header = Header(content, name)
        _refuse(header, name)
        boxes = inside(rectangles, header.columns, header.rows)
        hidden = covered(boxes, header.columns, header.rows)
        frames = [
            _masked(frame, header, number, hidden, name)
            for number, frame in enumerate(stored_frames(header, name, None))
        ]
        if len(frames) != header.frames:
            raise UnreadableImage("The DICOM file is cut short", seen=name, remedy=DAMAGED, code="truncated")
        return _written(header, np.stack(frames), settled=settled)
    except InputError:
        raise
    except DECODER_ERRORS:
        # From None: pydicom's own words can quote the header, and a log would keep them.
        raise UnreadableImage(
            "The DICOM file is damaged, or cannot be written again", seen=name, remedy=DAMAGED, code="damaged"
        ) from None


def _refuse(header: Header, name: str) -> None:
    if any(keyword in header.dataset for keyword in _FLOATS):
        raise not_without_loss(name, "its pixels are floating-point numbers")
    if not header.little_endian:
        raise not_without_loss(name, "it is written in the retired big-endian order")
    if converts_itself(header):
        raise not_without_loss(name, f"its colours are {header.photometric} of {header.bits} bits")


def _masked(
    frame: npt.NDArray[Any], header: Header, number: int, hidden: npt.NDArray[np.bool_], name: str
) -> npt.NDArray[Any]:
    masked = np.array(frame)
    if header.samples == 3:
        masked[hidden] = 0
    elif header.photometric == "PALETTE COLOR":
        masked[hidden] = _darkest_entry(header, masked.dtype)
    else:
        masked[hidden] = _darkest_value(masked, header, number, hidden, name)
    return masked


def _darkest_entry(header: Header, dtype: np.dtype[Any]) -> int:
    entries = np.arange(min(2**header.bits, 2**16), dtype=dtype)[np.newaxis]
    colours = show_palette(entries, header.dataset, header.little_endian)
    return int(entries[0, colours[0].astype(np.int64).sum(axis=1).argmin()])


def _darkest_value(
    frame: npt.NDArray[Any], header: Header, number: int, hidden: npt.NDArray[np.bool_], name: str
) -> int:
    values = frame_values(header.dataset, number)
    outside = np.unique(frame[~hidden] if not hidden.all() else frame)
    kept = _without_padding(outside, values)
    candidates = kept if kept.size else outside
    shown = show_grey(candidates[np.newaxis], values, 1, header.little_endian, name)[0][0].astype(np.int64)
    if header.photometric == "MONOCHROME1":
        shown = 255 - shown
    # Of all that are shown equally dark by this window, the one at the dark end is dark by any other window too.
    darkest = candidates[shown == shown.min()]
    return int(darkest[0] if shown[0] <= shown[-1] else darkest[-1])


def _without_padding(outside: npt.NDArray[Any], values: Any) -> npt.NDArray[Any]:
    padding = first_number(values.get("PixelPaddingValue"))
    if padding is None:
        return outside
    limit = first_number(values.get("PixelPaddingRangeLimit"))
    low, high = sorted((padding, padding if limit is None else limit))
    return outside[(outside < low) | (outside > high)]


def _written(header: Header, frames: npt.NDArray[Any], *, settled: bool) -> bytes:
    dataset = header.dataset
    for keyword in _DROPPED:
        if keyword in dataset:
            del dataset[keyword]
    for element in [element for element in dataset if element.tag.group & 0xFF01 == 0x6000]:
        del dataset[element.tag]
    dataset.BitsAllocated = frames.dtype.itemsize * 8
    if header.samples == 3:
        dataset.PhotometricInterpretation = "RGB"
        dataset.PlanarConfiguration = 0
    pixels = frames.astype(frames.dtype.newbyteorder("<"), copy=False).tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OB" if frames.dtype.itemsize == 1 else "OW"
    dataset["PixelData"].is_undefined_length = False
    if settled:
        dataset.BurnedInAnnotation = "NO"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.preamble = b"\0" * 128  # the 128 free bytes may hold a picture of another format
    file = io.BytesIO()
    dataset.save_as(file, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return file.getvalue()
