"""What a DICOM header says of text in the picture: stated by its maker, or outside the ultrasound regions."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise

import pydicom

from wara.imaging.dicom_inflate import HEADER_ERRORS, refuse_inflation
from wara.imaging.quiet import quiet_decoders
from wara.imaging.text_detector import Box

_TAGS = ["BurnedInAnnotation", "SequenceOfUltrasoundRegions", "Rows", "Columns"]


@dataclass(frozen=True, slots=True)
class Declared:
    """What the header says.

    Attributes:
        burned_in: BurnedInAnnotation (PS3.3 C.7.6.1): True for YES, False for NO, None where nothing is said.
        outside_regions: rectangles that cover the picture outside its ultrasound regions (PS3.3 C.8.5.5), where
            machines write names and settings; empty where no regions are given.
    """

    burned_in: bool | None = None
    outside_regions: tuple[Box, ...] = ()

    @property
    def reason(self) -> str:
        """Why text may stand in the picture: "stated", "regions" or "" (see ``wara.imaging.text_look``)."""
        if self.burned_in:
            return "stated"
        return "regions" if self.suspicious else ""

    @property
    def suspicious(self) -> bool:
        """Whether text may be in the picture by what the header says."""
        return self.burned_in is True or (self.burned_in is None and bool(self.outside_regions))


def declared_text(content: bytes) -> Declared:
    """Read what a DICOM file says of text in its picture; a damaged header says nothing here."""
    try:
        with quiet_decoders():
            refuse_inflation(content, "")
            dataset = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, force=True, specific_tags=_TAGS)
    except HEADER_ERRORS:
        return Declared()
    return declared_in(dataset)


def declared_in(dataset: pydicom.Dataset) -> Declared:
    """Return what a header that was read says of text in the picture."""
    try:
        with quiet_decoders():
            said = {"YES": True, "NO": False}.get(str(dataset.get("BurnedInAnnotation") or "").strip().upper())
            rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
            regions = [
                Box(*(int(item[f"RegionLocation{edge}"].value) for edge in ("MinX0", "MinY0")),
                    *(int(item[f"RegionLocation{edge}"].value) + 1 for edge in ("MaxX1", "MaxY1")))
                for item in dataset.get("SequenceOfUltrasoundRegions") or ()
            ]  # fmt: skip
    except HEADER_ERRORS:
        return Declared()
    return Declared(said, outside(regions, columns, rows) if regions else ())


def outside(regions: list[Box], width: int, height: int) -> tuple[Box, ...]:
    """Return rectangles that cover a picture but for the regions, without overlap; what to mask.

    Args:
        regions: in pixels; parts outside the picture do not count.
        width: columns of the picture.
        height: rows of the picture.
    """
    inside = [
        Box(max(0, r.left), max(0, r.top), min(width, r.right), min(height, r.bottom))
        for r in regions
        if r.left < width and r.top < height and r.right > max(0, r.left) and r.bottom > max(0, r.top)
    ]
    edges = sorted({0, height, *(r.top for r in inside), *(r.bottom for r in inside)})
    found: list[Box] = []
    for top, bottom in pairwise(edges):
        left = 0
        for region in sorted((r for r in inside if r.top <= top and r.bottom >= bottom), key=lambda r: r.left):
            if region.left > left:
                found.append(Box(left, top, region.left, bottom))
            left = max(left, region.right)
        if left < width:
            found.append(Box(left, top, width, bottom))
    return tuple(found)
