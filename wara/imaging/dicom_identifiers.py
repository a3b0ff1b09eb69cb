"""What a DICOM header says of persons, days and examinations: for hiding it, and for the band of an age."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from pydicom.dataset import Dataset

from wara.imaging.deidentify import OLDEST_BAND
from wara.imaging.names_in_paths import Identifiers


def _words(*lines: str) -> tuple[str, ...]:
    return tuple(word for line in lines for word in line.split())


_NUMBERS = _words(
    "PatientID OtherPatientIDs AccessionNumber StudyID AdmissionID IssuerOfPatientID MedicalRecordLocator",
    "RequestedProcedureID ScheduledProcedureStepID PerformedProcedureStepID ServiceEpisodeID DeviceSerialNumber",
    "FillerOrderNumberImagingServiceRequest PlacerOrderNumberImagingServiceRequest SOPInstanceUID StudyInstanceUID",
    "SeriesInstanceUID FrameOfReferenceUID PatientBirthDate StudyDate SeriesDate AcquisitionDate ContentDate",
)
_NAMES = _words(
    "PatientName OtherPatientNames PatientBirthName PatientMotherBirthName ReferringPhysicianName OperatorsName",
    "PerformingPhysicianName PhysiciansOfRecord NameOfPhysiciansReadingStudy RequestingPhysician ResponsiblePerson",
)
_AGE = re.compile(r"(\d{3})([DWMY])")
_DAY = re.compile(r"\d{8}")
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}


def identifiers_of(dataset: Dataset) -> Identifiers:
    """Return what a file's name may repeat of its header: numbers, UIDs and days of it, and names of persons."""
    numbers = [text for keyword in _NUMBERS for text in _texts(dataset, keyword)]
    for item in dataset.get("OtherPatientIDsSequence") or ():
        numbers += _texts(item, "PatientID")
    return Identifiers.of(numbers, [text for keyword in _NAMES for text in _texts(dataset, keyword)])


def _texts(dataset: Dataset, keyword: str) -> Iterator[str]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return
    several = not isinstance(value, str) and hasattr(value, "append")  # pydicom's MultiValue
    for single in value if several else [value]:
        yield str(single)


def age_band(dataset: Dataset, years: int) -> int | None:
    """Return the youngest age of the band in whole years, or None where the header tells no age.

    PatientAge is taken where it is there, else the years between birth and study. 90 and more are one band, for at
    such ages few people are alike.

    Args:
        dataset: the header as it came.
        years: width of a band.
    """
    age = stated_age(dataset)
    if age is None:
        born, examined = _day(dataset, "PatientBirthDate"), _day(dataset, "StudyDate")
        if born is None or examined is None or examined < born:
            return None
        age = examined.year - born.year - ((examined.month, examined.day) < (born.month, born.day))
    return OLDEST_BAND if age >= OLDEST_BAND else age // years * years


def stated_age(dataset: Dataset) -> int | None:
    """Return PatientAge in whole years, or None where the header has none."""
    stated = _AGE.fullmatch(str(dataset.get("PatientAge") or "").strip())
    return int(int(stated[1]) / _PER_YEAR[stated[2]]) if stated else None


def _day(dataset: Dataset, keyword: str) -> date | None:
    text = str(dataset.get(keyword) or "").strip()
    if not _DAY.fullmatch(text):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None
