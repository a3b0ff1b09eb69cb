from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wara.errors import UnreadableImage
from wara.imaging import IMAGE_SUFFIXES, DecodedImage, is_image_name, read_image


@pytest.mark.parametrize("name", ["a.png", "A.JPEG", "x/y.tif", "scan.dcm", "IM0001", "1.2.840.113619.2.5", "a.webp"])
def test_names_worth_opening(name):
    assert is_image_name(name)


@pytest.mark.parametrize("name", ["readme.txt", "labels.csv", "a.gif", "b.json", "notes.docx", "x.nii.gz"])
def test_names_not_worth_opening(name):
    assert not is_image_name(name)


def test_suffixes_are_lower_case_and_start_with_a_dot():
    assert {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".dcm"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


HEADS = [
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"RIFF\0\0\0\0WEBP", b"BM" + bytes(12),
    bytes(128) + b"DICM", b"\x08\x00\x05\x00CS", b"", b"\xef\xbb\xbf",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(head=st.sampled_from(HEADS), tail=st.binary(max_size=200), name=st.sampled_from(["a.png", "a.dcm", "a"]))
@example(head=b"II*\0", tail=b"\x08\0\0\0", name="a.tif")
def test_any_bytes_are_an_image_or_a_plain_refusal(head, tail, name):
    outcome = _read(head + tail, name)
    if isinstance(outcome, UnreadableImage):
        assert outcome.what
        assert outcome.remedy.endswith(".")
    else:
        assert outcome.pixels.ndim == 3


def _read(data: bytes, name: str) -> DecodedImage | UnreadableImage:
    try:
        return read_image(data, name)
    except UnreadableImage as error:
        return error
