"""Palettes and YBR of one DICOM frame to 8-bit RGB.

Source: DICOM PS3.3, C.7.6.3.1.2 (photometric interpretation), C.7.6.3.1.5 and C.7.6.3.1.6 (palettes).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from wara.imaging.dicom_tables import Table, read_segmented, read_table
from wara.imaging.image import Pixels, to_uint8

# Rows: Y, CB and CR as sums of R, G and B.
_RED, _BLUE = 0.299, 0.114
_FULL = np.array([
    [_RED, 1 - _RED - _BLUE, _BLUE],
    [-_RED / (2 - 2 * _BLUE), -(1 - _RED - _BLUE) / (2 - 2 * _BLUE), 0.5],
    [0.5, -(1 - _RED - _BLUE) / (2 - 2 * _RED), -_BLUE / (2 - 2 * _RED)],
])  # fmt: skip
_PARTIAL = np.array([[0.2568, 0.5041, 0.0979], [-0.1482, -0.2910, 0.4392], [0.4392, -0.3678, -0.0714]])


def show_palette(stored: npt.NDArray[Any], dataset: pydicom.Dataset, little_endian: bool) -> Pixels:
    """Look stored values (H, W) up in the file's palette; uint8 (H, W, 3).

    Not pydicom's ``apply_color_lut``: it counts entries in integers of the palette's own width, and reads entries of
    16 bits in the order of bytes of the machine.

    Raises:
        ValueError: the palette is damaged.
        AttributeError: there is no palette.
    """
    tables = [_palette(dataset, colour, little_endian) for colour in ("Red", "Green", "Blue")]
    full = float(2 ** max(table.bits for table in tables) - 1)
    channels = [to_uint8(table.entries.astype(np.float32), 0.0, full)[table.places(stored)] for table in tables]
    return np.stack(channels, axis=-1)


def ybr_to_rgb(pixels: npt.NDArray[Any], bits: int, *, partial: bool = False) -> npt.NDArray[np.float32]:
    """Return RGB (H, W, 3), from 0 to ``2 ** bits - 1``, of YBR_FULL or YBR_PARTIAL values of as many bits.

    Args:
        pixels: (H, W, 3), the colour differences already at every pixel.
        bits: bits of a sample.
        partial: whether black is at 16 of 255 and white at 235.
    """
    unit = 2.0 ** (bits - 8)
    offset = np.array([16.0 if partial else 0.0, 128.0, 128.0]) * unit
    inverse = np.linalg.inv(_PARTIAL if partial else _FULL).T.astype(np.float32)
    rgb = (pixels.astype(np.float32) - offset.astype(np.float32)) @ inverse
    limited: npt.NDArray[np.float32] = np.clip(rgb, 0.0, 2.0**bits - 1).astype(np.float32)
    return limited


def to_8_bits(pixels: npt.NDArray[Any], bits: int) -> Pixels:
    """Bring the whole range of the stored bits to 0 to 255, so that files of one series stay comparable."""
    if pixels.dtype == np.uint8 and bits == 8:
        return pixels
    return to_uint8(pixels.astype(np.float32), 0.0, float(2**bits - 1))


def _palette(dataset: pydicom.Dataset, colour: str, little_endian: bool) -> Table:
    descriptor = dataset[f"{colour}PaletteColorLookupTableDescriptor"].value
    data = dataset.get(f"{colour}PaletteColorLookupTableData")
    if data:
        return read_table(descriptor, data, little_endian)
    return read_segmented(descriptor, dataset[f"Segmented{colour}PaletteColorLookupTableData"].value, little_endian)
