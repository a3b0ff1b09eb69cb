"""Subbands grouped into scales, coarse to fine, and the words for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wara.analysis.bands import Band, describe_band


@dataclass(frozen=True)
class Scale:
    """The subbands of one scale.

    Attributes:
        name: ``"coarse"``, ``"medium"``, ``"finest"``, ...: what stands before "scale" in a sentence.
        size: what it shows in the picture, ``"over 64 px"`` or ``"16-32 px"`` (in tokens where the patch is unknown).
        bands: technical names of its subbands, e.g. ``("H1", "V1", "D1")``.
        rows: their places among all subbands.
    """

    name: str
    size: str
    bands: tuple[str, ...]
    rows: tuple[int, ...]


def scales_of(bands: Sequence[str], levels: int, patch_size: int | None) -> list[Scale]:
    """Group subbands (coarse to fine) by scale: the approximation, then the details of each level.

    Example:
        >>> [scale.bands for scale in scales_of(("A1", "H1", "V1", "D1"), 1, 16)]
        [('A1',), ('H1', 'V1', 'D1')]
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for row, name in enumerate(bands):
        band = describe_band(name, levels, patch_size)
        groups.setdefault((_short(band), band.size), []).append(row)
    return [Scale(name, size, tuple(bands[row] for row in rows), tuple(rows)) for (name, size), rows in groups.items()]


def _short(band: Band) -> str:
    return "coarse" if band.kind == "A" else band.scale.replace(" detail", "")
