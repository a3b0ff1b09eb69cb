"""The values that one frame is shown by: those of the file, overridden by the frame's functional groups.

Source: DICOM PS3.3, C.7.6.16 (multi-frame functional groups): C.7.6.16.2.1 (pixel measures), C.7.6.16.2.9 (pixel
value transformation), C.7.6.16.2.10 and C.7.6.16.2.10b (frame VOI LUT); 10.7 (pixel spacing).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pydicom

_RESCALE = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
_WINDOW = ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction")
_SPACING = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
# Of each group, the attributes that it decides as a whole: one that it leaves out is not taken from elsewhere.
_GROUPS = {
    "PixelValueTransformationSequence": _RESCALE,
    "FrameVOILUTSequence": _WINDOW,
    "PixelMeasuresSequence": _SPACING,
}


def frame_values(dataset: pydicom.Dataset, index: int) -> pydicom.Dataset:
    """Return rescale, window, padding and spacing of one frame as a flat data set.

    Args:
        dataset: the file.
        index: the frame, from 0.
    """
    values = pydicom.Dataset()
    _copy(dataset, values, (*_RESCALE, *_WINDOW, *_PADDING, *_SPACING))
    for groups in _functional_groups(dataset, index):
        for name, decided in _GROUPS.items():
            sequence = groups.get(name)
            if not sequence or not any(keyword in sequence[0] for keyword in decided):
                continue
            for keyword in decided:
                if keyword in values:
                    del values[keyword]
            _copy(sequence[0], values, decided)
    return values


def spacing_of(values: pydicom.Dataset) -> tuple[float, float] | None:
    """Return the distance in mm between the centres of two rows and of two columns; None where it is not known.

    PixelSpacing lies in the patient; where it is missing, ImagerPixelSpacing (at the detector, so without the
    projection's enlargement) or NominalScannedPixelSpacing (on the film) stands in for it.
    """
    for keyword in _SPACING:
        found = values.get(keyword)
        if found is None or isinstance(found, str) or not hasattr(found, "__len__") or len(found) != 2:
            continue
        try:
            rows, columns = float(with_point(found[0])), float(with_point(found[1]))
        except ValueError:
            continue  # not a number: a picture need not be lost for it
        if all(math.isfinite(distance) and distance > 0 for distance in (rows, columns)):
            return rows, columns
    return None


def first_number(value: Any, number: int = 1) -> float | None:
    """Return one value (counted from 1) of a numeric element that may hold several; None where it has none.

    Raises:
        ValueError: the value is no number, with a point or one comma for its decimals.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) and hasattr(value, "__len__"):
        return first_number(value[number - 1]) if len(value) >= number else None
    if number != 1:
        return None
    found = float(with_point(value))
    return found if math.isfinite(found) else None


def with_point(value: Any) -> Any:
    """Return a text with one decimal comma with a point in its place: PS3.5, 6.2 knows none, but some systems write it.

    Anything else comes back as it is.
    """
    comma = isinstance(value, str) and value.count(",") == 1 and "." not in value
    return value.replace(",", ".") if comma else value


def _functional_groups(dataset: pydicom.Dataset, index: int) -> Iterator[pydicom.Dataset]:
    """Yield the groups that all frames share, then the frame's own, which go before them."""
    shared = dataset.get("SharedFunctionalGroupsSequence")
    if shared:
        yield shared[0]
    own = dataset.get("PerFrameFunctionalGroupsSequence")
    if own and index < len(own):
        yield own[index]


def _copy(source: pydicom.Dataset, target: pydicom.Dataset, keywords: tuple[str, ...]) -> None:
    for keyword in keywords:
        if keyword in source:
            target[keyword] = source[keyword]
