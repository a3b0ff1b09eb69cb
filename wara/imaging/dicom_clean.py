"""Write a new DICOM file from an allow-list of another one's attributes; the pixels are copied as they are stored."""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    SecondaryCaptureImageStorage,
)

from wara.errors import InputError, UnreadableImage
from wara.imaging.code_streams import strip_jpeg, strip_jpeg2000
from wara.imaging.dicom_frame import with_point
from wara.imaging.dicom_identifiers import age_band, identifiers_of
from wara.imaging.dicom_inflate import HEADER_ERRORS, refuse_inflation
from wara.imaging.dicom_keep import CODING_SCHEMES, KEEP, PIXEL_KEYWORDS, Binary, Code, Group, Numbers, Rule, Terms
from wara.imaging.identity import CODED, keyed_uid, pseudonym
from wara.imaging.names_in_paths import Identifiers
from wara.imaging.quiet import silence_loggers
from wara.imaging.read import check_image

silence_loggers()

METHOD = "WaRA Studio: allow-list, after PS3.15 Annex E"
_PROFILE = ("113100", "Basic Application Confidentiality Profile")
_CHARACTERISTICS = ("113108", "Retain Patient Characteristics Option")
_IMAGE_CLASSES = "1.2.840.10008.5.1.4.1.1."
_UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
# Attributes of type 2 in the modules of patient and study (PS3.3 C.7.1.1, C.7.2.1): they must be there, and are empty.
_EMPTY = ("PatientName", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
          "ReferringPhysicianName")  # fmt: skip
_NUMBER_VRS = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "DS", "IS", "UV", "SV", "AT"})
_BINARY_VRS = frozenset({"OB", "OW", "OF", "OD", "OV", "US", "SS", "UN"})
_CODE_VALUE = re.compile(r"[A-Z]{0,4}-?[0-9A-F]{2,18}")
_DAMAGED = "Export it again from the archive it came from."
# What pydicom raises on damaged headers, as seen on its own test files.


def clean_dicom(content: bytes, name: str, age_years: int | None = None) -> tuple[bytes, Identifiers]:
    """Return a new DICOM file (PS3.10) and the identifiers that the old one held.

    Args:
        content: the whole file, with or without the 128-byte preamble.
        name: shown in errors. Nothing of the header is.
        age_years: keep the sex, and the age in bands of this many years; None keeps neither.

    Raises:
        UnreadableImage: no pixels, a damaged header, or a transfer syntax that is not DICOM's own.
        InputError: the key that hides patient IDs can be neither read nor made.
    """
    try:
        refuse_inflation(content, name)
        original = pydicom.dcmread(io.BytesIO(content), force=True)
        if not any(keyword in original for keyword in PIXEL_KEYWORDS):
            check_image(content, name)  # says what the file is instead
            raise UnreadableImage("The DICOM file holds no image", seen=name, remedy="Leave it out.", code="no-pixels")
        return _clean(original, content, name, age_years), identifiers_of(original)
    except InputError:
        raise
    except HEADER_ERRORS:
        # From None: pydicom's own words can quote the header, and a log would keep them.
        raise UnreadableImage(
            "The DICOM file is damaged: its header cannot be read", seen=name, remedy=_DAMAGED, code="damaged"
        ) from None


def read_identifiers(content: bytes) -> Identifiers:
    """Return the identifiers of a header; none where it cannot be read."""
    try:
        refuse_inflation(content, "")
        return identifiers_of(pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, force=True))
    except HEADER_ERRORS:
        return Identifiers()


def _clean(original: Dataset, content: bytes, name: str, age_years: int | None) -> bytes:
    syntax = _transfer_syntax(original, name)
    kept = Dataset()
    for keyword, rule in KEEP.items():
        _keep(original, kept, keyword, rule)
    _clean_pixels(kept, syntax)
    for keyword in _UIDS:
        if original.get(keyword):
            setattr(kept, keyword, keyed_uid(str(original[keyword].value)))
    if "SOPInstanceUID" not in kept:
        kept.SOPInstanceUID = keyed_uid(hashlib.blake2b(content, digest_size=16).hexdigest())
    written = str(original.get("SOPClassUID") or "")
    kept.SOPClassUID = UID(written) if written.startswith(_IMAGE_CLASSES) else SecondaryCaptureImageStorage
    for keyword in _EMPTY:
        setattr(kept, keyword, "")
    code = pseudonym(str(original.get("PatientID") or ""))
    kept.PatientID = f"{CODED}{code}" if code else ""
    kept.PatientSex = _sex(original) if age_years is not None else ""
    if age_years is not None and (age := age_band(original, age_years)) is not None:
        kept.PatientAge = f"{age:03d}Y"
    _say_what_was_done(kept, age_years is not None)
    kept.file_meta = FileMetaDataset()
    kept.file_meta.TransferSyntaxUID = syntax
    kept.file_meta.MediaStorageSOPClassUID = kept.SOPClassUID
    kept.file_meta.MediaStorageSOPInstanceUID = kept.SOPInstanceUID
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, kept, enforce_file_format=True)
    return buffer.getvalue()


