"""Images that must stay on one side together: those of one patient, and files that are equal byte by byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from wara.data.items import Item


@dataclass(slots=True)
class Group:
    """Images that are never parted: their places in the catalogue and their count by class."""

    members: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def group_items(items: Sequence[Item], places: Sequence[int], least: int = 3) -> list[Group]:
    """Group items by patient and by equal content, in the order of each group's first item.

    Images without a patient stand alone. Equal files are kept together unless that would leave a class with fewer
    than ``least`` groups (a data set of copies, say); then patients alone decide, and the report tells of copies
    on two sides.

    Args:
        items: all items of a catalogue.
        places: which of them to group.
        least: groups that a class should have.
    """
    by_patient = _group(items, places, digests=False)
    by_both = _group(items, places, digests=True)
    if len(by_both) == len(by_patient):
        return by_patient
    before, after = groups_by_class(by_patient), groups_by_class(by_both)
    copies_starve = any(after[name] < min(least, count) for name, count in before.items())
    return by_patient if copies_starve else by_both


def groups_by_class(groups: Sequence[Group]) -> Counter[str]:
    """Return how many groups hold images of each class."""
    return Counter(name for group in groups for name in group.counts)


def _group(items: Sequence[Item], places: Sequence[int], *, digests: bool) -> list[Group]:
    parent: dict[int, int] = {place: place for place in places}

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    first: dict[tuple[str, str], int] = {}
    for place in places:
        item = items[place]
        keys = [("patient", item.patient)] if item.patient else []
        keys += [("digest", item.digest)] if digests and item.digest else []
        for key in keys:
            one, other = root(first.setdefault(key, place)), root(place)
            parent[max(one, other)] = min(one, other)
    groups: dict[int, Group] = {}
    for place in places:
        group = groups.setdefault(root(place), Group())
        group.members.append(place)
        group.counts[items[place].label] += 1
    return list(groups.values())
