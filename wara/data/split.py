"""Part a catalogue into train, val and test: by class, patients whole, the same for the same seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from wara.data.groups import Group, group_items, groups_by_class
from wara.data.items import Catalogue
from wara.data.words import SPLITS
from wara.errors import InputError

FRACTIONS = (0.7, 0.15, 0.15)

# A class too rare for all sides goes to training first, then to the test that is reported.
_PRIORITY = ("train", "test", "val")
_MAX_STEPS = 20_000
_MAX_DEPTH = 300


def make_split(catalogue: Catalogue, seed: int, fractions: tuple[float, float, float] = FRACTIONS) -> list[str]:
    """Return the side of each item: "train", "val" or "test".

    Sides that the data gives are kept. Where ``val`` or ``test`` is missing among them, it is taken out of
    ``train``, patients whole. A patient never stands on two sides that are made here; equal files neither, as long
    as enough others remain. Every class stands on every side whenever its patients allow it.

    Args:
        catalogue: the images; the order of the items matters, their patients' names do not.
        seed: the same seed gives the same split.
        fractions: shares of the images for train, val and test.

    Raises:
        InputError: sides are given but none is train, or the fractions are not positive and of sum 1.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(
            "The shares of training, validation and test must be positive and sum to 1",
            seen=fractions,
            remedy="Use e.g. 0.7, 0.15, 0.15.",
            code="split-fractions",
        )
    sides = [item.split or "train" for item in catalogue.items]
    wanted = sides_to_make(catalogue)
    if not wanted:
        return sides
    shares = dict(zip(SPLITS, fractions, strict=True))
    made = {side: shares[side] for side in wanted if side != "train"}
    made["train"] = 1 - sum(made.values())
    pool = [place for place, side in enumerate(sides) if side == "train"]
    groups = group_items(catalogue.items, pool, least=len(made))
    for group, side in zip(groups, assign(groups, made, seed), strict=True):
        for place in group.members:
            sides[place] = side
    return sides


def sides_to_make(catalogue: Catalogue) -> tuple[str, ...]:
    """Return the sides between which ``make_split`` parts images: all, some with train, or none of them.

    Raises:
        InputError: sides are given but none is train.
    """
    given = {item.split for item in catalogue.items if item.split is not None}
    if not given:
        return SPLITS
    if "train" not in given and all(item.split for item in catalogue.items):
        raise InputError(
            "The given split has no training images",
            seen=", ".join(side for side in SPLITS if side in given),
            remedy="Add a train folder (or rows with split = train), or give no split at all.",
            code="split-no-train",
        )
    missing = tuple(side for side in SPLITS if side not in given and side != "train")
    return ("train", *missing) if missing else ()


def assign(groups: Sequence[Group], shares: dict[str, float], seed: int) -> list[str]:
    """Give each group a side, near the shares within every class, every class on every side where possible.

    First a few groups are placed so that each class stands on each side; then the others, the largest first, go
    where they bring the sides nearest to their shares (iterative stratification, Sechidis et al. 2011, for groups).

    Args:
        groups: in a fixed order; their content does not influence the shuffle.
        shares: side to share of the images.
        seed: of the shuffle.
    """
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    totals: Counter[str] = Counter()
    for group in groups:
        totals.update(group.counts)
    sides = {name: _Side(share, totals) for name, share in shares.items()}
    placed = _Cover(groups, order, {name: side.targets for name, side in sides.items()}).place()
    for place, name in placed.items():
        sides[name].add(groups[place].counts)
    # Python's sort keeps the shuffled order among groups of one size.
    for place in sorted(order, key=lambda place: -len(groups[place].members)):
        if place not in placed:
            counts = groups[place].counts
            placed[place] = min(sides, key=lambda name: sides[name].cost(counts))
            sides[placed[place]].add(counts)
    return [placed[place] for place in range(len(groups))]


class _Side:
    """One side while it fills: how many images of each class it should have, and still lacks."""

    def __init__(self, share: float, totals: Counter[str]) -> None:
        self.targets = {name: share * count for name, count in totals.items()}
        self._lacking = dict(self.targets)
        self._target_of_all = self._all_lacking = share * totals.total()

    def add(self, counts: Counter[str]) -> None:
        self._all_lacking -= counts.total()
        for name, count in counts.items():
            self._lacking[name] -= count

    def cost(self, counts: Counter[str]) -> float:
        """By how much the distance from the targets grows (chi-square: squares over the target) with this group.

        Unlike "where most is lacking", patients with many images reach every side in proportion, not training
        alone. All classes together weigh a tenth: that decides where rounding each class alone would tie.
        """
        by_class = sum(n * (n - 2 * self._lacking[name]) / self.targets[name] for name, n in counts.items())
        number = counts.total()
        return by_class + 0.1 * number * (number - 2 * self._all_lacking) / self._target_of_all


class _Cover:
    """Place as few groups as show every class on every side; a search, for patients of several classes can clash."""

    def __init__(self, groups: Sequence[Group], order: list[int], targets: dict[str, dict[str, float]]) -> None:
        self._groups, self._targets = groups, targets
        self._holding: dict[str, list[int]] = {}
        for place in order:
            for name in groups[place].counts:
                self._holding.setdefault(name, []).append(place)
        sides = [side for side in _PRIORITY if side in targets]
        # Rare classes choose first; a class of fewer groups than sides asks for as many sides as it has groups.
        scarce = groups_by_class(groups)
        names = sorted(self._holding, key=lambda name: (scarce[name], name))
        self._demands = [(name, side) for name in names for side in sides[: scarce[name]]]
        self._steps = 0
        self._placed: dict[int, str] = {}
        self._best: dict[int, str] = {}
        self._best_missed = len(self._demands) + 1

    def place(self) -> dict[int, str]:
        """Return the side of each group that had to be placed."""
        self._search(0, 0)
        for name, side in self._demands[_MAX_DEPTH:]:
            if not self._shown(name, side, self._best):
                free = self._candidates(name, side, self._best)
                self._best.update({free[0]: side} if free else {})
        return self._best

    def _search(self, depth: int, missed: int) -> bool:
        """Try to meet the demands from ``depth`` on; True when all were met and the search can end."""
        self._steps += 1
        if missed >= self._best_missed:
            return False
        while depth < len(self._demands) and self._shown(*self._demands[depth], self._placed):
            depth += 1
        if depth >= min(len(self._demands), _MAX_DEPTH):
            self._best, self._best_missed = dict(self._placed), missed
            return missed == 0
        name, side = self._demands[depth]
        for place in self._candidates(name, side, self._placed):
            self._placed[place] = side
            done = self._search(depth + 1, missed)
            del self._placed[place]
            if done or self._steps > _MAX_STEPS:
                return True
        return self._search(depth + 1, missed + 1)

    def _shown(self, name: str, side: str, placed: dict[int, str]) -> bool:
        return any(chosen == side and name in self._groups[place].counts for place, chosen in placed.items())

    def _candidates(self, name: str, side: str, placed: dict[int, str]) -> list[int]:
        """Groups that could show the class on the side, those first that do not take more than its share."""
        target = max(1.0, self._targets[side][name])
        free = [place for place in self._holding[name] if place not in placed]
        return sorted(free, key=lambda place: max(0.0, self._groups[place].counts[name] - target))
