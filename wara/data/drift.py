"""Drift between the sides of a split: does the test look like what was trained on, in size, kind and brightness?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wara.data.items import Item
from wara.data.looks import brightness, contrast, stack_looks

# Below these a difference is left unsaid: it would not be seen in the images, or may be chance.
MIN_DISTANCE = 0.2
_MIN_IMAGES = 20
_CHANCE = 1.63  # of the two-sided Kolmogorov-Smirnov test at 1 %, times sqrt((n + m) / (n m))

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drift:
    """One way in which a side differs from the training images.

    Attributes:
        kind: "size", "format", "modality", "brightness" or "contrast".
        side: "val" or "test".
        distance: 0 (alike) to 1 (nothing in common). Numbers: the Kolmogorov-Smirnov distance, the largest gap
            between the two cumulative shares. Kinds: the total variation distance, the share of images that would
            have to change their kind.
        shift: the difference of the means in standard deviations (pooled), for numbers; None for kinds.
        here, there: medians on the side and in training, in pixels or grey values; for kinds, shares in words.
    """

    kind: str
    side: str
    distance: float
    shift: float | None
    here: str
    there: str


def find_drift(items: Sequence[Item], sides: Sequence[str | None]) -> list[Drift]:
    """Return how validation and test images differ from training images beyond ``MIN_DISTANCE`` and beyond chance.

    Sides of fewer than 20 images are not judged. For sizes the square root of the count of pixels is compared.
    """
    found = []
    numbers = {"size": _sizes(items), **_tones(items)}
    kinds: dict[str, list[str | None]] = {
        "format": [item.format for item in items],
        "modality": [item.modality for item in items],
    }
    rows = {side: np.asarray([p for p, name in enumerate(sides) if name == side], np.intp) for side in set(sides)}
    train = rows.get("train", np.zeros(0, np.intp))
    for side in ("val", "test"):
        own = rows.get(side, np.zeros(0, np.intp))
        for kind, values in numbers.items():
            drift = _of_numbers(kind, side, values[own], values[train])
            found += [drift] if drift else []
        for kind, names in kinds.items():
            drift = _of_kinds(kind, side, [names[p] for p in own], [names[p] for p in train])
            found += [drift] if drift else []
    return found


def ks_distance(one: Values, other: Values) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples: the largest gap of their cumulative shares, 0 to 1."""
    values = np.concatenate([one, other])
    shares = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def _of_numbers(kind: str, side: str, here: Values, there: Values) -> Drift | None:
    here, there = here[np.isfinite(here)], there[np.isfinite(there)]
    if min(len(here), len(there)) < _MIN_IMAGES:
        return None
    distance = ks_distance(here, there)
    if distance < max(MIN_DISTANCE, _chance(len(here), len(there))):
        return None
    pooled = math.sqrt((here.var() + there.var()) / 2)
    shift = float((here.mean() - there.mean()) / pooled) if pooled else None
    return Drift(kind, side, distance, shift, f"{np.median(here):,.0f}", f"{np.median(there):,.0f}")


def _of_kinds(kind: str, side: str, here: list[str | None], there: list[str | None]) -> Drift | None:
    one, other = (Counter(name for name in names if name) for names in (here, there))
    if min(one.total(), other.total()) < _MIN_IMAGES:
        return None
    shares = {name: (one[name] / one.total(), other[name] / other.total()) for name in sorted({*one, *other})}
    distance = sum(abs(first - second) for first, second in shares.values()) / 2
    if distance < max(MIN_DISTANCE, _chance(one.total(), other.total())):
        return None
    words = [", ".join(f"{pair[which]:.0%} {name}" for name, pair in shares.items() if pair[which]) for which in (0, 1)]
    return Drift(kind, side, distance, None, words[0], words[1])


def _chance(one: int, other: int) -> float:
    return _CHANCE * math.sqrt((one + other) / (one * other))


def _sizes(items: Sequence[Item]) -> Values:
    return np.asarray([math.sqrt((item.width or 0) * (item.height or 0)) or math.nan for item in items])


def _tones(items: Sequence[Item]) -> dict[str, Values]:
    places, looks = stack_looks(items)
    tones = {}
    for kind, of in (("brightness", brightness), ("contrast", contrast)):
        tones[kind] = np.full(len(items), np.nan)
        tones[kind][places] = of(looks)
    return tones
