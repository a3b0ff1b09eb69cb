from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, PrivateTransferSyntaxes

from tests.wara.imaging.confidentiality_profile import ACTIONS
from wara.errors import InputError, UnreadableImage
from wara.imaging import read_image
from wara.imaging.deidentify import Consent, clean, deidentify
from wara.imaging.identity import pseudonym

BUNDLED = Path(pydicom.data.__file__).parent / "test_files"
SECRET = b"PLANTED"
PLANTED: dict[str, Any] = {
    "DA": "19510203", "DT": "19510203123456", "TM": "123456", "AS": "047Y", "DS": "47.11", "IS": "4711", "US": 4711,
    "SS": 4711, "UL": 4711, "SL": 4711, "FL": 47.11, "FD": 47.11, "OB": SECRET + b" ", "OW": SECRET + b" ",
    "UN": SECRET + b" ", "UI": "1.2.3.47.11", "PN": "Planted^Secret", "UR": "http://planted.example", "AT": 0x47110815,
}  # fmt: skip


def planted(keyword: str) -> Any:
    vr = dictionary_VR(keyword).split(" or ")[0]
    if vr == "SQ":
        inner = Dataset()
        inner.PatientName = "Planted^Secret"
        inner.StudyDate = "19510203"
        return [inner]
    return PLANTED.get(vr, "PLANTED SECRET"[:16])


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


@pytest.fixture
def pixels() -> np.ndarray:
    return np.arange(0, 4000, 10, dtype=np.uint16).reshape(20, 20)


@pytest.mark.parametrize("nested", [False, True], ids=["top", "nested"])
@pytest.mark.parametrize("action", ["X", "Z", "D", "U"])
def test_every_attribute_of_the_basic_profile_is_treated_as_it_says_or_more_strictly(
    make_dicom, dicom_bytes, pixels, action, nested
):
    keywords = [keyword for keyword, found in ACTIONS.items() if found == action]
    keywords = [keyword for keyword in keywords if tag_for_keyword(keyword) >> 16]  # those of messages are in no file
    dataset = make_dicom(pixels)
    target = dataset
    if nested:
        target, measures = Dataset(), Dataset()
        measures.PixelSpacing = [0.5, 0.5]
        target.PixelMeasuresSequence = [measures]
        dataset.SharedFunctionalGroupsSequence = [target]
        target = measures
    for keyword in keywords:
        setattr(target, keyword, planted(keyword))
    data = deidentify(dicom_bytes(dataset), "a.dcm")
    assert SECRET not in data.upper() and b"19510203" not in data and b"1.2.3.47.11" not in data
    kept = read(data)
    place = kept.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0] if nested else kept
    for keyword in keywords:
        if keyword not in place:
            continue
        assert not nested, keyword
        assert action in ("Z", "U"), keyword
        assert str(place[keyword].value) == "" if action == "Z" else place[keyword].value.startswith("2.25."), keyword
    assert not any(element.tag.is_private or element.tag.group in (0x5000, 0x6000) for element in kept)


def test_the_walked_profile_is_known_to_the_dictionary_and_long():
    assert len(ACTIONS) > 280
    assert [keyword for keyword in ACTIONS if tag_for_keyword(keyword) is None] == []


def test_private_tags_overlays_preamble_and_trailing_bytes_go(make_dicom, dicom_bytes, pixels):
    dataset = make_dicom(pixels)
    dataset.private_block(0x0009, "PLANTED CREATOR", create=True).add_new(0x01, "LO", "PLANTED SECRET")
    dataset.add_new(0x60003000, "OW", SECRET + b" ")
    dataset.add_new(0x60004000, "LT", "PLANTED SECRET")
    dataset.PixelData += SECRET + b" "
    data = bytearray(dicom_bytes(dataset))
    data[:7] = SECRET
    kept = deidentify(bytes(data), "a.dcm")
    assert SECRET not in kept
    np.testing.assert_array_equal(read_image(kept, "a").pixels, read_image(dicom_bytes(make_dicom(pixels)), "a").pixels)


def test_what_was_done_is_stated(make_dicom, dicom_bytes, pixels):
    kept = read(deidentify(dicom_bytes(make_dicom(pixels)), "a.dcm"))
    assert kept.PatientIdentityRemoved == "YES"
    assert kept.LongitudinalTemporalInformationModified == "REMOVED"
    assert [item.CodeValue for item in kept.DeidentificationMethodCodeSequence] == ["113100"]
    assert len(kept.DeidentificationMethod) <= 64


