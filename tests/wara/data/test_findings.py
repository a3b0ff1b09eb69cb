from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from wara.data import Catalogue, Item, PassedOver, data_report, make_split
from wara.data.decisions import apply_decisions
from wara.data.findings import decide, find
from wara.data.items import class_names
from wara.errors import InputError


def _catalogue(items, passed_over=()) -> Catalogue:
    return Catalogue(tuple(items), class_names(items), tuple(passed_over), "csv", "print", "digest")


@pytest.fixture
def items() -> list[Item]:
    """A hundred and fifty patients with two images each, in turn of two classes, in a given split."""
    sides = ["train"] * 50 + ["val"] * 50 + ["test"] * 50
    return [
        Item(f"{who:03}-{n}.png", "ab"[who % 2], f"p{who}", sides[who], f"d{who}-{n}", pixels=f"x{who}-{n}")
        for who in range(150)
        for n in (0, 1)
    ]


def _find(items, passed_over=()):
    catalogue = _catalogue(items, passed_over)
    split = make_split(catalogue, 0)
    return catalogue, split, {finding.id: finding for finding in find(catalogue, split)}


def _fixed(catalogue, found, finding, fix) -> Catalogue:
    return apply_decisions(catalogue, [decide(list(found.values()), catalogue.items, finding, fix)])


def _sides_of_patients(catalogue) -> dict[str, set[str]]:
    sides = defaultdict(set)
    for item, side in zip(catalogue.items, make_split(catalogue, 0), strict=True):
        sides[item.patient].add(side)
    return sides


def test_clean_data_has_no_findings(items):
    assert _find(items)[2] == {}


@pytest.fixture
def leaking(items) -> list[Item]:
    """Patient 0 also in test, patient 2 also in validation, patient 100 with one of three images in training."""
    items[1] = replace(items[1], split="test")
    items[5] = replace(items[5], split="val")
    return [*items, replace(items[200], file="200-2.png", split="train", digest="d", pixels="x")]


def test_patients_on_two_sides_are_one_finding_with_those_of_the_test_part_first(leaking):
    catalogue, split, found = _find(leaking)
    assert list(found) == ["leaks"]
    leaks = found["leaks"]
    assert leaks.severity == "serious"
    assert leaks.sentence == (
        "2 patients have images in the test part and in another one; 1 patient has images in both training and "
        "validation. The test result will look better than it is."
    )
    shown = leaks.to_dict(catalogue.items, split)
    assert json.loads(json.dumps(shown)) == shown
    assert [group["note"] for group in shown["groups"]] == [
        "one patient: training and test", "one patient: training and test", "one patient: training and validation",
    ]  # fmt: skip
    assert (shown["group_count"], shown["file_count"]) == (3, 7)
    assert shown["groups"][0]["images"][1] == {"file": "000-1.png", "label": "a", "split": "test"}


def test_moving_leaks_keeps_every_image_of_the_test_part_and_leaves_no_leak(leaking):
    catalogue, split, found = _find(leaking)
    moved = _fixed(catalogue, found, "leaks", "move")
    assert all(len(sides) == 1 for sides in _sides_of_patients(moved).values())
    assert len(moved.items) == len(catalogue.items)
    after = dict(zip((item.file for item in moved.items), make_split(moved, 0), strict=True))
    before = dict(zip((item.file for item in catalogue.items), split, strict=True))
    assert all(after[file] == "test" for file, side in before.items() if side == "test")
    assert (after["000-0.png"], after["002-1.png"], after["200-2.png"]) == ("test", "train", "test")


def test_dropping_leaks_takes_nothing_from_the_test_part(leaking):
    catalogue, _, found = _find(leaking)
    dropped = _fixed(catalogue, found, "leaks", "drop")
    gone = {item.file for item in catalogue.items} - {item.file for item in dropped.items}
    assert gone == {"000-0.png", "002-1.png", "200-2.png"}
    assert _find(dropped.items)[2].keys() == set()


@pytest.mark.parametrize("field", ["digest", "pixels"])
def test_copies_are_told_by_what_they_spoil(items, field):
    def same(one: int, other: int, **changes) -> None:
        items[other] = replace(items[other], **{field: getattr(items[one], field)}, **changes)

    same(0, 204)  # training and test
    same(2, 5)  # of two classes
    same(8, 12)  # two patients of one side
    catalogue, _, found = _find(items)
    assert {finding.id: finding.severity for finding in found.values()} == {
        "copies-conflict": "serious", "copies-across": "serious", "copies-within": "note",
    }  # fmt: skip
    assert "1 picture (2 images, exact copies) stands in two classes" in found["copies-conflict"].sentence
    assert dict(found["copies-conflict"].plans) == {"drop": {2: None, 5: None}}
    assert dict(found["copies-across"].plans)["drop"] == {0: None}
    # With their patients' other images, or a leak would come of it.
    assert dict(found["copies-across"].plans)["move"] == {0: "test", 1: "test"}
    for finding, fix in [(f.id, fix) for f in found.values() for fix, _ in f.plans]:
        assert finding not in _find(_fixed(catalogue, found, finding, fix).items)[2], (finding, fix)
    grouped = _fixed(catalogue, found, "copies-within", "group")
    assert len({grouped.items[place].patient for place in (8, 9, 12, 13)}) == 1


