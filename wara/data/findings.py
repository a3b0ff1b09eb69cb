"""Findings: what a careful reader would object to in a data set, each with its images and the fixes that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from wara.data import fixes
from wara.data.decisions import Decision
from wara.data.drift import Drift, find_drift
from wara.data.duplicates import Copies, exact_copies, near_copies
from wara.data.fixes import ACCEPT, DROP, GROUP, MOVE, Changes, Places, group_id
from wara.data.items import Catalogue, Item
from wara.data.split import sides_to_make
from wara.data.words import SIDE_NAMES, SPLITS, number
from wara.errors import InputError

SERIOUS, WARNING, NOTE = "serious", "warning", "note"
LEAKS, SMALL_CLASSES, UNREADABLE, TEXT = "leaks", "small-classes", "unreadable", "text"
# With so many patients of a class, the 95 % interval of a sensitivity of 0.8 is 0.35 wide already.
MIN_PATIENTS = 20
LEFT_OUT = "left out by a decision"
TEXT_REASONS = {
    "stated": "the file says that text is burned into the picture",
    "regions": "ultrasound: outside its image area machines write names and settings",
    "seen": "something like a line of text is seen",
}

_SHOWN_GROUPS = 12
_SHOWN_IN_GROUP = 6
_SHOWN_FILES = 100
_SAMPLE = 6
_LABELS = {
    DROP: "Leave images out",
    MOVE: "Move to one side",
    GROUP: "Treat as one patient",
    ACCEPT: "I have looked: nothing there",
}
Plan = Callable[[], Changes]


@dataclass(frozen=True, slots=True)
class Group:
    """Images of a finding that belong together, and in a few words why."""

    places: Places
    note: str


@dataclass(frozen=True)
class Finding:
    """One objection.

    Attributes:
        id: stable: the same objection to the same data has the same one.
        kind: "leaks", "copies", "near-copies", "text", "drift", "small-classes" or "unreadable".
        severity: "serious" (the test result would be wrong), "warning" or "note".
        sentence: the objection in plain words.
        groups: its images.
        files: of files that are no images of the catalogue, their names.
        plans: fix to what it would change; empty where only the person who made the data can help.
    """

    id: str
    kind: str
    severity: str
    sentence: str
    groups: tuple[Group, ...] = ()
    files: tuple[str, ...] = ()
    plans: tuple[tuple[str, Changes], ...] = ()

    def to_dict(self, items: Sequence[Item], sides: Sequence[str | None]) -> dict[str, Any]:
        """Return the finding for JSON: long lists cut, each with its full count.

        Returns:
            ``id``, ``kind``, ``severity``, ``sentence``; ``files`` (first 100) and ``file_count``; ``groups`` (first
            12): [{id, note, images: [{file, label, split}] (first 6), image_count}] and ``group_count``; ``fixes``:
            [{fix, label, sentence, images}].
        """
        files = self.files or tuple(items[place].file for group in self.groups for place in group.places)
        return {
            "id": self.id,
            "kind": self.kind,
            "severity": self.severity,
            "sentence": self.sentence,
            "files": list(files[:_SHOWN_FILES]),
            "file_count": len(files),
            "groups": [_group_dict(group, items, sides) for group in self.groups[:_SHOWN_GROUPS]],
            "group_count": len(self.groups),
            "fixes": [
                {"fix": fix, "label": _LABELS[fix], "sentence": _consequence(fix, plan, sides), "images": len(plan)}
                for fix, plan in self.plans
            ],
        }


def find(catalogue: Catalogue, split: Sequence[str] | None) -> list[Finding]:
    """Return all findings, the serious ones first.

    Args:
        catalogue: after ``ingest``; without it nothing is known of pixels, and those findings are not made.
        split: the side of each item; without it only what needs no sides is found.
    """
    items = catalogue.items
    sides: list[str | None] = list(split) if split is not None else [None] * len(items)
    exact = exact_copies(items)
    desk = _Desk(catalogue, sides)
    found = [
        *desk.leaks(),
        *desk.copies("copies", exact),
        *desk.copies("near-copies", near_copies(items, exact)),
        *_text(items),
        *(_drift_finding(drift, sides) for drift in find_drift(items, sides)),
        *desk.small_classes(),
        *_unreadable(catalogue),
    ]
    return sorted(found, key=lambda finding: (SERIOUS, WARNING, NOTE).index(finding.severity))


def decide(findings: Sequence[Finding], items: Sequence[Item], finding: str, fix: str) -> Decision:
    """Return the decision to fix a finding: every image that it changes, by name.

    Raises:
        InputError: there is no such finding (code "finding-unknown"), or it has no such fix ("fix-unknown").
    """
    by_id = {entry.id: entry for entry in findings}
    if finding not in by_id:
        raise InputError(
            "There is no such finding",
            seen=finding[:80],
            remedy=f"The findings are: {', '.join(by_id) or 'none'}.",
            code="finding-unknown",
        )
    plans = dict(by_id[finding].plans)
    if fix not in plans:
        offered = ", ".join(plans) or "none; it has to be mended in the data"
        raise InputError(
            "This finding has no such fix",
            seen=f"{finding[:80]}={fix[:40]}",
            remedy=f"Its fixes are: {offered}.",
            code="fix-unknown",
        )
    return Decision.now(finding, fix, {items[place].file: value for place, value in sorted(plans[fix].items())})


class _Desk:
    """Makes the findings about groups of images, with the fixes that suit a given or a made split."""

    def __init__(self, catalogue: Catalogue, sides: Sequence[str | None]) -> None:
        self.catalogue, self.items, self.sides = catalogue, catalogue.items, sides
        self._remade = bool(sides_to_make(catalogue)) if any(sides) else True

    def leaks(self) -> list[Finding]:
        of_patient: dict[str, list[int]] = {}
        for place, item in enumerate(self.items):
            if item.patient is not None:
                of_patient.setdefault(item.patient, []).append(place)
        groups = [tuple(places) for places in of_patient.values() if len(self._on(places)) > 1]
        groups.sort(key=lambda places: "test" not in self._on(places))
        if not groups:
            return []
        tested = sum("test" in self._on(places) for places in groups)
        parts = [f"{_have(tested)} images in the test part and in another one"] if tested else []
        if len(groups) > tested:
            parts.append(f"{_have(len(groups) - tested)} images in both training and validation")
        result = "test" if tested else "validation"
        sentence = f"{'; '.join(parts)}. The {result} result will look better than it is."
        shown = [Group(places, f"one patient: {self._on_words(places)}") for places in groups]
        plans = self._plans({
            MOVE: partial(fixes.move_together, groups, self.items, self.sides),
            DROP: partial(fixes.drop_off_side, groups, self.sides),
        })  # fmt: skip
        severity = SERIOUS if tested else WARNING
        return [Finding(LEAKS, LEAKS, severity, sentence, tuple(shown), plans=plans)]

    def copies(self, kind: str, found: Sequence[Copies]) -> list[Finding]:
        conflict = [copies for copies in found if len(self._labels(copies.places)) > 1]
        rest = [copies for copies in found if len(self._labels(copies.places)) == 1]
        across = [copies for copies in rest if len(self._on(copies.places)) > 1]
        within = [copies for copies in rest if len(self._on(copies.places)) <= 1]
        # A patient's images of one session may well be nearly equal; copies that count as one patient were decided on.
        within = [c for c in within if not self._one_patient(c.places, decided=kind == "copies")]
        # Frames of one file are no copies of each other, however still the picture stands.
        within = [c for c in within if len({self.items[place].path for place in c.places}) > 1]
        return [
            *self._conflict(kind, conflict),
            *self._across(kind, across),
            *self._within(kind, within),
        ]

    def _conflict(self, kind: str, found: Sequence[Copies]) -> list[Finding]:
        groups = [copies.places for copies in found]
        if not groups:
            return []
        sentence = f"{_pictures(kind, groups)} in two classes: one of the labels is wrong, and training learns both."
        plans = self._plans({DROP: partial(fixes.drop_all, groups)})
        return [Finding(f"{kind}-conflict", kind, SERIOUS, sentence, self._shown(found), plans=plans)]

    def _across(self, kind: str, found: Sequence[Copies]) -> list[Finding]:
        groups = [copies.places for copies in found]
        if not groups:
            return []
        tested = any("test" in self._on(places) for places in groups)
        result = "the test" if tested else "validation"
        sentence = f"{_pictures(kind, groups)} on two sides of the split: {result} asks for what training has seen."
        made = [places for places in groups if self._in_pool(places)]
        given = [places for places in groups if not self._in_pool(places)]
        plans = self._plans({
            MOVE: partial(fixes.move_together, given, self.items, self.sides),
            GROUP: partial(fixes.group_together, made, self.items),
            DROP: partial(fixes.drop_copies, groups, self.sides),
        })  # fmt: skip
        severity = SERIOUS if tested else WARNING
        return [Finding(f"{kind}-across", kind, severity, sentence, self._shown(found), plans=plans)]

    def _within(self, kind: str, found: Sequence[Copies]) -> list[Finding]:
        groups = [copies.places for copies in found]
        if not groups:
            return []
        sentence = f"{_pictures(kind, groups)} on one side: they count double there, and intervals come out too narrow."
        plans = self._plans({
            GROUP: partial(fixes.group_together, groups, self.items),
            DROP: partial(fixes.drop_copies, groups, self.sides),
        })  # fmt: skip
        return [Finding(f"{kind}-within", kind, NOTE, sentence, self._shown(found), plans=plans)]

    def small_classes(self) -> list[Finding]:
        """Classes with fewer than ``MIN_PATIENTS`` patients (images, where no patients are known) on a side."""
        unit = "patient" if fixes.knows_patients(self.items) else "image"
        groups, words = [], []
        for side in ("test", "val"):
            for name in self.catalogue.classes:
                places = tuple(p for p, item in enumerate(self.items) if item.label == name and self.sides[p] == side)
                patients = {self.items[place].patient or f"file {self.items[place].file}" for place in places}
                if places and len(patients) < MIN_PATIENTS:
                    note = f"{name}, {SIDE_NAMES[side]}: {number(len(patients), unit)}"
                    groups.append(Group(places, note))
                    words.append(note)
        if not groups:
            return []
        more = f", and {len(words) - 4} more" if len(words) > 4 else ""
        sentence = (
            f"Too few for a dependable interval, fewer than {MIN_PATIENTS} {unit}s: {'; '.join(words[:4])}{more}. "
            "Add images of these classes, or read their figures as a first impression."
        )
        return [Finding(SMALL_CLASSES, SMALL_CLASSES, WARNING, sentence, tuple(groups))]

    def _plans(self, plans: dict[str, Plan]) -> tuple[tuple[str, Changes], ...]:
        made = [(fix, plan()) for fix, plan in plans.items()]
        return tuple((fix, changes) for fix, changes in made if changes)

    def _shown(self, found: Sequence[Copies]) -> tuple[Group, ...]:
        how = {"bytes": "the same file", "pixels": "the same picture in other files"}
        return tuple(
            Group(c.places, how.get(c.how, f"nearly the same picture (likeness {c.likeness:.2f} of 1)")) for c in found
        )

    def _in_pool(self, places: Places) -> bool:
        """Whether all these images are parted here, so that it is enough to keep them together."""
        return self._remade and all(self.items[place].split in (None, "train") for place in places)

    def _on(self, places: Sequence[int]) -> set[str | None]:
        return {self.sides[place] for place in places}

    def _on_words(self, places: Sequence[int]) -> str:
        on = self._on(places)
        return " and ".join(SIDE_NAMES[side] for side in SPLITS if side in on)

    def _labels(self, places: Places) -> set[str]:
        return {self.items[place].label for place in places}

    def _one_patient(self, places: Places, *, decided: bool) -> bool:
        """Whether the images are one patient's; with ``decided``, whether that is so by a decision."""
        patients = {self.items[place].patient for place in places}
        patient = patients.pop() if len(patients) == 1 else None
        return patient is not None and (patient.startswith(fixes.GROUP_PREFIX) or not decided)


