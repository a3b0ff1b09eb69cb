from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wara.data import Catalogue, Item, make_split
from wara.data.groups import Group, group_items
from wara.data.items import class_names
from wara.data.split import assign
from wara.errors import InputError

SIDES = ("train", "val", "test")


def _catalogue(items: Sequence[Item]) -> Catalogue:
    return Catalogue(tuple(items), class_names(items), (), "csv", "fingerprint")


def _items(labels: Sequence[str], patients: Sequence[str | None] | None = None) -> list[Item]:
    named = patients or [None] * len(labels)
    return [Item(f"{n:05}.png", label, who) for n, (label, who) in enumerate(zip(labels, named, strict=True))]


def _sides_by_class(items: Sequence[Item], split: Sequence[str]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for item, side in zip(items, split, strict=True):
        counts[item.label][side] += 1
    return counts


people = st.lists(
    st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 12).map(str))), min_size=1, max_size=60
)


@settings(max_examples=200, deadline=None)
@given(people=people, seed=st.integers(0, 2**32))
def test_a_patient_is_never_on_two_sides(people, seed):
    items = _items([label for label, _ in people], [who for _, who in people])
    split = make_split(_catalogue(items), seed)
    assert len(split) == len(items)
    assert set(split) <= set(SIDES)
    sides = defaultdict(set)
    for item, side in zip(items, split, strict=True):
        if item.patient is not None:
            sides[item.patient].add(side)
    assert all(len(found) == 1 for found in sides.values())


@settings(max_examples=100, deadline=None)
@given(people=people, seed=st.integers(0, 100))
def test_the_same_seed_gives_the_same_split_whatever_the_patients_are_called(people, seed):
    items = _items([label for label, _ in people], [who for _, who in people])
    renamed = [item if item.patient is None else replace(item, patient=f"x{hash(item.patient)}") for item in items]
    assert make_split(_catalogue(items), seed) == make_split(_catalogue(renamed), seed)


def test_another_seed_gives_another_split():
    catalogue = _catalogue(_items("ab" * 100))
    assert make_split(catalogue, 0) != make_split(catalogue, 1)


@settings(max_examples=100, deadline=None)
@given(counts=st.dictionaries(st.sampled_from("abcde"), st.integers(3, 40), min_size=1), seed=st.integers(0, 1000))
def test_every_class_is_on_every_side_from_three_images_on(counts, seed):
    items = _items([name for name, count in counts.items() for _ in range(count)])
    split = make_split(_catalogue(items), seed)
    for sides in _sides_by_class(items, split).values():
        assert set(sides) == set(SIDES)


@settings(max_examples=100, deadline=None)
@given(groups=st.lists(st.sets(st.sampled_from("abc"), min_size=1), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_every_class_is_on_every_side_whenever_any_split_of_the_patients_does_that(groups, seed):
    """Patients with images of several classes can clash; all 3^n ways are tried for comparison."""
    made = [Group([place], Counter(classes)) for place, classes in enumerate(groups)]
    classes = set().union(*groups)

    def covers(sides: Sequence[str]) -> bool:
        return all(
            any(side == chosen and name in own for own, chosen in zip(groups, sides, strict=True))
            for name in classes
            for side in SIDES
        )

    ours = assign(made, {"train": 0.7, "val": 0.15, "test": 0.15}, seed)
    assert covers(ours) == any(covers(sides) for sides in itertools.product(SIDES, repeat=len(groups)))


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_too_rare_for_all_sides_goes_to_training_and_then_to_the_test(count):
    items = _items(["a"] * 30 + ["rare"] * count)
    assert set(_sides_by_class(items, make_split(_catalogue(items), 3))["rare"]) == set(("train", "test")[:count])


def test_five_images_a_class_are_enough():
    items = _items("aaaaabbbbb")
    counts = _sides_by_class(items, make_split(_catalogue(items), 0))
    assert all(sides == {"train": 3, "val": 1, "test": 1} for sides in counts.values())


@settings(max_examples=50, deadline=None)
@given(
    counts=st.dictionaries(st.sampled_from("abc"), st.integers(20, 200), min_size=1),
    fractions=st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.8, 0.1, 0.1)]),
    seed=st.integers(0, 1000),
)
def test_single_images_are_parted_within_one_image_of_the_shares(counts, fractions, seed):
    items = _items([name for name, count in counts.items() for _ in range(count)])
    found = _sides_by_class(items, make_split(_catalogue(items), seed, fractions))
    for name, count in counts.items():
        for side, share in zip(SIDES, fractions, strict=True):
            assert abs(found[name][side] - share * count) <= 1