def test_a_made_split_keeps_together_what_is_grouped():
    items = [Item(f"{n:03}.png", "ab"[n % 2], None, None, f"d{n}", pixels=f"x{n % 60}") for n in range(120)]
    catalogue, _, found = _find(items)
    assert [fix for fix, _ in found["copies-across"].plans] == ["group", "drop"]
    grouped = _fixed(catalogue, found, "copies-across", "group")
    sides = defaultdict(set)
    for item, side in zip(grouped.items, make_split(grouped, 0), strict=True):
        if item.patient is not None:
            sides[item.patient].add(side)
    assert sides and all(len(on) == 1 for on in sides.values())
    assert set(Counter(make_split(grouped, 0))) == {"train", "val", "test"}
    # A group is no patient that the data names.
    assert data_report(grouped, make_split(grouped, 0))["patients"] is None


def test_classes_too_small_for_an_interval_are_named_by_side(items):
    few = [item for place, item in enumerate(items) if not (item.split == "test" and item.label == "b" and place > 220)]
    _, _, found = _find(few)
    assert found["small-classes"].severity == "warning"
    assert "fewer than 20 patients: b, test: 5 patients." in found["small-classes"].sentence
    assert found["small-classes"].plans == ()
    unknown = [replace(item, patient=None) for item in few]
    assert "fewer than 20 images: b, test: 10 images." in _find(unknown)[2]["small-classes"].sentence


def test_files_that_were_passed_over_are_a_note_with_reasons(items):
    over = [PassedOver("x", "cut short"), PassedOver("y", "cut short"), PassedOver("z", "left out by a decision (c)")]
    _, _, found = _find(items, over)
    assert found["unreadable"].sentence == "2 files passed over and not used (2: cut short)."
    assert found["unreadable"].files == ("x", "y")


def test_an_unknown_finding_or_fix_is_refused_with_those_that_there_are(leaking):
    catalogue, _, found = _find(leaking)
    with pytest.raises(InputError, match="no such finding") as refused:
        decide(list(found.values()), catalogue.items, "nothing", "drop")
    assert (refused.value.code, refused.value.remedy) == ("finding-unknown", "The findings are: leaks.")
    with pytest.raises(InputError, match="no such fix") as refused:
        decide(list(found.values()), catalogue.items, "leaks", "group")
    assert (refused.value.code, refused.value.remedy) == ("fix-unknown", "Its fixes are: move, drop.")


def test_the_same_data_has_the_same_ids(leaking):
    catalogue, split, found = _find(leaking)
    again = [finding.to_dict(catalogue.items, split) for finding in find(catalogue, split)]
    assert again == [finding.to_dict(catalogue.items, split) for finding in found.values()]


def test_frames_of_one_file_are_no_copies_of_each_other(items):
    still = [
        Item(f"{file}#{n}", "a", file, "train", f"{file}{n}", pixels="still", frame=n)
        for file in ("one.dcm", "two.dcm")
        for n in (1, 2)
    ]
    assert "copies-within" not in _find([*items, *still[:2]])[2]
    assert "copies-within" in _find([*items, *still])[2]


def test_images_in_which_text_may_stand_are_grouped_by_why_and_can_be_accepted_or_left_out(items):
    reasons = {3: "seen", 8: "stated", 9: "seen", 20: "regions", 21: "masked", 22: ""}
    items = [replace(item, text=reasons.get(place)) for place, item in enumerate(items)]
    catalogue, _, found = _find(items)
    text = found["text"]
    assert text.severity == "warning"
    assert text.sentence.startswith("4 images in which text may stand, perhaps a name.")
    assert [group.places for group in text.groups] == [(8,), (20,), (3, 9)]
    assert [fix for fix, _ in text.plans] == ["accept", "drop"]
    accepted = _fixed(catalogue, found, "text", "accept")
    assert [item.text for item in accepted.items if item.text is not None] == ["", "", "", "", "masked", ""]
    # Nothing that is trained on has changed, and so stored pixels stay good.
    assert (accepted.fingerprint, len(accepted.items)) == (catalogue.fingerprint, len(items))
    assert len(_fixed(catalogue, found, "text", "drop").items) == len(items) - 4


def test_without_a_look_for_text_nothing_is_said_of_it(items):
    assert all(item.text is None for item in items)
    assert "text" not in _find(items)[2]
