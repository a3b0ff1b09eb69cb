"""Which images a cell trains on: whole patients, each class its share, small sets inside large ones."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from benchmarks.study.subsets import LADDER, limited, training_subset
from wara.data.items import Item


@pytest.fixture(scope="module")
def items() -> list[Item]:
    """900 images: 70 % a, 20 % b, 10 % c, one to six of a patient."""
    draw = random.Random(3)
    found: list[Item] = []
    for label, count in (("a", 630), ("b", 180), ("c", 90)):
        left, patient = count, 0
        while left:
            images = min(left, draw.randint(1, 6))
            found += [Item(f"{label}/{patient}-{n}.png", label, patient=f"{label}{patient}") for n in range(images)]
            left, patient = left - images, patient + 1
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_smaller_set_is_part_of_every_larger_one(items: list[Item], seed: int) -> None:
    places = list(range(len(items)))
    sets = [set(training_subset(items, places, size, seed)) for size in LADDER]
    assert all(small <= large for small, large in itertools.pairwise(sets))
    assert sets[-1] == set(places)


@pytest.mark.parametrize("size", [50, 100, 200, 500])
def test_patients_stay_whole_and_classes_keep_their_shares(items: list[Item], size: int) -> None:
    chosen = set(training_subset(items, range(len(items)), size, 0))
    patients = {items[place].patient for place in chosen}
    assert {place for place, item in enumerate(items) if item.patient in patients} == chosen
    counts = Counter(items[place].label for place in chosen)
    assert size - 12 <= len(chosen) <= size  # no class is more than a patient's images short
    assert counts["a"] <= 0.7 * size and counts["b"] <= 0.2 * size and counts["c"] <= 0.1 * size


def test_the_seed_decides(items: list[Item]) -> None:
    first, again, other = (training_subset(items, range(len(items)), 100, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_a_rare_class_has_two_images(items: list[Item]) -> None:
    alone = [Item(item.file, item.label) for item in items[:700]]  # 10 of class a for each of b, none of c
    counts = Counter(alone[place].label for place in training_subset(alone, range(len(alone)), 10, 0))
    assert counts == {"a": 8, "b": 2}


def test_the_images_that_a_cell_is_looked_at_by_are_limited_to_whole_patients(items: list[Item]) -> None:
    chosen = limited(items, range(len(items)), 100)
    patients = {items[place].patient for place in chosen}
    assert 85 <= len(chosen) <= 100
    assert sum(item.patient in patients for item in items) == len(chosen)
    assert limited(items, [5, 3, 4], 100) == limited(items, [5, 3, 4], None) == [3, 4, 5]
