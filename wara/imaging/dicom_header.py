"""What must be known of a DICOM file, and be sane, before its pixels are decoded; and the refusals without pixels.

Source: DICOM PS3.3, C.7.6.3 (image pixel module), C.7.6.6 (multi-frame module); PS3.10, 7.1 (file meta information).
"""

from __future__ import annotations

import io
import re

import pydicom
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
)

from wara.errors import UnreadableImage
from wara.imaging.dicom_inflate import refuse_inflation
from wara.imaging.dicom_kinds import without_pixels
from wara.imaging.image import MAX_PIXELS

DAMAGED = "Export it again from the archive it came from."
COMPRESSION = "Export it uncompressed, as JPEG 2000 or as lossless JPEG."
_VIDEO = "Export the frames that matter as single images."
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_YBR = ("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422")
_YBR_OF_JPEG_2000 = ("YBR_ICT", "YBR_RCT")


class Header:
    """One DICOM file, read and checked, its pixels not yet decoded.

    Attributes:
        dataset: all of it, with a transfer syntax.
        rows, columns: size of a frame in pixels.
        frames: number of frames, 1 where the file does not say.
        samples: 1 or 3 channels.
        bits: bits stored of a sample.
        photometric: the photometric interpretation; what is missing is taken as MONOCHROME2 or RGB.
        syntax: the transfer syntax.
        patient_id: as the file has it; never shown.
        modality: e.g. "CR"; None where there is none, or no code.
    """

    def __init__(self, data: bytes, name: str) -> None:
        """Read a file.

        Raises:
            UnreadableImage: no DICOM, no pixels, no size, too large, or colours of a kind that is not read.
            Exception: whatever pydicom raises on damaged headers.
        """
        refuse_inflation(data, name)
        self.dataset = dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        if not len(dataset):
            raise UnreadableImage("The file is not DICOM, or empty", seen=name, remedy=DAMAGED, code="not-an-image")
        if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
            raise UnreadableImage(
                f"The DICOM file {without_pixels(dataset)}",
                seen=name,
                remedy="Leave it out; export the image series instead.",
                code="no-pixels",
            )
        _set_transfer_syntax(dataset)
        self.syntax = _one_syntax(dataset)
        self.frames = max(1, int(dataset.get("NumberOfFrames") or 1))
        self.rows = int(dataset.get("Rows") or 0)
        self.columns = int(dataset.get("Columns") or 0)
        self.samples = int(dataset.get("SamplesPerPixel") or 1)
        self.bits = int(dataset.get("BitsStored") or dataset.get("BitsAllocated") or 8)
        written = str(dataset.get("PhotometricInterpretation") or "").strip()
        self.photometric = written or ("MONOCHROME2" if self.samples == 1 else "RGB")
        self.patient_id = str(dataset.get("PatientID") or "")
        # A code of up to 16 capitals (PS3.5, VR CS); anything else is not shown, for it may be anything.
        modality = str(dataset.get("Modality") or "").strip()
        self.modality = modality if re.fullmatch(r"[A-Z0-9_ ]{1,16}", modality) else None
        self._check_size(name)
        self._check_colours(name)

    @property
    def little_endian(self) -> bool:
        """Whether the file's bytes stand in little-endian order."""
        return bool(self.syntax.is_little_endian)

    def decoder(self, name: str) -> Decoder:
        """Return pydicom's decoder of the file's compression.

        Raises:
            UnreadableImage: there is none; code "compression".
        """
        try:
            decoder = get_decoder(self.syntax)
        except NotImplementedError:
            known = self.syntax.is_transfer_syntax
            video = known and any(word in self.syntax.name for word in ("MPEG", "HEVC", "Video"))
            kind = f"is a video ({self.syntax.name})" if video else "is compressed in a way that is not read"
            if known and not video:
                kind = f"{kind} ({self.syntax.name})"
            remedy = _VIDEO if video else COMPRESSION
            raise UnreadableImage(f"The DICOM file {kind}", seen=name, remedy=remedy, code="compression") from None
        if self.syntax == JPEGExtended12Bit and self.bits > 8:
            raise UnreadableImage(
                f"The DICOM image is compressed with {self.bits} bits in a way that is not read ({self.syntax.name})",
                seen=name,
                remedy=COMPRESSION,
                code="compression",
            )
        return decoder

    def _check_size(self, name: str) -> None:
        if self.rows < 1 or self.columns < 1:
            raise UnreadableImage(
                "The DICOM file does not say how large its image is",
                seen=f"{name}: {self.columns} x {self.rows}",
                remedy=DAMAGED,
                code="damaged",
            )
        if self.rows * self.columns > MAX_PIXELS:
            raise UnreadableImage(
                f"The image is larger than {MAX_PIXELS // 1_000_000} megapixels",
                seen=f"{name}: {self.columns} x {self.rows} pixels",
                remedy="Export it smaller; training uses a few hundred pixels a side.",
                code="too-large",
            )

    def _check_colours(self, name: str) -> None:
        if self.samples not in (1, 3):
            raise UnreadableImage(
                f"The image has {self.samples} channels; only greyscale (1) and colour (3) are read",
                seen=name,
                remedy="Export it as greyscale or RGB.",
                code="channels",
            )
        expected = (*_GREY, "PALETTE COLOR") if self.samples == 1 else ("RGB", *_YBR)
        if self.samples == 3 and self.syntax in JPEG2000TransferSyntaxes:
            expected = (*expected, *_YBR_OF_JPEG_2000)
        if self.photometric not in expected:
            raise UnreadableImage(
                f"The DICOM image has {'one channel' if self.samples == 1 else 'three channels'} of a meaning that is "
                f"not read there; known are {', '.join(expected)}",
                seen=f"{name}: {self.photometric[:16]}",
                remedy="Export it as greyscale or RGB.",
                code="photometric",
            )


def _one_syntax(dataset: pydicom.Dataset) -> UID:
    syntax = dataset.file_meta.TransferSyntaxUID
    if not isinstance(syntax, UID):  # several at once, or no text
        raise ValueError("no transfer syntax")
    return syntax


def _set_transfer_syntax(dataset: pydicom.Dataset) -> None:
    """Give files without the file meta group the transfer syntax that their bytes were read by."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