def _transfer_syntax(dataset: Dataset, name: str) -> UID:
    meta = getattr(dataset, "file_meta", None)
    written = getattr(meta, "TransferSyntaxUID", None) if meta is not None else None
    if written is None:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        return UID(ImplicitVRLittleEndian if implicit else explicit)
    syntax = UID(written)
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise UnreadableImage(
            "The DICOM file is written in a way that is not DICOM's own",
            seen=name,
            remedy="Export it uncompressed, as JPEG 2000 or as lossless JPEG.",
            code="transfer-syntax",
        )
    return syntax


def _keep(source: Dataset, target: Dataset, keyword: str, rule: Rule) -> None:
    """Copy one attribute where the rule lets it pass; a value that cannot be what it must be is an error."""
    if keyword not in source:
        return
    element = source[keyword]
    match rule:
        case Group() | Code():
            if element.VR != "SQ":
                raise ValueError("no sequence")
            items = [_kept_item(item, rule) for item in element.value]
            items = items if isinstance(rule, Group) else [item for item in items if len(item)]
            if items or isinstance(rule, Group):
                setattr(target, keyword, items)
        case Terms():
            values = [str(value).strip().upper() for value in _values(element.value)]
            if all(value in rule.known or value == "" for value in values):
                setattr(target, keyword, values if len(values) > 1 else (values or [""])[0])
            elif rule.needed:
                raise ValueError("an unknown term")
        case Numbers():
            if element.VR not in _NUMBER_VRS:
                raise ValueError("no numbers")
            values = [with_point(value) for value in _values(element.value)]
            for value in values:
                float(value)
            if values != _values(element.value):
                element = DataElement(element.tag, element.VR, values)
            target[keyword] = element
        case Binary():
            if element.VR not in _BINARY_VRS:
                raise ValueError("no binary data")
            target[keyword] = element


def _kept_item(item: Dataset, rule: Group | Code) -> Dataset:
    kept = Dataset()
    if isinstance(rule, Group):
        for keyword, inner in rule.members.items():
            _keep(item, kept, keyword, inner)
        return kept
    value, scheme = str(item.get("CodeValue") or "").strip(), str(item.get("CodingSchemeDesignator") or "").strip()
    if _CODE_VALUE.fullmatch(value) and scheme in CODING_SCHEMES:
        kept.CodeValue, kept.CodingSchemeDesignator = value, scheme
    return kept


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if not isinstance(value, str | bytes) and hasattr(value, "__iter__") else [value]


def _clean_pixels(kept: Dataset, syntax: UID) -> None:
    """Take metadata out of compressed streams, and what lies behind the pixels of uncompressed ones."""
    if "PixelData" not in kept:
        return
    if not syntax.is_encapsulated:
        _cut(kept)
        return
    if syntax in JPEG2000TransferSyntaxes:
        strip = strip_jpeg2000
    elif syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes or ".4.5" in syntax:
        strip = strip_jpeg
    else:
        return  # RLE has no room for anything else; films are refused when they are decoded
    frames = list(generate_frames(kept.PixelData, number_of_frames=int(kept.get("NumberOfFrames") or 1)))
    stripped = [_even(strip(frame)) for frame in frames]
    if stripped != frames:
        kept.PixelData = encapsulate(stripped)
        kept["PixelData"].is_undefined_length = True
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            kept.pop(keyword, None)


def _cut(kept: Dataset) -> None:
    """Drop bytes beyond the pixels that the header describes (PS3.5, 8.1.1)."""
    counts = [int(kept.get(keyword) or 1) for keyword in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")]
    bits = int(kept.get("BitsAllocated") or 8)
    for count in counts:
        bits *= count
    if str(kept.get("PhotometricInterpretation") or "") in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        bits = bits * 2 // 3  # two pixels share their chroma
    needed = (bits + 7) // 8
    needed += needed % 2  # the last byte of an odd count stands behind the filling one where words are big-endian
    if 0 < needed < len(kept.PixelData):
        kept["PixelData"].value = kept.PixelData[:needed]


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)


def _sex(dataset: Dataset) -> str:
    written = str(dataset.get("PatientSex") or "").strip().upper()
    return written if written in ("M", "F", "O") else ""


def _say_what_was_done(kept: Dataset, characteristics: bool) -> None:
    """State the removal (PS3.15 E.1.1; codes of PS3.16 CID 7050)."""
    kept.PatientIdentityRemoved = "YES"
    kept.DeidentificationMethod = METHOD
    kept.LongitudinalTemporalInformationModified = "REMOVED"
    codes = []
    for value, meaning in (_PROFILE, _CHARACTERISTICS) if characteristics else (_PROFILE,):
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        codes.append(code)
    kept.DeidentificationMethodCodeSequence = codes
