"""Labels and patients from DICOM headers: which attributes may be a label, and reading them without the pixels.

An attribute that identifies a person must not become the name of a class, since names of classes stand in reports and
models. So the label is one of a list, of attributes that describe the image; patients are always coded.
Source: DICOM PS3.6 (data dictionary) and PS3.15 Annex E (what identifies a person).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import pydicom
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.tag import Tag

from wara.errors import InputError, UnreadableImage
from wara.imaging.dicom_inflate import HEADER_ERRORS, is_deflated
from wara.imaging.formats import sniff
from wara.imaging.quiet import quiet_decoders

LABEL_TAGS = (
    "Modality",
    "BodyPartExamined",
    "Laterality",
    "ImageLaterality",
    "ViewPosition",
    "PatientOrientation",
    "PatientPosition",
    "PatientSex",
    "SeriesDescription",
    "StudyDescription",
    "ProtocolName",
    "RequestedProcedureDescription",
    "AdmittingDiagnosesDescription",
    "ImageComments",
    "ImageType",
    "SequenceName",
    "ScanningSequence",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "PresentationIntentType",
    "PhotometricInterpretation",
    "Manufacturer",
    "ManufacturerModelName",
)
PATIENT_TAGS = ("PatientID", "ClinicalTrialSubjectID", "PatientName", "AccessionNumber", "StudyInstanceUID")
_MAX_VALUE = 64
_HEAD_BYTES = 4096


def label_keyword(written: str) -> str:
    """Return the keyword of an attribute that may be the label, written as keyword or (gggg,eeee).

    Raises:
        InputError: not known, or one that may identify a person; code "dicom-tag".
    """
    return _keyword(written, LABEL_TAGS, "cannot be a label: only attributes that describe the image can")


def patient_keyword(written: str) -> str:
    """Return the keyword of an attribute that may tell patients apart, written as keyword or (gggg,eeee).

    Raises:
        InputError: not known, or none of those; code "dicom-tag".
    """
    return _keyword(written, PATIENT_TAGS, "does not tell patients apart")


def read_tags(file: BinaryIO, keywords: Iterable[str]) -> dict[str, str] | None:
    """Read attributes of one file's header; pixels are not read.

    Args:
        file: the open file.
        keywords: what to read.

    Returns:
        The values by keyword, those that are missing or empty left out; None where the file is not DICOM.

    Raises:
        UnreadableImage: the header cannot be read.
    """
    wanted = list(keywords)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    try:
        if sniff(head, "") != "DICOM":
            return None
    except UnreadableImage:
        return None
    try:
        with quiet_decoders():
            if is_deflated(file):
                # pydicom would inflate the whole file, however large it becomes, for a few bytes of its header.
                raise _unreadable("The DICOM file is deflated, and its header is not read for labels")
            file.seek(0)
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=wanted, force=True)
            return {key: text for key in wanted if (text := _text(dataset.get(key)))}
    except UnreadableImage:
        raise
    except HEADER_ERRORS:
        # From None: pydicom's own words can quote the header, and a log would keep them.
        raise _unreadable("The DICOM file is damaged: its header cannot be read") from None


def _unreadable(what: str) -> UnreadableImage:
    return UnreadableImage(what, remedy="Export it again from the archive it came from.", code="damaged")


def _text(value: object) -> str:
    if value is None:
        return ""
    several = not isinstance(value, str) and hasattr(value, "__iter__") and not hasattr(value, "original_string")
    text = "/".join(str(part) for part in value) if several else str(value)  # type: ignore[attr-defined]
    return " ".join(text.replace("\0", " ").split())[:_MAX_VALUE]


def _keyword(written: str, allowed: tuple[str, ...], why: str) -> str:
    text = written.strip()
    digits = "".join(char for char in text if char not in "(), xX")
    found = next((keyword for keyword in allowed if keyword.casefold() == text.casefold()), None)
    if found is None and len(digits) == 8 and all(char in "0123456789abcdefABCDEF" for char in digits):
        found = str(keyword_for_tag(Tag(int(digits, 16))) or "")
    if found in allowed:
        return str(found)
    known = bool(found) or tag_for_keyword(text) is not None
    raise InputError(
        f"This DICOM attribute {why}" if known else "There is no DICOM attribute of this name",
        seen=written[:64],
        remedy=f"Choose one of {', '.join(allowed)}.",
        code="dicom-tag",
    )
