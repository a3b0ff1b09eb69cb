"""Which images a cell trains on and is looked at by: stratified, patients whole, small sets in large ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from wara.data.groups import Group, group_items
from wara.data.items import Item

LADDER = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_LEAST_OF_A_CLASS = 2


def training_subset(items: Sequence[Item], places: Sequence[int], size: int, seed: int) -> list[int]:
    """Return places of `size` training images, fixed by the seed; a smaller size's are among them.

    Each class has its share of the images, at least two; patients stand in whole or not at all. Where patients are so
    large that they fill no class exactly, some images are missing.

    Args:
        items: of the whole data set.
        places: of its training images.
        size: a number of the `LADDER`, or more than there are images, which takes all.
        seed: of the draw.
    """
    if size >= len(places):
        return sorted(places)
    groups = group_items(items, places)
    random.Random(seed).shuffle(groups)
    totals = Counter(items[place].label for place in places)
    chosen: list[int] = []
    taken: set[int] = set()
    held: Counter[str] = Counter()
    # Rung by rung, whatever sizes a study has: a smaller set is always what the larger one began with.
    for rung in (step for step in LADDER if step <= size):
        wanted = _quotas(totals, rung)
        for number, group in enumerate(groups):
            if number not in taken and _fits(group, held, wanted):
                taken.add(number)
                held.update(group.counts)
                chosen += group.members
    return sorted(chosen)


def limited(items: Sequence[Item], places: Sequence[int], most: int | None) -> list[int]:
    """Return at most so many places, the same for every cell: stratified, patients whole."""
    if most is None or most >= len(places):
        return sorted(places)
    groups = group_items(items, places)
    random.Random(0).shuffle(groups)
    wanted = _quotas(Counter(items[place].label for place in places), most)
    held: Counter[str] = Counter()
    chosen: list[int] = []
    for group in groups:
        if _fits(group, held, wanted):
            held.update(group.counts)
            chosen += group.members
    return sorted(chosen)


def _fits(group: Group, held: Counter[str], wanted: dict[str, int]) -> bool:
    return all(held[label] + count <= wanted[label] for label, count in group.counts.items())


def _quotas(totals: Counter[str], size: int) -> dict[str, int]:
    """Return images a class, `size` in all; none falls when the size rises."""
    everything = sum(totals.values())
    largest = max(sorted(totals), key=lambda label: totals[label])
    quotas = {
        label: min(count, max(_LEAST_OF_A_CLASS, round(size * count / everything)))
        for label, count in totals.items()
        if label != largest
    }
    return quotas | {largest: max(_LEAST_OF_A_CLASS, size - sum(quotas.values()))}