def test_sex_and_age_band_are_kept_on_request_and_said_so(make_dicom, dicom_bytes, pixels):
    data = dicom_bytes(make_dicom(pixels, PatientSex="F", PatientAge="047Y"))
    kept = read(deidentify(data, "a.dcm", Consent(sex_and_age=True)))
    assert (kept.PatientSex, kept.PatientAge) == ("F", "045Y")
    assert [item.CodeValue for item in kept.DeidentificationMethodCodeSequence] == ["113100", "113108"]
    without = read(deidentify(data, "a.dcm"))
    assert without.PatientSex == "" and "PatientAge" not in without


@pytest.mark.parametrize(
    ("header", "years", "band"),
    [
        ({"PatientAge": "047Y"}, 10, "040Y"),
        ({"PatientAge": "018M"}, 5, "000Y"),
        ({"PatientAge": "101Y"}, 5, "090Y"),
        ({"PatientAge": "089Y"}, 5, "085Y"),
        ({"PatientBirthDate": "19510203", "StudyDate": "20200202"}, 5, "065Y"),
        ({"PatientBirthDate": "19510203", "StudyDate": "20210203"}, 5, "070Y"),
        ({"PatientBirthDate": "19510203"}, 5, None),
        ({}, 5, None),
    ],
)
def test_ages_are_bands_and_90_and_more_are_one(make_dicom, dicom_bytes, pixels, header, years, band):
    data = dicom_bytes(make_dicom(pixels, **header))
    assert read(deidentify(data, "a", Consent(True, years))).get("PatientAge") == band


def test_other_widths_of_bands_are_refused():
    with pytest.raises(InputError, match="5 or 10"):
        Consent(True, 1)


def test_patients_become_the_hash_that_decoding_gives_before_and_after(make_dicom, dicom_bytes, pixels):
    data = dicom_bytes(make_dicom(pixels, PatientID=" H-4711 "))
    kept = deidentify(data, "a.dcm")
    assert b"4711" not in kept
    assert read_image(kept, "a").patient == read_image(data, "a").patient == pseudonym("H-4711")
    assert read(deidentify(dicom_bytes(make_dicom(pixels, PatientID="")), "a")).PatientID == ""


def test_studies_and_series_stay_together_under_other_uids(make_dicom, dicom_bytes, pixels):
    uids = {"StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.2"}
    first, second = (read(deidentify(dicom_bytes(make_dicom(pixels, **uids, InstanceNumber=n)), "a")) for n in (1, 2))
    assert first.StudyInstanceUID == second.StudyInstanceUID != first.SeriesInstanceUID == second.SeriesInstanceUID
    assert re.fullmatch(r"2\.25\.[1-9]\d{0,38}", first.StudyInstanceUID)
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID


def test_the_same_content_gives_the_same_bytes_and_another_key_gives_others(
    make_dicom, dicom_bytes, pixels, monkeypatch, tmp_path
):
    data = dicom_bytes(make_dicom(pixels, StudyInstanceUID="1.2.3"))
    first = deidentify(data, "a.dcm")
    assert first == deidentify(data, "b.dcm")
    monkeypatch.setenv("WARA_HOME", str(tmp_path / "other"))
    assert first != deidentify(data, "a.dcm")


def test_names_in_code_strings_do_not_pass_and_known_terms_do(make_dicom, dicom_bytes, pixels):
    view, region = Dataset(), Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "399162004", "SCT", "Doe^Jane"
    region.CodeValue, region.CodingSchemeDesignator = "DOE JANE", "SCT"
    dataset = make_dicom(pixels, Modality="MG", BodyPartExamined="JANE DOE", ViewPosition="MLO", ImageLaterality="L",
                         ImageType=["ORIGINAL", "PRIMARY", "JANE DOE"], ViewCodeSequence=[view],
                         AnatomicRegionSequence=[region])  # fmt: skip
    data = deidentify(dicom_bytes(dataset), "a.dcm")
    kept = read(data)
    assert (kept.Modality, kept.ViewPosition, kept.ImageLaterality) == ("MG", "MLO", "L")
    assert kept.ViewCodeSequence[0].CodeValue == "399162004"
    assert "BodyPartExamined" not in kept and "ImageType" not in kept and "AnatomicRegionSequence" not in kept
    assert b"Jane" not in data and b"JANE" not in data
    assert read(deidentify(dicom_bytes(make_dicom(pixels, BodyPartExamined="CHEST")), "a")).BodyPartExamined == "CHEST"


