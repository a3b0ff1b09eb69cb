"""Names of a whole data set: each by its own header, and all by what any header says."""

from __future__ import annotations

import re

import pytest

from wara.imaging.names_in_paths import Identifiers, is_coded
from wara.imaging.path_codes import PathCoder

WHO = Identifiers.of(["8812407", "42", "20190607", "1.2.826.0.1.3680043.8.498.12345678901"], ["Plantagenet^Ann"])


@pytest.fixture
def coder() -> PathCoder:
    made = PathCoder()
    made.note("a/8812407/42.dcm", WHO, ["Plantagenet study"])
    return made


def test_a_file_is_coded_by_its_own_header_and_its_folder_for_all(coder: PathCoder) -> None:
    assert re.fullmatch(r"a/folder_[0-9a-f]{12}/image_[0-9a-f]{12}\.dcm", coder.path("a/8812407/42.dcm"))
    assert coder.path("b/8812407/x.png") == f"b/{coder.folder('8812407')}/x.png"
    assert coder.tells("Plantagenet study")


@pytest.mark.parametrize("name", ["plantagenet_1.png", "x/2019-06-07.png", "ann.tif", "id8812407b.jpg", "42.txt.png"])
def test_a_picture_is_coded_by_what_others_headers_say(coder: PathCoder, name: str) -> None:
    assert is_coded(coder.path(name)) is (name != "42.txt.png")


@pytest.mark.parametrize("name", ["42/1.png", "annular/1.png", "1.2.826.png", "2019/06/07.png", "normal/1.png"])
def test_short_numbers_and_parts_of_words_of_others_are_nobodys(coder: PathCoder, name: str) -> None:
    assert coder.path(name) == name


def test_a_file_beside_is_coded_with_its_namesake(coder: PathCoder) -> None:
    assert re.fullmatch(r"a/image_[0-9a-f]{12}\.png", coder.path("a/42.png"))


def test_what_is_no_image_keeps_its_kind_unless_that_tells(coder: PathCoder) -> None:
    assert re.fullmatch(r"image_[0-9a-f]{12}\.docx", coder.path("Ann Plantagenet.docx"))
    assert re.fullmatch(r"image_[0-9a-f]{12}", coder.path("x plantagenet.ann"))


def test_folders_of_many_patients_are_spared(coder: PathCoder) -> None:
    coder.spare({"ann"})
    assert coder.path("ann/1.png") == "ann/1.png" and coder.path("ann_b/1.png") != "ann_b/1.png"
