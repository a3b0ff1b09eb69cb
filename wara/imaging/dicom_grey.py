"""Stored values of one grey frame to 8 bits: modality table or rescale, then VOI table or window.

Source: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT and window), C.7.5.1.1.2 (padding).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from wara.errors import UnreadableImage
from wara.imaging.dicom_frame import first_number
from wara.imaging.dicom_tables import Table, read_table
from wara.imaging.image import Pixels, finite_range, to_uint8

Window = tuple[float, float]


def show_grey(
    stored: npt.NDArray[Any], values: pydicom.Dataset, number: int, little_endian: bool, name: str
) -> tuple[Pixels, Window | None]:
    """Return uint8 of the same shape, and the window (centre, width) where one was applied.

    Args:
        stored: the decoded values, (H, W).
        values: rescale, windows and padding of this frame, see ``frame_values``.
        number: which of the ways to show it that the file offers, from 1: VOI tables first, then windows. A file
            that offers none, or a first window of something else than numbers, is shown by its own range.
        little_endian: the file's order of bytes.
        name: shown in errors.

    Raises:
        UnreadableImage: a window after the first was asked for and the file does not have it.
    """
    measured = rescale(stored, values, little_endian)
    tables = values.get("VOILUTSequence") or []
    if number <= len(tables):
        return _look_up(measured, tables[number - 1], little_endian), None
    centre = _window_number(values.get("WindowCenter"), number - len(tables))
    width = _window_number(values.get("WindowWidth"), number - len(tables))
    function = str(values.get("VOILUTFunction") or "LINEAR").strip().upper()
    # A width below 1 is invalid for LINEAR (C.11.2.1.2), and so is 0 for the others: some writers leave 0 for "none".
    if centre is not None and width is not None and (width >= 1 or (function != "LINEAR" and width > 0)):
        return apply_window(measured, centre, width, function), (centre, width)
    if number > 1:
        raise UnreadableImage(
            f"The DICOM file has no window number {number}",
            seen=f"{name}: {_offered(values)}",
            remedy="Choose a window that all files have; 1 is the first of each.",
            code="window-missing",
        )
    return to_uint8(measured, *_range_without_padding(stored, measured, values)), None


def apply_window(values: npt.NDArray[np.float32], centre: float, width: float, function: str = "LINEAR") -> Pixels:
    """Map values to uint8 by a DICOM window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Args:
        values: the values after the rescale, of any shape.
        centre: window centre, in the same units.
        width: window width; at least 1 for LINEAR, more than 0 otherwise.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID"; another word is taken as LINEAR.
    """
    if function == "SIGMOID":
        curve = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - np.float32(centre)) / np.float32(width), -80, 80)))
        return to_uint8(curve.astype(np.float32), 0.0, 1.0)
    if function == "LINEAR_EXACT":
        return to_uint8(values, centre - width / 2, centre + width / 2)
    if width == 1:
        return np.where(values > centre - 0.5, 255, 0).astype(np.uint8)
    return to_uint8(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def rescale(stored: npt.NDArray[Any], values: pydicom.Dataset, little_endian: bool) -> npt.NDArray[np.float32]:
    """Return stored values in the units that windows speak of: by the modality table, else slope and intercept."""
    tables = values.get("ModalityLUTSequence")
    if tables:
        table = read_table(tables[0].LUTDescriptor, tables[0].LUTData, little_endian)
        looked_up: npt.NDArray[np.float32] = table.entries.astype(np.float32)[table.places(stored)]
        return looked_up
    measured = stored.astype(np.float32)
    slope, intercept = first_number(values.get("RescaleSlope")), first_number(values.get("RescaleIntercept"))
    if slope is not None and slope != 0:
        measured *= np.float32(slope)
    if intercept is not None:
        measured += np.float32(intercept)
    return measured


def _look_up(measured: npt.NDArray[np.float32], item: pydicom.Dataset, little_endian: bool) -> Pixels:
    """Map values by a VOI LUT onto 0 to 255.

    Not pydicom's ``apply_voi``: it wraps values that lie beyond the range of the table's own integers, and refuses
    8-bit entries packed two to a word.
    """
    table = _signed_if_met(read_table(item.LUTDescriptor, item.LUTData, little_endian), measured)
    scaled = to_uint8(table.entries.astype(np.float32), 0.0, float(2**table.bits - 1))
    looked_up: Pixels = scaled[table.places(measured)]
    return looked_up


def _signed_if_met(table: Table, measured: npt.NDArray[np.float32]) -> Table:
    """Return the table with a negative first value where the values lie below the table as read, but meet that one.

    Without a VR in the file the sign of the first value follows that of the stored pixels (PS3.5, Annex A), though it
    speaks of the values after the rescale: -1024 is read as 64,512 where unsigned pixels have a negative intercept.
    """
    signed = dataclasses.replace(table, first=table.first - 2**16)
    if table.first < 2**15 or not measured.max() < table.first:
        return table
    met = measured.max() >= signed.first and measured.min() < signed.first + len(signed.entries)
    return signed if met else table


def _window_number(value: Any, number: int = 1) -> float | None:
    """Return one value of a window; None also where it is no number, for the image can be shown without it."""
    try:
        return first_number(value, number)
    except ValueError:
        return None


def _offered(values: pydicom.Dataset) -> str:
    centres = values.get("WindowCenter")
    listed = centres is not None and not isinstance(centres, str) and hasattr(centres, "__len__")
    windows = len(centres) if listed else int(_window_number(centres) is not None)
    count = len(values.get("VOILUTSequence") or []) + windows
    return "it has none" if not count else f"it has {count}"


def _range_without_padding(
    stored: npt.NDArray[Any], measured: npt.NDArray[np.float32], values: pydicom.Dataset
) -> tuple[float, float]:
    """Smallest and largest value, the padding around the image left out (C.7.5.1.1.2): it would take the range."""
    padding = first_number(values.get("PixelPaddingValue"))
    if padding is None:
        return finite_range(measured)
    limit = first_number(values.get("PixelPaddingRangeLimit"))
    low, high = sorted((padding, padding if limit is None else limit))
    image = measured[(stored < low) | (stored > high)]
    return finite_range(image) if image.size else (0.0, 0.0)
