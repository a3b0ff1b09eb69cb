"""What each fix of a finding would change, image by image; nothing is changed here.

Three of them change what is trained on: ``drop`` leaves images out, ``move`` brings all images of a patient to one
side, ``group`` has images count as one patient's, so that a split made here keeps them together and intervals count
them once. Where sides are given, the test part keeps every image that it has: ``move`` adds to it, ``drop`` takes from
the other sides. Two are notes: ``accept``, that a person has looked at images and that nothing is the matter, and
``mask``, that text in them was covered in the files.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from wara.data.items import Item

DROP, MOVE, GROUP, ACCEPT, MASK = "drop", "move", "group", "accept", "mask"
FIXES = (DROP, MOVE, GROUP, ACCEPT, MASK)
# These say what a person saw or did to the files, and change nothing of what is trained on.
NOTES = (ACCEPT, MASK)
GROUP_PREFIX = "group "

# The first of these that a group of copies has an image in keeps that image.
_KEPT_FIRST = ("test", "val", "train", None)

Changes = dict[int, str | None]
Places = tuple[int, ...]


def drop_copies(groups: Iterable[Places], sides: Sequence[str | None]) -> Changes:
    """Leave out all but one image of each group; the one in the test part stays, else in the validation part."""
    changes: Changes = {}
    for places in groups:
        kept = min(places, key=lambda place: (_KEPT_FIRST.index(sides[place]), place))
        changes.update({place: None for place in places if place != kept})
    return changes


def drop_all(groups: Iterable[Places]) -> Changes:
    """Leave out every image of each group: of copies in two classes nobody knows which class is right."""
    return {place: None for places in groups for place in places}


def accept(groups: Iterable[Places]) -> Changes:
    """Note of every image of each group that a person has looked at it."""
    return drop_all(groups)


def drop_off_side(groups: Iterable[Places], sides: Sequence[str | None]) -> Changes:
    """Leave out the images of each group that are not on the side where the group belongs."""
    changes: Changes = {}
    for places in groups:
        side = home_side(places, sides)
        changes.update({place: None for place in places if sides[place] != side})
    return changes


def move_together(groups: Iterable[Places], items: Sequence[Item], sides: Sequence[str | None]) -> Changes:
    """Bring each group, with all images of its patients, to one side: the test part if it has one there."""
    changes: Changes = {}
    for places in _with_patients(groups, items):
        side = home_side(places, sides)
        changes.update({place: side for place in places if sides[place] != side})
    return changes


def group_together(groups: Iterable[Places], items: Sequence[Item]) -> Changes:
    """Have the images of each group, with all images of its patients, count as one patient's."""
    changes: Changes = {}
    for places in _with_patients(groups, items):
        if len({items[place].patient for place in places}) > 1 or items[places[0]].patient is None:
            changes.update(dict.fromkeys(places, GROUP_PREFIX + group_id(items[place].file for place in places)))
    return changes


def home_side(places: Places, sides: Sequence[str | None]) -> str | None:
    """Return where a group belongs: the test part if any image is there, else the side with the most of them."""
    counts = Counter(sides[place] for place in places)
    if counts["test"]:
        return "test"
    return max(counts, key=lambda side: (counts[side], side == "train"))


def knows_patients(items: Iterable[Item]) -> bool:
    """Whether the data names patients; groups that a decision made are none."""
    return any(item.patient is not None and not item.patient.startswith(GROUP_PREFIX) for item in items)


def group_id(files: Iterable[str]) -> str:
    """Return eight letters and digits that name a group by its files, the same whenever it is found again."""
    text = "\n".join(sorted(files)).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=4).hexdigest()


def _with_patients(groups: Iterable[Places], items: Sequence[Item]) -> list[Places]:
    """Return the groups with all images of their patients; groups that share a patient become one."""
    from wara.data.duplicates import Unions

    of_patient: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        if item.patient is not None:
            of_patient[item.patient].append(place)
    unions = Unions()
    for places in groups:
        for place in places:
            unions.join(places[0], place)
            for other in of_patient.get(items[place].patient or "", ()):
                unions.join(place, other)
    return unions.sets()
