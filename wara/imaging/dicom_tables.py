"""Lookup tables of DICOM: their entries as numbers, plain or in segments, and values looked up in them.

Source: DICOM PS3.3, C.11.1.1 and C.11.2.1.1 (LUT descriptor and data), C.7.6.3.1.5 and C.7.6.3.1.6 (palettes), C.7.9.2
(segments).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


@dataclass(frozen=True)
class Table:
    """One lookup table.

    Attributes:
        entries: (n,), unsigned.
        first: the value that the first entry belongs to; beyond both ends the first and the last entry hold.
        bits: bits of an entry, whose largest value is ``2 ** bits - 1``.
    """

    entries: npt.NDArray[np.integer[Any]]
    first: int
    bits: int

    def places(self, values: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        """Return which entry each value meets, of the same shape."""
        whole = values if values.dtype.kind in "iu" else np.nan_to_num(np.rint(values))
        return np.clip(whole.astype(np.int64) - self.first, 0, len(self.entries) - 1).astype(np.intp)


def read_table(descriptor: Sequence[int], data: Any, little_endian: bool) -> Table:
    """Return a table from its descriptor (count, first value, bits) and its data.

    Args:
        descriptor: three numbers; a count of 0 stands for 65,536.
        data: bytes as the file holds them, or numbers.
        little_endian: the file's order of bytes.

    Raises:
        ValueError: there are no entries.
    """
    count, first, bits = (int(number) for number in descriptor)
    count = count or 2**16
    if isinstance(data, bytes):
        # Entries of 8 bits may be packed two to a word, whatever the descriptor says.
        entries = words(data, 1 if len(data) < 2 * count else 2, little_endian)[:count]
    else:
        entries = np.atleast_1d(np.asarray(data))[:count]
    return _checked(entries, first, bits)


def read_segmented(descriptor: Sequence[int], data: bytes, little_endian: bool) -> Table:
    """Return a table that is stored in segments: runs of entries, straight lines between them, and repetitions.

    Raises:
        ValueError: there are no entries, or the segments break the rules.
    """
    count, first, bits = (int(number) for number in descriptor)
    count = count or 2**16
    size = 1 if bits <= 8 else 2
    numbers = words(data, size, little_endian).tolist()
    return _checked(np.asarray(_expand(numbers, size, count), dtype=np.uint16)[:count], first, bits)


def words(data: bytes, size: int, little_endian: bool) -> npt.NDArray[np.integer[Any]]:
    """Return bytes as unsigned numbers of ``size`` bytes; single bytes are packed in words of two, the lower first."""
    if size == 2:
        return np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little_endian else ">u2")
    packed = np.frombuffer(data, "u1")
    if little_endian or len(packed) % 2:
        return packed
    return packed.reshape(-1, 2)[:, ::-1].ravel()


def _checked(entries: npt.NDArray[np.integer[Any]], first: int, bits: int) -> Table:
    if not entries.size:
        raise ValueError("a lookup table without entries")
    # Some writers call entries of 16 bits 8 bits wide.
    return Table(entries, first, max(bits, int(entries.max()).bit_length()))


def _expand(numbers: list[int], size: int, count: int) -> list[int]:
    found: list[int] = []
    place = 0
    while place + 1 < len(numbers) and len(found) < count:  # what is left after the last segment is padding
        if numbers[place] == _INDIRECT:
            start, repeated = _indirect(numbers, place, size)
            for _ in range(repeated):
                if numbers[start] == _INDIRECT:
                    raise ValueError("a repetition of a repetition")
                start = _segment(numbers, start, found)
            place += 2 + 4 // size
        else:
            place = _segment(numbers, place, found)
    return found


def _indirect(numbers: list[int], place: int, size: int) -> tuple[int, int]:
    """Return where the repeated segments begin and how many they are; the place is stored as a count of bytes."""
    low_first = numbers[place + 2 : place + 2 + 4 // size]
    start = sum(part << (8 * size * order) for order, part in enumerate(low_first))
    return start // size, numbers[place + 1]


def _segment(numbers: list[int], place: int, found: list[int]) -> int:
    """Append what one segment stands for, and return the place of the next."""
    kind, length = numbers[place], numbers[place + 1]
    if kind == _DISCRETE:
        found += numbers[place + 2 : place + 2 + length]
        return place + 2 + length
    if kind != _LINEAR or not found:
        raise ValueError("a segment of an unknown kind, or a line that begins nowhere")
    end = numbers[place + 2]
    found += np.rint(np.linspace(found[-1], end, length + 1)[1:]).astype(int).tolist()
    return place + 3