def _drift_finding(drift: Drift, sides: Sequence[str | None]) -> Finding:
    name = SIDE_NAMES[drift.side]
    if drift.shift is None and drift.kind in ("format", "modality"):
        what = "file formats" if drift.kind == "format" else "modalities"
        sentence = (
            f"The {name} images are of other {what} than the training images: {drift.here} against {drift.there} "
            f"(distance {drift.distance:.2f}; 0 is alike, 1 is apart)."
        )
    else:
        more, unit = {
            "size": (("larger", "smaller"), "median side {} against {} pixels"),
            "brightness": (("brighter", "darker"), "median brightness {} against {} of 255"),
            "contrast": (("richer in contrast", "poorer in contrast"), "median spread of grey values {} against {}"),
        }[drift.kind]
        word = more[0] if (drift.shift or 0) >= 0 else more[1]
        shift = "" if drift.shift is None else f"by {abs(drift.shift):.1f} standard deviations, "
        sentence = (
            f"The {name} images are {word} than the training images: {unit.format(drift.here, drift.there)} "
            f"({shift}Kolmogorov-Smirnov distance {drift.distance:.2f}; 0 is alike, 1 is apart). "
            "A model may do worse there, or learn the difference instead of the disease."
        )
    groups = tuple(Group(_sample(sides, side), SIDE_NAMES[side]) for side in (drift.side, "train"))
    return Finding(f"drift-{drift.kind}-{drift.side}", "drift", WARNING, sentence, groups)


