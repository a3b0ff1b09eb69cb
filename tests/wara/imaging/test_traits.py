"""Sex and age are read from a header only where it says that somebody decided to keep them."""

import numpy as np
import pytest
from pydicom import config
from pydicom.dataset import Dataset

from wara.imaging.deidentify import Consent, deidentify
from wara.imaging.traits import NOTHING, RETAINED, Traits, read_traits

PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)
TOLD = {"PatientSex": "F", "PatientAge": "067Y"}


def codes(*values):
    items = []
    for value in values:
        items.append(Dataset())
        items[-1].CodeValue, items[-1].CodingSchemeDesignator, items[-1].CodeMeaning = value, "DCM", "any"
    return items


@pytest.fixture
def scan(make_dicom, dicom_bytes, monkeypatch):
    def scan(**elements):
        with monkeypatch.context() as patch:  # a value that is none must be written first
            patch.setattr(config.settings, "reading_validation_mode", config.IGNORE)
            patch.setattr(config.settings, "writing_validation_mode", config.IGNORE)
            return dicom_bytes(make_dicom(PIXELS, **elements))

    return scan


@pytest.mark.parametrize(
    ("consent", "expected"),
    [
        (Consent(), NOTHING),
        (Consent.of_band(5), Traits("F", 65.0)),
        (Consent.of_band(10), Traits("F", 60.0)),
    ],
)
def test_a_file_cleaned_here_tells_what_was_agreed(scan, consent, expected):
    assert read_traits(deidentify(scan(**TOLD), "a.dcm", consent), "a.dcm") == expected


def test_a_file_as_it_came_tells_nothing_unless_it_states_the_option(scan):
    assert read_traits(scan(**TOLD), "a.dcm") == NOTHING
    assert read_traits(scan(**TOLD, PatientIdentityRemoved="YES"), "a.dcm") == NOTHING
    stated = {"DeidentificationMethodCodeSequence": codes("113100", RETAINED)}
    assert read_traits(scan(**TOLD, **stated, PatientIdentityRemoved="NO"), "a.dcm") == NOTHING
    assert read_traits(scan(**TOLD, **stated, PatientIdentityRemoved="YES"), "a.dcm") == Traits("F", 67.0)


@pytest.mark.parametrize(("sex", "age"), [("female", "67"), ("", ""), ("X", "sixty")])
def test_what_is_no_sex_and_no_age_of_dicom_is_not_known(scan, sex, age):
    stated = {"PatientIdentityRemoved": "YES", "DeidentificationMethodCodeSequence": codes(RETAINED)}
    assert read_traits(scan(PatientSex=sex, PatientAge=age, **stated), "a.dcm") == NOTHING


def test_pictures_and_anything_else_tell_nothing(encode):
    assert read_traits(encode(PIXELS, "PNG"), "a.png") == NOTHING
    assert read_traits(b"DICM" * 50, "a.dcm") == NOTHING
    assert Traits("F", 67.0).without(("sex",)) == Traits(None, 67.0)
