"""Single-frame DICOM to pixels, by pydicom: rescale, window, then inversion where low values are bright.

Source: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT and window), C.7.6.3.1.2 (photometric interpretation).
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)

from wara.errors import UnreadableImage
from wara.imaging.identity import pseudonym
from wara.imaging.image import MAX_PIXELS, DecodedImage, Pixels, finite_range, is_grey, to_uint8
from wara.imaging.quiet import silence_loggers

silence_loggers()

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

# What pydicom and its decoders raise on damaged files, as seen on its own test files and by altering them.
_DECODER_ERRORS = (
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
_MAX_INFLATED_BYTES = 1 << 30
_DAMAGED = "Export it again from the archive it came from."


def decode_dicom(data: bytes, name: str) -> DecodedImage:
    """Decode one DICOM file; ``pixels`` is (H, W) for greyscale, else (H, W, 3).

    Args:
        data: the whole file, with or without the 128-byte preamble.
        name: shown in errors. Nothing of the header is.

    Raises:
        UnreadableImage: no pixels, several frames, an unknown count of channels, damaged, or a compression that
            no decoder here knows.
        InputError: the key that hides patient IDs cannot be made.
    """
    try:
        _refuse_deflated_bomb(data, name)
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        facts = _Facts(dataset, name)
    except UnreadableImage:
        raise
    except _DECODER_ERRORS:
        # From None, here and below: pydicom's own words can quote the header, and a log would keep them.
        raise UnreadableImage(
            "The DICOM file is damaged: its header cannot be read", seen=name, remedy=_DAMAGED, code="damaged"
        ) from None
    try:
        pixels, window = _render(dataset, facts)
    except MemoryError as error:
        raise UnreadableImage(
            "The image does not fit into memory", seen=name, remedy="Export it smaller.", code="too-large"
        ) from error
    except _DECODER_ERRORS as error:
        raise _explain(error, dataset, name) from None
    grey = pixels.ndim == 2 or is_grey(pixels)
    if grey and pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[..., 0])
    return DecodedImage(
        pixels,
        "DICOM",
        facts.columns,
        facts.rows,
        facts.bits,
        grey,
        window,
        pseudonym(facts.patient_id),
        facts.modality,
    )


def _refuse_deflated_bomb(data: bytes, name: str) -> None:
    """Refuse a deflated file that inflates beyond any image that is read: pydicom inflates without a limit."""
    if data[128:136] != b"DICM\x02\0\0\0" or len(data) < 144:
        return
    end = 144 + int.from_bytes(data[140:144], "little")  # (0002,0000), the length of the file meta group
    if DeflatedExplicitVRLittleEndian.encode() not in data[144:end]:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(data[end:], _MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise UnreadableImage(
            "The DICOM file inflates beyond reason", seen=name, remedy="Export it uncompressed.", code="too-large"
        )


class _Facts:
    """The few numbers that must be known, and be sane, before anything is decoded."""

    def __init__(self, dataset: pydicom.Dataset, name: str) -> None:
        if not len(dataset):
            raise UnreadableImage("The file is not DICOM, or empty", seen=name, remedy=_DAMAGED, code="not-an-image")
        if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
            what = "describes an image but holds no pixels" if "Rows" in dataset else f"holds no image{_kind(dataset)}"
            raise UnreadableImage(
                f"The DICOM file {what}",
                seen=name,
                remedy="Leave it out; export the image series instead.",
                code="no-pixels",
            )
        frames = int(dataset.get("NumberOfFrames") or 1)
        if frames != 1:
            raise UnreadableImage(
                f"The DICOM file has {frames} frames; only single-frame files are read for now",
                seen=name,
                remedy="Export the frames as single files.",
                code="multi-frame",
            )
        self.rows = int(dataset.get("Rows") or 0)
        self.columns = int(dataset.get("Columns") or 0)
        if self.rows < 1 or self.columns < 1:
            raise UnreadableImage(
                "The DICOM file does not say how large its image is",
                seen=f"{name}: {self.columns} x {self.rows}",
                remedy=_DAMAGED,
                code="damaged",
            )
        if self.rows * self.columns > MAX_PIXELS:
            raise UnreadableImage(
                f"The image is larger than {MAX_PIXELS // 1_000_000} megapixels",
                seen=f"{name}: {self.columns} x {self.rows} pixels",
                remedy="Export it smaller; training uses a few hundred pixels a side.",
                code="too-large",
            )
        self.samples = int(dataset.get("SamplesPerPixel") or 1)
        if self.samples not in (1, 3):
            raise UnreadableImage(
                f"The image has {self.samples} channels; only greyscale (1) and colour (3) are read",
                seen=name,
                remedy="Export it as greyscale or RGB.",
                code="channels",
            )
        self.bits = int(dataset.get("BitsStored") or dataset.get("BitsAllocated") or 8)
        self.patient_id = str(dataset.get("PatientID") or "")
        # A code of up to 16 capitals (PS3.5, VR CS); anything else is not shown, for it may be anything.
        modality = str(dataset.get("Modality") or "").strip()
        self.modality = modality if re.fullmatch(r"[A-Z0-9_ ]{1,16}", modality) else None


def _kind(dataset: pydicom.Dataset) -> str:
    """Say what a file without pixels is, by its modality (never by words of the header)."""
    known = {
        "SR": "a structured report",
        "RTSTRUCT": "radiotherapy contours",
        "RTPLAN": "a radiotherapy plan",
        "PR": "a presentation state",
        "KO": "a list of key images",
        "ECG": "a waveform",
        "DOC": "a document",
        "REG": "a registration",
    }
    if "DirectoryRecordSequence" in dataset:
        return " (it is a DICOMDIR, the index of a disc)"
    what = known.get(str(dataset.get("Modality") or ""))
    return f" (it is {what})" if what else ""


def _render(dataset: pydicom.Dataset, facts: _Facts) -> tuple[Pixels, tuple[float, float] | None]:
    _set_transfer_syntax(dataset)
    photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2").strip()
    decoder = _DECODERS.get(dataset.file_meta.TransferSyntaxUID, "")
    stored = pixel_array(dataset, decoding_plugin=decoder)  # YBR becomes RGB here
    if photometric == "PALETTE COLOR":
        return _to_8_bits(apply_color_lut(stored, dataset), 16 if _palette_bits(dataset) > 8 else 8), None
    if facts.samples == 3:
        return _to_8_bits(stored, facts.bits), None
    plane, window = _window(stored, dataset)
    if photometric == "MONOCHROME1":
        plane = 255 - plane
    return plane, window


def _set_transfer_syntax(dataset: pydicom.Dataset) -> None:
    """Give files without the file meta group the transfer syntax that their bytes were read by."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _palette_bits(dataset: pydicom.Dataset) -> int:
    descriptor = dataset.get("RedPaletteColorLookupTableDescriptor")
    return int(descriptor[2]) if descriptor else 16


