"""What a DICOM file without pixels is, in plain words, by its SOP class.

Source: DICOM PS3.4, B.5 (storage SOP classes), and PS3.6, table A-1 (their UIDs).
"""

from __future__ import annotations

import pydicom
from pydicom.uid import UID

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# The longest beginning that fits counts, so that one class can be told from the rest of its family.
_BY_UID = {
    "1.2.840.10008.1.3.10": "a DICOMDIR, the index of a disc",
    "1.2.840.10008.5.1.4.38.": "a layout of a viewer",
    "1.2.840.10008.5.1.4.39.": "a colour palette",
    "1.2.840.10008.5.1.4.43.": "the model of an implant",
    "1.2.840.10008.5.1.4.44.": "the model of an implant",
    "1.2.840.10008.5.1.4.45.": "the model of an implant",
    f"{_STORAGE}4.2": "spectroscopy data",
    f"{_STORAGE}9.": "a waveform",
    f"{_STORAGE}11.": "a presentation state",
    f"{_STORAGE}66": "raw data",
    f"{_STORAGE}66.1": "a registration",
    f"{_STORAGE}66.2": "a list of points in space",
    f"{_STORAGE}66.3": "a registration",
    f"{_STORAGE}66.5": "surfaces of a segmentation",
    f"{_STORAGE}66.6": "nerve tracts",
    f"{_STORAGE}67": "a table of measured values",
    f"{_STORAGE}68.": "a scanned surface",
    f"{_STORAGE}78.": "measurements of an eye",
    f"{_STORAGE}79.": "measurements of an eye",
    f"{_STORAGE}80.": "measurements of an eye",
    f"{_STORAGE}88.": "a structured report",
    f"{_STORAGE}88.59": "a list of key images",
    f"{_STORAGE}90.1": "an assessment",
    f"{_STORAGE}104.": "a document",
    f"{_STORAGE}104.3": "a solid model",
    f"{_STORAGE}104.4": "a solid model",
    f"{_STORAGE}104.5": "the surface of a solid model",
    f"{_STORAGE}200.": "a scanning protocol",
    f"{_STORAGE}481.3": "radiotherapy contours",
    f"{_STORAGE}481.4": "a record of a radiotherapy treatment",
    f"{_STORAGE}481.5": "a radiotherapy plan",
    f"{_STORAGE}481.6": "a record of a radiotherapy treatment",
    f"{_STORAGE}481.7": "a record of a radiotherapy treatment",
    f"{_STORAGE}481.8": "a radiotherapy plan",
    f"{_STORAGE}481.9": "a record of a radiotherapy treatment",
}
_BY_MODALITY = {
    "SR": "a structured report",
    "RTSTRUCT": "radiotherapy contours",
    "RTPLAN": "a radiotherapy plan",
    "RTRECORD": "a record of a radiotherapy treatment",
    "PR": "a presentation state",
    "KO": "a list of key images",
    "ECG": "a waveform",
    "DOC": "a document",
    "REG": "a registration",
}


def without_pixels(dataset: pydicom.Dataset) -> str:
    """Return what a file without pixels is, for "The DICOM file ...": by its class and kind, never by its own words."""
    if "DirectoryRecordSequence" in dataset:
        return f"holds no image (it is {_BY_UID['1.2.840.10008.1.3.10']})"
    # The file meta group names the class too, where the data set itself lost it.
    uid = str(dataset.get("SOPClassUID") or getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID") or "")
    fitting = [beginning for beginning in _BY_UID if uid == beginning or uid.startswith(_whole(beginning))]
    if fitting:
        return f"holds no image (it is {_BY_UID[max(fitting, key=len)]})"
    if "Rows" in dataset or _is_image_class(uid):
        return "describes an image but holds no pixels"
    what = _BY_MODALITY.get(str(dataset.get("Modality") or ""))
    return f"holds no image (it is {what})" if what else "holds no image"


def _whole(beginning: str) -> str:
    """Return a beginning that ends with a whole component, so that 4.2 is not found in 4.20."""
    return beginning if beginning.endswith(".") else f"{beginning}."


def _is_image_class(uid: str) -> bool:
    return uid.startswith(_STORAGE) and "Image Storage" in UID(uid).name