def _text(items: Sequence[Item]) -> list[Finding]:
    """Images in which text may stand; those that were looked at, or masked, are none of them."""
    of_reason = {reason: tuple(p for p, item in enumerate(items) if item.text == reason) for reason in TEXT_REASONS}
    groups = tuple(Group(places, TEXT_REASONS[reason]) for reason, places in of_reason.items() if places)
    if not groups:
        return []
    flagged = [group.places for group in groups]
    sentence = (
        f"{number(sum(map(len, flagged)), 'image')} in which text may stand, perhaps a name. Look at them before you "
        "go on: a name in the picture stays in every copy of it."
    )
    plans = ((ACCEPT, fixes.accept(flagged)), (DROP, fixes.drop_all(flagged)))
    return [Finding(TEXT, TEXT, WARNING, sentence, groups, plans=plans)]


def _sample(sides: Sequence[str | None], side: str) -> Places:
    """A few images of a side, evenly from its first to its last."""
    places = [place for place, name in enumerate(sides) if name == side]
    return tuple(places[len(places) * n // _SAMPLE] for n in range(min(_SAMPLE, len(places))))


def _unreadable(catalogue: Catalogue) -> list[Finding]:
    left = [entry for entry in catalogue.passed_over if not entry.reason.startswith(LEFT_OUT)]
    if not left:
        return []
    counts: dict[str, int] = {}
    for entry in left:
        counts[entry.reason] = counts.get(entry.reason, 0) + 1
    reasons = sorted(counts.items(), key=lambda pair: -pair[1])
    words = "; ".join(f"{count:,}: {reason}" for reason, count in reasons[:3])
    more = "; and other reasons" if len(reasons) > 3 else ""
    sentence = f"{number(len(left), 'file')} passed over and not used ({words}{more})."
    return [Finding(UNREADABLE, UNREADABLE, NOTE, sentence, files=tuple(entry.file for entry in left))]


def _group_dict(group: Group, items: Sequence[Item], sides: Sequence[str | None]) -> dict[str, Any]:
    return {
        "id": group_id(items[place].file for place in group.places),
        "note": group.note,
        "images": [
            {"file": items[place].file, "label": items[place].label, "split": sides[place]}
            for place in _spread(group.places, sides)
        ],
        "image_count": len(group.places),
    }


def _spread(places: Places, sides: Sequence[str | None]) -> list[int]:
    """The images of a group that are shown: the first of every side before the others."""
    seen: set[str | None] = set()
    first = [place for place in places if sides[place] not in seen and not seen.add(sides[place])]  # type: ignore[func-returns-value]
    chosen = set((first + [place for place in places if place not in first])[:_SHOWN_IN_GROUP])
    return [place for place in places if place in chosen]


def _consequence(fix: str, plan: Changes, sides: Sequence[str | None]) -> str:
    if fix == MOVE:
        counts = {side: sum(value == side for value in plan.values()) for side in SPLITS}
        words = [f"{number(count, 'image')} to {SIDE_NAMES[side]}" for side, count in counts.items() if count]
        return f"Moves {', '.join(words)}; no image leaves the test part."
    if fix == GROUP:
        patients = len(set(plan.values()))
        return f"{number(len(plan), 'image')} count as {number(patients, 'patient')} and stay on one side."
    if fix == ACCEPT:
        return f"Notes that a person has looked at {number(len(plan), 'image')} and that no name stands there."
    tested = sum(sides[place] == "test" for place in plan)
    test = f"{tested:,} of them in the test part" if tested else "none of them in the test part"
    return f"Leaves out {number(len(plan), 'image')}" + (f", {test}." if any(sides) else ".")


def _pictures(kind: str, groups: Sequence[Places]) -> str:
    images = sum(len(places) for places in groups)
    how = "exact copies" if kind == "copies" else "nearly equal images"
    stands = "stands" if len(groups) == 1 else "stand"
    return f"{number(len(groups), 'picture')} ({images:,} images, {how}) {stands}"


def _have(count: int) -> str:
    return f"{number(count, 'patient')} {'has' if count == 1 else 'have'}"
