"""Subbands and layers in words: what ``H1`` or ``blocks.3.attn.qkv`` means to someone who looks at pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# The letter names the direction in which edges run (PyWavelets' convention): H answers to horizontal edges.
_ORIENTATIONS = {"A": "overall", "H": "horizontal", "V": "vertical", "D": "diagonal"}


@dataclass(frozen=True)
class Band:
    """One subband in words.

    Attributes:
        name: the technical name, e.g. ``"H1"``.
        kind: ``"A"`` (approximation), ``"H"``, ``"V"`` or ``"D"`` (details).
        level: 1 is the finest.
        scale: plain name of its scale, e.g. ``"finest detail"``.
        size: the size of what it shows in the picture, e.g. ``"16-32 px"``, or in tokens where the patch is unknown.
        orientation: the direction of the edges that it shows, ``"overall"`` for an approximation.
    """

    name: str
    kind: str
    level: int
    scale: str
    size: str
    orientation: str


def describe_band(name: str, levels: int, patch_size: int | None) -> Band:
    """Put a subband into words.

    Details of level j are differences between neighbouring blocks of 2^(j-1) tokens, so they show structures 2^(j-1)
    to 2^j tokens wide; the approximation of level J shows what is wider than 2^J tokens.

    Args:
        name: ``"A2"``, ``"H1"``, ...
        levels: depth J of the decomposition.
        patch_size: width of one token in pixels of the image that the model sees; None where it is not known.

    Raises:
        ValueError: if ``name`` is no subband's name.
    """
    match = re.fullmatch(r"([AHVD])([1-9][0-9]*)", name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a subband; they are called A2, H2, V2, D2, H1, ...")
    kind, level = match[1], int(match[2])
    unit, unit_name = (patch_size, "px") if patch_size else (1, "tokens")
    low, high = 2 ** (level - 1) * unit, 2**level * unit
    if kind == "A":
        return Band(name, kind, level, "coarse: whole picture", f"over {high} {unit_name}", _ORIENTATIONS[kind])
    size = f"{low}\N{EN DASH}{high} {unit_name}"
    return Band(name, kind, level, _scale_of_details(level, levels), size, _ORIENTATIONS[kind])


def _scale_of_details(level: int, levels: int) -> str:
    if levels == 1:
        return "fine detail"
    if level == 1:
        return "finest detail"
    if level == levels:
        return "medium detail" if levels == 2 else "broad detail"
    return "medium detail" if levels == 3 else f"medium detail, level {level}"


def order_bands(names: Iterable[str]) -> list[str]:
    """Return subband names once each, coarse to fine: by falling level, within a level A, H, V, D."""
    return sorted(set(names), key=lambda name: (-int(name[1:]), "AHVD".index(name[0])))


def layer_labels(names: Sequence[str]) -> tuple[list[str], str]:
    """Shorten the names of layers to what tells them apart.

    Returns:
        ``(labels, shared)``: a label for each, and the part at the end that all of them share.

    Example:
        >>> layer_labels(["blocks.0.attn.qkv", "blocks.1.attn.qkv"])
        (['block 0', 'block 1'], 'attn.qkv')
    """
    if not names:
        return [], ""
    parts = [name.split(".") for name in names]
    shared: list[str] = []
    for column in zip(*(reversed(p) for p in parts), strict=False):
        if len(set(column)) > 1 or column[0].isdigit():
            break
        shared.insert(0, column[0])
    if any(len(p) == len(shared) for p in parts):  # a name that is wholly shared keeps its last part as its label
        shared = []
    kept = [".".join(p[: len(p) - len(shared)]) for p in parts]
    return [_readable(name) for name in kept], ".".join(shared)


def _readable(name: str) -> str:
    match = re.fullmatch(r"blocks\.(\d+)(?:\.(.+))?", name)
    if match is None:
        return name
    return f"block {match[1]}" + (f", {match[2]}" if match[2] else "")
