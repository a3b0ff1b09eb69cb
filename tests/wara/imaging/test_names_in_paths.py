from __future__ import annotations

import re

import pytest

from wara.imaging.names_in_paths import Identifiers, coded_file, coded_folder, safe_path

JANE = Identifiers.of(["4711", "1.2.840.99.5", "7", "20200102"], ["Doe^Jane", "Müller^Ann", "Wu^Li"])


@pytest.mark.parametrize(
    "name",
    [
        "4711.dcm", "img_4711_2.dcm", "Doe-1.dcm", "JaneDoe.png", "jane_doe_3.dcm", "1.2.840.99.5", "1.2.840.99.5.dcm",
        "MULLER.dcm", "scan 2020-01-02.dcm", "x20200102.dcm", "7.dcm",
        "li_wu_3.png",
    ],
)  # fmt: skip
def test_names_that_carry_an_identifier_are_coded(name):
    coded = safe_path(f"study/normal/{name}", JANE)
    assert re.fullmatch(r"study/normal/image_[0-9a-f]{12}\.(dcm|png)", coded)
    assert coded == f"study/normal/{coded_file(name)}"


@pytest.mark.parametrize("name", ["a.dcm", "image_7.dcm", "14711.png", "1.2.840.99.6", "scan_01.dcm", "bo.dcm"])
def test_other_names_stay(name):
    assert safe_path(f"study/normal/{name}", JANE) == f"study/normal/{name}"


def test_folders_of_patients_are_coded_alike_and_class_folders_stay():
    paths = [safe_path(f"study/benign/Doe_Jane/{n}.dcm", JANE) for n in (1, 2)]
    assert paths == [f"study/benign/{coded_folder('Doe_Jane')}/{n}.dcm" for n in (1, 2)]
    phantom = Identifiers.of(["7"], ["Normal^Volunteer"])
    assert safe_path("normal/7/a.dcm", phantom) == "normal/7/a.dcm"


def test_files_that_differ_only_in_their_suffix_keep_apart():
    assert len({coded_file(name) for name in ("4711", "4711.dcm", "4711.png")}) == 3


def test_codes_hang_on_the_key(monkeypatch, tmp_path):
    first = coded_file("4711.dcm")
    monkeypatch.setenv("WARA_HOME", str(tmp_path / "other"))
    assert coded_file("4711.dcm") != first