def _to_8_bits(pixels: npt.NDArray[Any], bits: int) -> Pixels:
    """Colour: the whole range of the stored bits onto 0 to 255, so that files of one series stay comparable."""
    if pixels.dtype == np.uint8 and bits == 8:
        return pixels
    return to_uint8(pixels.astype(np.float32), 0.0, float(2**bits - 1))


def _window(stored: npt.NDArray[Any], dataset: pydicom.Dataset) -> tuple[Pixels, tuple[float, float] | None]:
    values = _rescale(stored, dataset)
    if "VOILUTSequence" in dataset and dataset.VOILUTSequence:
        return _look_up(values, dataset.VOILUTSequence[0], _is_little_endian(dataset)), None
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    # A width below 1 is invalid for LINEAR (C.11.2.1.2), and so is 0 for the others: some writers leave 0 for "none".
    if centre is not None and width is not None and (width >= 1 or (function != "LINEAR" and width > 0)):
        return apply_window(values, centre, width, function), (centre, width)
    return to_uint8(values, *_range_without_padding(stored, values, dataset)), None


def apply_window(values: npt.NDArray[np.float32], centre: float, width: float, function: str = "LINEAR") -> Pixels:
    """Map values to uint8 by a DICOM window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Args:
        values: the values after the rescale, of any shape.
        centre: window centre, in the same units.
        width: window width; at least 1 for LINEAR, more than 0 otherwise.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID"; another word is taken as LINEAR.
    """
    if function == "SIGMOID":
        curve = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - np.float32(centre)) / np.float32(width), -80, 80)))
        return to_uint8(curve.astype(np.float32), 0.0, 1.0)
    if function == "LINEAR_EXACT":
        return to_uint8(values, centre - width / 2, centre + width / 2)
    if width == 1:
        return np.where(values > centre - 0.5, 255, 0).astype(np.uint8)
    return to_uint8(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _look_up(values: npt.NDArray[np.float32], table: pydicom.Dataset, little_endian: bool) -> Pixels:
    """Map values by a VOI LUT (C.11.2.1.1) onto 0 to 255; beyond its ends the first and the last entry hold.

    Not pydicom's ``apply_voi``: it wraps values that lie beyond the range of the table's own integers, and refuses
    8-bit entries packed two to a word.
    """
    count, first, bits = (int(number) for number in table.LUTDescriptor)
    count = count or 2**16
    data = table.LUTData
    if isinstance(data, bytes):
        width = "u1" if len(data) < 2 * count else "<u2" if little_endian else ">u2"
        entries = np.frombuffer(data, dtype=width)[:count]
    else:
        entries = np.atleast_1d(np.asarray(data))[:count]
    scaled = to_uint8(entries.astype(np.float32), 0.0, float(2**bits - 1))
    places = np.clip(np.nan_to_num(np.rint(values)) - first, 0, len(scaled) - 1).astype(np.intp)
    looked_up: Pixels = scaled[places]
    return looked_up


def _is_little_endian(dataset: pydicom.Dataset) -> bool:
    return bool(dataset.file_meta.TransferSyntaxUID.is_little_endian)


def _rescale(stored: npt.NDArray[Any], dataset: pydicom.Dataset) -> npt.NDArray[np.float32]:
    if "ModalityLUTSequence" in dataset and dataset.ModalityLUTSequence:
        return np.asarray(apply_modality_lut(stored, dataset)).astype(np.float32)
    values = stored.astype(np.float32)
    slope, intercept = _first(dataset.get("RescaleSlope")), _first(dataset.get("RescaleIntercept"))
    if slope is not None and slope != 0:
        values *= np.float32(slope)
    if intercept is not None:
        values += np.float32(intercept)
    return values


def _range_without_padding(
    stored: npt.NDArray[Any], values: npt.NDArray[np.float32], dataset: pydicom.Dataset
) -> tuple[float, float]:
    """Smallest and largest value, the padding around the image left out (C.7.5.1.1.2): it would take the range."""
    padding = _first(dataset.get("PixelPaddingValue"))
    if padding is None:
        return finite_range(values)
    limit = _first(dataset.get("PixelPaddingRangeLimit"))
    low, high = sorted((padding, padding if limit is None else limit))
    image = values[(stored < low) | (stored > high)]
    return finite_range(image) if image.size else (0.0, 0.0)


def _first(value: Any) -> float | None:
    """Return a decimal string element as a number, its first value where it holds several."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) and hasattr(value, "__len__"):
        return _first(value[0]) if len(value) else None
    number = float(value)
    return number if np.isfinite(number) else None


def _explain(error: BaseException, dataset: pydicom.Dataset, name: str) -> UnreadableImage:
    text = str(error).lower()
    if "less than" in text or "truncated" in text or "unexpected end" in text:
        return UnreadableImage("The DICOM file is cut short", seen=name, remedy=_DAMAGED, code="truncated")
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is not None and syntax.is_transfer_syntax and syntax.is_encapsulated:
        return UnreadableImage(
            f"The DICOM image cannot be decompressed ({syntax.name}): it is damaged or of a kind that is not read",
            seen=name,
            remedy="Export it uncompressed, as JPEG 2000 or as lossless JPEG.",
            code="damaged",
        )
    return UnreadableImage("The DICOM file's image is damaged", seen=name, remedy=_DAMAGED, code="damaged")
