"""What a table writes finds the file that is meant, and never one that is not."""

from __future__ import annotations

import unicodedata

from wara.data.matching import FileIndex

COMPOSED, APART = (unicodedata.normalize(form, "a/é.png") for form in ("NFC", "NFD"))


def test_letters_written_otherwise_are_the_same_file_where_there_is_one() -> None:
    for name, written in ((COMPOSED, APART), (APART, COMPOSED)):
        assert FileIndex([name, "a/b.png"]).file(written) == name
        assert FileIndex([name, "a/b.png"]).file(written.removeprefix("a/").removesuffix(".png")) == name


def test_of_two_files_that_differ_in_the_form_of_their_letters_each_is_found_as_it_is_written() -> None:
    index = FileIndex([COMPOSED, APART])
    assert index.file(COMPOSED) == COMPOSED and index.file(APART) == APART
    assert index.file("é.png") is None  # which of them is meant nobody knows


def test_a_path_is_taken_from_the_wrapping_folder_and_from_the_tables_own() -> None:
    index = FileIndex(["x/a.png", "y/a.png"], prefix="top/", table="x/labels.csv")
    assert index.file("top/y/a.png") == "y/a.png"
    assert index.file("a.png") == "x/a.png"
    assert index.file(".\\y\\a.png") == "y/a.png"
    assert index.file("z.png") is None


def test_another_patients_file_of_the_same_name_is_not_taken_for_one_that_is_missing() -> None:
    index = FileIndex(["P2/scan.png", "P3/x.png", "loose.png"])
    assert index.file("P1/scan.png") is None and index.file("P1/scan") is None
    assert index.file("scan.png") == "P2/scan.png"  # nothing speaks against it
    assert index.file("/media/disk/all/p2/scan.png") == "P2/scan.png"  # where the folder once lay
    assert index.file("images/loose.png") == "loose.png"