def test_patients_with_many_images_reach_every_side_in_proportion():
    items = [Item(f"{who:04}-{n}.png", "ab"[who % 2], str(who)) for who in range(300) for n in range(1 + who % 7)]
    split = make_split(_catalogue(items), 0)
    images = Counter(split)
    patients = {side: len({item.patient for item, found in zip(items, split, strict=True) if found == side})
                for side in SIDES}  # fmt: skip
    for side, share in zip(SIDES, (0.7, 0.15, 0.15), strict=True):
        assert images[side] / len(items) == pytest.approx(share, abs=0.01)
        assert images[side] / patients[side] == pytest.approx(len(items) / 300, rel=0.15)


def test_one_patient_with_most_images_is_not_put_where_he_fills_more_than_the_side():
    items = [Item(f"big{n}.png", "a", "big") for n in range(50)] + _items("a" * 50)
    split = make_split(_catalogue(items), 5)
    assert split[0] == "train"


def test_equal_files_stay_together():
    items = [replace(item, digest=str(number // 2)) for number, item in enumerate(_items("ab" * 60))]
    items = [replace(item, label="ab"[number // 2 % 2]) for number, item in enumerate(items)]
    split = make_split(_catalogue(items), 0)
    assert split[0::2] == split[1::2]
    assert set(split) == set(SIDES)


def test_a_data_set_of_copies_is_still_parted():
    items = [replace(item, digest="same") for item in _items("aaaabbbb")]
    assert len(group_items(items, range(8))) == 8
    assert set(make_split(_catalogue(items), 0)) == set(SIDES)


def test_copies_join_the_groups_of_their_patients():
    items = [Item("1", "a", "p", None, "x"), Item("2", "a", "p", None, "y"), Item("3", "a", "q", None, "y")]
    items += [Item(str(number), "a") for number in range(4, 8)]
    assert [group.members for group in group_items(items, range(7))] == [[0, 1, 2], [3], [4], [5], [6]]


def test_a_given_split_is_kept_as_it_is_even_where_it_leaks():
    sides = ["train", "test", "val", "train"]
    items = [replace(item, patient="p", split=side) for item, side in zip(_items("abab"), sides, strict=True)]
    assert make_split(_catalogue(items), 0) == sides


@pytest.mark.parametrize(("given_side", "made_side"), [("test", "val"), ("val", "test")])
def test_a_side_that_is_not_given_is_taken_out_of_training_by_patient(given_side, made_side):
    items = [Item(f"{who:03}-{n}.png", "ab"[who % 2], str(who), "train") for who in range(100) for n in range(2)]
    items += [Item(f"x{n}.png", "ab"[n % 2], f"x{n}", given_side) for n in range(30)]
    split = make_split(_catalogue(items), 0)
    assert split[200:] == [given_side] * 30
    assert split[0:200:2] == split[1:200:2]
    assert Counter(split[:200])[made_side] == pytest.approx(30, abs=2)
    assert set(split[:200]) == {"train", made_side}


def test_training_alone_is_parted_in_three():
    items = [replace(item, split="train") for item in _items("ab" * 50)]
    assert Counter(make_split(_catalogue(items), 0)) == {"train": 70, "val": 15, "test": 15}


def test_a_given_split_without_training_is_refused():
    items = [replace(item, split="test") for item in _items("abab")]
    with pytest.raises(InputError, match="no training images") as caught:
        make_split(_catalogue(items), 0)
    assert caught.value.code == "split-no-train"


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.9, 0.2, -0.1)])
def test_shares_that_are_none_are_refused(fractions):
    with pytest.raises(InputError, match="sum to 1"):
        make_split(_catalogue(_items("abab")), 0, fractions)


def test_hundreds_of_classes_are_parted_too():
    items = _items([f"class {number}" for number in range(400) for _ in range(3)])
    counts = _sides_by_class(items, make_split(_catalogue(items), 0))
    assert all(set(sides) == set(SIDES) for sides in counts.values())


def test_patients_of_many_classes_are_parted_with_every_class_on_every_side():
    items = [Item(f"{who:03}-{c}.png", f"c{c}", str(who)) for who in range(40) for c in range(who % 5, 20, 5)]
    counts = _sides_by_class(items, make_split(_catalogue(items), 1))
    assert all(set(sides) == set(SIDES) for sides in counts.values())
