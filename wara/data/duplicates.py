"""Copies among the images: equal byte by byte, equal pixel by pixel, and nearly equal.

Nearly equal means two things at once: perceptual hashes (64 bits) that differ in at most ``MAX_BITS``, and fine
structures that correlate at ``MIN_LIKENESS`` or more (`wara.data.looks`). The hash finds candidates in a moment; the
correlation decides. A picture that was saved anew, resized or made brighter is found; one that was turned, mirrored or
cut is not.

The thresholds were set by looking at pairs. Among the 5,856 chest X-rays of Kermany et al. all pairs at 0.9 or more
are one picture twice (1.000), and the nearest two different pictures reach 0.77; by the hash alone 43,000 pairs, and by
the plain correlation of 32 x 32 grey values (0.95 or more) 560, would have been called copies. Among the 2,750 skin
images of ISIC 2017 the pairs between 0.9 and 1 are one lesion photographed or cut twice; a few more such pairs lie
between 0.78 and 0.9, amid different lesions, and are not told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wara.data.items import Item
from wara.data.looks import fine_structure, perceptual_hashes, stack_looks

MAX_BITS = 10
MIN_LIKENESS = 0.9
# Comparisons of hashes at once, and pairs of structures.
_COMPARISONS = 1 << 19
_PAIRS = 4096


@dataclass(frozen=True, slots=True)
class Copies:
    """Images that are one picture.

    Attributes:
        places: where they stand in the catalogue, ascending.
        how: "bytes" where all files are equal, "pixels" where all pictures are, "near" else.
        likeness: the smallest correlation of fine structures by which two of them were joined; 1.0 if not "near".
    """

    places: tuple[int, ...]
    how: str
    likeness: float = 1.0


class Unions:
    """Sets that are joined until what belongs together is one (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def root(self, member: int) -> int:
        """Return the set of a member, named by its smallest member."""
        parent = self._parent
        while parent.setdefault(member, member) != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    def join(self, one: int, other: int) -> None:
        """Make the sets of two members one."""
        first, second = self.root(one), self.root(other)
        self._parent[max(first, second)] = min(first, second)

    def sets(self) -> list[tuple[int, ...]]:
        """Return the sets of two members or more, each ascending, by their first."""
        found: dict[int, list[int]] = defaultdict(list)
        for member in sorted(self._parent):
            found[self.root(member)].append(member)
        return [tuple(members) for members in found.values() if len(members) > 1]


def exact_copies(items: Sequence[Item]) -> list[Copies]:
    """Return the sets of images whose files, or whose decoded pixels, are equal."""
    unions = Unions()
    for values in ([item.digest for item in items], [item.pixels for item in items]):
        first: dict[str, int] = {}
        for place, value in enumerate(values):
            if value is not None and first.setdefault(value, place) != place:
                unions.join(first[value], place)
    return [
        Copies(places, "bytes" if len({items[place].digest for place in places}) == 1 else "pixels")
        for places in unions.sets()
    ]


def near_copies(items: Sequence[Item], exact: Sequence[Copies] = ()) -> list[Copies]:
    """Return the sets of images that are nearly equal, and not all equal.

    Args:
        items: images; those whose look is not known take no part.
        exact: sets of equal images: one stands for all in the search, and all appear in what is found.
    """
    stands_for = {copies.places[0]: copies.places for copies in exact}
    others = {place for copies in exact for place in copies.places[1:]}
    places, looks = stack_looks(items)
    chosen = np.asarray([place not in others for place in places], bool)
    places, looks = places[chosen], looks[chosen]
    labels, weakest = join_near(looks)
    found = []
    for label, likeness in weakest.items():
        members = places[labels == label].tolist()
        whole = [place for member in members for place in stands_for.get(member, (member,))]
        found.append(Copies(tuple(sorted(whole)), "near", round(likeness, 3)))
    return sorted(found, key=lambda copies: copies.places)


def join_near(looks: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.intp], dict[int, float]]:
    """Join looks that are nearly equal into sets.

    Every hash is compared with every other one, a block of rows at a time: 10,000 images are 50 million comparisons
    of eight bytes, about a second. Memory: 4 kB for the structure of each image that is a candidate, and one block.
    Pairs that are in one set already are not looked at again, so a thousand copies of one picture cost no more than
    strangers.

    Args:
        looks: uint8, (n, 32, 32).

    Returns:
        The set of each look, named by its first member, (n,); and for each set of two or more the smallest likeness
        by which one was joined to it.
    """
    hashes, structure = perceptual_hashes(looks), _Structures(looks)
    labels = np.arange(len(looks))
    weakest: dict[int, float] = {}
    at_once = max(1, _COMPARISONS // max(1, len(hashes)))
    for start in range(0, len(hashes), at_once):
        block, rest = hashes[start : start + at_once], hashes[start:]
        rows, columns = np.nonzero(np.bitwise_count(block[:, np.newaxis] ^ rest[np.newaxis]) <= MAX_BITS)
        above = columns > rows
        ones, others = rows[above] + start, columns[above] + start
        # A data set of one body part gives many candidates: they too are looked at in blocks.
        for first in range(0, len(ones), _PAIRS):
            i, j = ones[first : first + _PAIRS], others[first : first + _PAIRS]
            apart = labels[i] != labels[j]
            i, j = i[apart], j[apart]
            likeness = np.einsum("ij,ij->i", structure.of(i), structure.of(j))
            for pair in np.nonzero(likeness >= MIN_LIKENESS)[0]:
                one, other = sorted((int(labels[i[pair]]), int(labels[j[pair]])))
                if one != other:
                    labels[labels == other] = one
                    known = (weakest.get(one, 1.0), weakest.pop(other, 1.0))
                    weakest[one] = min(*known, float(likeness[pair]))
    return labels, weakest


class _Structures:
    """The fine structures of looks, each made when it is first asked for."""

    def __init__(self, looks: npt.NDArray[np.uint8]) -> None:
        self._looks = looks
        self._made = np.zeros(len(looks), dtype=bool)
        # Pages that nobody writes to take no memory.
        self._all = np.empty((len(looks), looks[0].size if len(looks) else 0), np.float32)

    def of(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        missing = np.unique(places[~self._made[places]])
        self._all[missing] = fine_structure(self._looks[missing])
        self._made[missing] = True
        return self._all[places]