def test_ultrasound_regions_and_spacing_stay(make_dicom, dicom_bytes, pixels):
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0, region.PhysicalDeltaX = 3, 4, 0.01
    region.add_new(0x00186050, "UL", 12)  # not needed
    dataset = make_dicom(pixels, SequenceOfUltrasoundRegions=[region], PixelSpacing=[0.2, 0.3], SliceThickness="2.5")
    kept = read(deidentify(dicom_bytes(dataset), "a.dcm"))
    assert kept.SequenceOfUltrasoundRegions[0].RegionLocationMinX0 == 3
    assert 0x00186050 not in kept.SequenceOfUltrasoundRegions[0]
    assert list(kept.PixelSpacing) == [0.2, 0.3]


def test_comments_inside_compressed_pixels_go(make_dicom, dicom_bytes, colours, encode):
    dataset = make_dicom(colours)
    jpeg = encode(colours, "JPEG", quality=95, comment=b"PLANTED SECRET")
    assert SECRET in jpeg
    dataset.PixelData = encapsulate([jpeg + b"\0" * (len(jpeg) % 2)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    data = dicom_bytes(dataset)
    kept = deidentify(data, "a.dcm")
    assert SECRET not in kept
    np.testing.assert_array_equal(read_image(kept, "a").pixels, read_image(data, "a").pixels)


def test_every_file_that_pydicom_brings_looks_the_same_afterwards_or_was_not_readable_before():
    looked_at = 0
    for path in sorted(BUNDLED.rglob("*.dcm")):
        data = path.read_bytes()
        try:
            before = read_image(data, path.name)
        except UnreadableImage as error:
            with pytest.raises(UnreadableImage, match=re.escape(error.what)):
                read_image(deidentify(data, path.name), path.name)
            continue
        after = read_image(deidentify(data, path.name), path.name)
        np.testing.assert_array_equal(after.pixels, before.pixels, err_msg=path.name)
        assert (after.patient, after.window, after.bits) == (before.patient, before.window, before.bits)
        looked_at += 1
    assert looked_at > 40


def test_what_holds_no_image_is_refused_by_what_it_is(make_dicom, dicom_bytes):
    report = make_dicom(None, Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    with pytest.raises(UnreadableImage, match="structured report"):
        deidentify(dicom_bytes(report), "a.dcm")


def test_private_transfer_syntaxes_and_words_for_numbers_are_refused_without_quoting(make_dicom, dicom_bytes, pixels):
    data = dicom_bytes(make_dicom(pixels))
    private = data.replace(b"1.2.840.10008.1.2.1\0", (str(PrivateTransferSyntaxes[0]) if PrivateTransferSyntaxes else
                                                       "1.2.840.113619.5.2").encode().ljust(20, b"\0"))  # fmt: skip
    with pytest.raises(UnreadableImage, match="not DICOM's own"):
        deidentify(private, "a.dcm")
    dataset = make_dicom(pixels)
    dataset.add_new(0x00281050, "LO", "PLANTED SECRET")  # window centre
    with pytest.raises(UnreadableImage) as caught:
        deidentify(dicom_bytes(dataset), "a.dcm")
    assert "PLANTED" not in str(caught.value) and caught.value.__cause__ is None


def test_a_decimal_comma_is_written_as_a_point(make_dicom, dicom_bytes, pixels):
    with_points = dicom_bytes(make_dicom(pixels, WindowCenter=["40.5", "300.5"], WindowWidth=["80.5", "900.5"]))
    with_commas = with_points.replace(b"40.5\\300.5", b"40,5\\300,5").replace(b"80.5\\900.5", b"80,5\\900,5")
    assert with_commas != with_points
    assert deidentify(with_commas, "a.dcm") == deidentify(with_points, "a.dcm")
    cleaned = read(deidentify(with_commas, "a.dcm"))
    assert (cleaned.WindowCenter, cleaned.WindowWidth) == ([40.5, 300.5], [80.5, 900.5])


def test_the_identifiers_of_a_header_are_known_for_names_of_files(make_dicom, dicom_bytes, pixels):
    dataset = make_dicom(pixels, AccessionNumber="ACC-99", StudyDate="20200102", OtherPatientIDs=["77777", "88888"])
    found = clean(dicom_bytes(dataset), "a.dcm").identifiers
    assert {"4711", "ACC-99", "20200102", "88888"} <= found.numbers
    assert {"doe", "jane"} <= found.names
