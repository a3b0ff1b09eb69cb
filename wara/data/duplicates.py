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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wara.data.items import Item
from wara.data.looks import fine_structure, perceptual_hashes, stack_looks

MAX_BITS = 10
MIN_LIKENESS = 0.9
_ROWS = 256


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
    unions, least = Unions(), {}
    for one, other, likeness in near_pairs(looks):
        unions.join(one, other)
        least[one, other] = likeness
    weakest: dict[int, float] = defaultdict(lambda: 1.0)
    for (one, _), likeness in least.items():
        root = unions.root(one)
        weakest[root] = min(weakest[root], likeness)
    found = []
    for members in unions.sets():
        whole = [place for member in members for place in stands_for.get(int(places[member]), (int(places[member]),))]
        found.append(Copies(tuple(sorted(whole)), "near", round(weakest[members[0]], 3)))
    return sorted(found, key=lambda copies: copies.places)


def near_pairs(looks: npt.NDArray[np.uint8]) -> Iterator[tuple[int, int, float]]:
    """Yield (i, j, likeness) with i < j of the looks that are nearly equal.

    Every hash is compared with every other one, a block of rows at a time: 10,000 images are 50 million comparisons
    of eight bytes, about a second. Memory: 4 kB an image for its structure, and one block, 256 rows of n.

    Args:
        looks: uint8, (n, 32, 32).
    """
    hashes, structure = perceptual_hashes(looks), fine_structure(looks)
    for start in range(0, len(hashes), _ROWS):
        block = hashes[start : start + _ROWS]
        rest = hashes[start:]
        rows, columns = np.nonzero(np.bitwise_count(block[:, np.newaxis] ^ rest[np.newaxis]) <= MAX_BITS)
        above = columns > rows
        ones, others = rows[above] + start, columns[above] + start
        # A data set of one body part gives many candidates: they too are looked at in blocks.
        for first in range(0, len(ones), 16 * _ROWS):
            i, j = ones[first : first + 16 * _ROWS], others[first : first + 16 * _ROWS]
            likeness = np.einsum("ij,ij->i", structure[i], structure[j])
            for near in np.nonzero(likeness >= MIN_LIKENESS)[0]:
                yield int(i[near]), int(j[near]), float(min(likeness[near], 1.0))
