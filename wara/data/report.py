"""The data report: what is there, how it is parted, what was passed over, and what a careful reader should know."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from wara.data.decisions import Decision
from wara.data.findings import NOTE, Finding, find
from wara.data.fixes import knows_patients
from wara.data.folders import UNUSED_TABLE
from wara.data.items import OF_ONE_FILE, Catalogue, Item
from wara.data.words import SIDE_NAMES, SPLITS, may_mean_unknown, number

_SMALL_CLASS = 20
_IMBALANCE = 10
_TINY = 64
_SHOWN_FILES = 5
_SHOWN_COPIES = 100
_SHOWN_NAMES = 8


# Findings that an older warning of the same report does not tell already.
_ALSO_WARNED = ("near-copies", "text", "drift")


def data_report(
    catalogue: Catalogue,
    split: Sequence[str] | None = None,
    *,
    findings: Sequence[Finding] | None = None,
    decisions: Sequence[Decision] = (),
) -> dict[str, Any]:
    """Describe a catalogue and its split as plain data for JSON.

    Args:
        catalogue: best after ``ingest``, when unreadable files and copies are known; with the decisions applied.
        split: the side of each item, from ``make_split``; None describes the data without one.
        findings: from ``find`` with the same catalogue and split, where they are known already.
        decisions: those that the catalogue went through, to be listed.

    Returns:
        ``images``, ``patients`` (None where unknown), ``layout``, ``fingerprint``; ``classes``: [{name, count,
        patients}]; ``splits``: {side: {images, patients, classes: {name: count}}}; ``split_source``: "given",
        "made", "completed" (val or test taken out of the given train) or None; ``passed_over``: {count, reasons:
        {reason: count}, list: [{file, reason}]}; ``leaks``: [{patient, splits, files (first 5), file_count}];
        ``copies``: [{files, splits, labels}] of files equal byte by byte (first 100); ``copy_count``;
        ``formats``: {format: count} and ``sizes``: {smallest, median, largest: [width, height]} (None before
        ``ingest``); ``warnings``: [sentence]; ``notes``: those warnings that no finding tells; ``findings``: see
        ``Finding.to_dict``; ``decisions``: see ``Decision.summary``.
    """
    items = catalogue.items
    sides = list(split) if split is not None else [None] * len(items)
    leaks = _leaks(items, sides)
    copies = _copies(items, sides)
    reasons = Counter(entry.reason for entry in catalogue.passed_over)
    report: dict[str, Any] = {
        "images": len(items),
        "patients": _patients(items),
        "layout": catalogue.layout,
        "fingerprint": catalogue.fingerprint,
        "classes": [_class(name, items) for name in catalogue.classes],
        "splits": _splits(catalogue, sides),
        "split_source": _split_source(items, sides) if split is not None else None,
        "passed_over": {
            "count": len(catalogue.passed_over),
            "reasons": dict(reasons.most_common()),
            "list": [{"file": entry.file, "reason": entry.reason} for entry in catalogue.passed_over],
        },
        "leaks": leaks,
        "copies": copies[:_SHOWN_COPIES],
        "copy_count": len(copies),
        "formats": dict(Counter(item.format for item in items if item.format).most_common()),
        "sizes": _sizes(items),
    }
    found = find(catalogue, split) if findings is None else findings
    report["findings"] = [finding.to_dict(items, sides) for finding in found]
    report["decisions"] = [decision.summary() for decision in decisions]
    told = [*_leak_warnings(report), *_copy_warnings(copies), *_passed_over_warnings(report)]
    also = [finding.sentence for finding in found if finding.kind in _ALSO_WARNED and finding.severity != NOTE]
    report["notes"] = _notes(catalogue, report)
    report["warnings"] = [*report["notes"], *told, *also]
    return report


def _class(name: str, items: Sequence[Item]) -> dict[str, Any]:
    own = [item for item in items if item.label == name]
    return {"name": name, "count": len(own), "patients": _patients(own)}


def _patients(items: Sequence[Item]) -> int | None:
    """Count the patients; an image without a patient counts as one of its own, and None means that none is known."""
    known = {item.patient for item in items if item.patient}
    return len(known) + sum(item.patient is None for item in items) if knows_patients(items) else None


def _sizes(items: Sequence[Item]) -> dict[str, list[int]] | None:
    """Return the smallest, the median and the largest image by its count of pixels; each is an image that exists."""
    found = sorted(
        ((item.width, item.height) for item in items if item.width and item.height), key=lambda s: (s[0] * s[1], s)
    )
    if not found:
        return None
    return {"smallest": list(found[0]), "median": list(found[len(found) // 2]), "largest": list(found[-1])}


def _splits(catalogue: Catalogue, sides: Sequence[str | None]) -> dict[str, Any]:
    splits = {}
    for side in SPLITS:
        own = [item for item, chosen in zip(catalogue.items, sides, strict=True) if chosen == side]
        if own:
            counts = Counter(item.label for item in own)
            by_class = {name: counts[name] for name in catalogue.classes}
            splits[side] = {"images": len(own), "patients": _patients(own), "classes": by_class}
    return splits


def _split_source(items: Sequence[Item], sides: Sequence[str | None]) -> str:
    if all(item.split is None for item in items):
        return "made"
    return "given" if all(item.split == side for item, side in zip(items, sides, strict=True)) else "completed"


def _leaks(items: Sequence[Item], sides: Sequence[str | None]) -> list[dict[str, Any]]:
    """Return the patients that stand on two sides or more: first those in the test part, then by their first file."""
    of_patient: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        if item.patient is not None:
            of_patient[item.patient].append(place)
    leaks = []
    for patient, places in of_patient.items():
        found = {sides[place] for place in places}
        if len(found) > 1:
            files = [items[place].file for place in places]
            on = [side for side in SPLITS if side in found]
            leaks.append({"patient": patient, "splits": on, "files": files[:_SHOWN_FILES], "file_count": len(files)})
    return sorted(leaks, key=lambda leak: "test" not in leak["splits"])


def _copies(items: Sequence[Item], sides: Sequence[str | None]) -> list[dict[str, Any]]:
    """Return the sets of equal files, those on two sides or of two classes first."""
    of_digest: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        if item.digest is not None:
            of_digest[item.digest].append(place)
    copies = []
    for places in of_digest.values():
        if len(places) > 1:
            found, labels = {sides[place] for place in places}, {items[place].label for place in places}
            copies.append(
                {
                    "files": [items[place].file for place in places][:_SHOWN_FILES],
                    "splits": [side for side in SPLITS if side in found],
                    "labels": sorted(labels),
                }
            )
    return sorted(copies, key=lambda entry: (len(entry["labels"]) < 2, len(entry["splits"]) < 2))


def _notes(catalogue: Catalogue, report: dict[str, Any]) -> list[str]:
    found = [*_class_warnings(catalogue, report), *_side_warnings(report)]
    if tables := report["passed_over"]["reasons"].get(UNUSED_TABLE, 0):
        found.append(
            f"{number(tables, 'table')} beside the images not used: the names of folders are taken as classes. "
            "If the labels stand in a table, name it as the table of labels."
        )
    if report["patients"] is None and report["images"]:
        found.append(
            "No patient numbers are known: images of one patient may stand on both sides of the split. "
            "A table with the column 'patient' prevents that."
        )
    elif of_one_file := len({item.path for item in catalogue.items if (item.patient or "").startswith(OF_ONE_FILE)}):
        found.append(
            f"{number(of_one_file, 'file')} of several frames without a patient number: each counts as "
            "a patient of its own."
        )
    if report["patients"] is not None and any(item.patient is None for item in catalogue.items):
        missing = sum(item.patient is None for item in catalogue.items)
        found.append(f"{number(missing, 'image')} without a patient number: each counts as a patient of its own.")
    found += _trait_notes(catalogue)
    tiny = sum(min(item.width, item.height) < _TINY for item in catalogue.items if item.width and item.height)
    if tiny:
        found.append(f"{number(tiny, 'image')} smaller than {_TINY} pixels a side: they hold little to learn from.")
    return found


def _trait_notes(catalogue: Catalogue) -> list[str]:
    """Say where sex and age come from, where they could come from two places."""
    if not catalogue.from_table or all(item.format != "DICOM" for item in catalogue.items):
        return []
    told, it = " and ".join(catalogue.from_table), "it" if len(catalogue.from_table) == 1 else "them"
    return [f"The table of labels tells {told}: what DICOM headers say of {it} is not used."]


def _copy_warnings(copies: list[dict[str, Any]]) -> list[str]:
    found = []
    across = sum(len(entry["splits"]) > 1 for entry in copies)
    if across:
        found.append(f"{number(across, 'image')} on more than one side as an exact copy.")
    torn = sum(len(entry["labels"]) > 1 for entry in copies)
    if torn:
        found.append(f"{number(torn, 'image')} in two classes as an exact copy: one of the labels is wrong.")
    return found


def _passed_over_warnings(report: dict[str, Any]) -> list[str]:
    passed_over = report["passed_over"]["count"]
    if not passed_over:
        return []
    reason, count = next(iter(report["passed_over"]["reasons"].items()))
    return [f"{number(passed_over, 'file')} passed over; the most frequent reason ({count:,}): {reason}."]


def _leak_warnings(report: dict[str, Any]) -> list[str]:
    leaks = report["leaks"]
    into_test = sum("test" in leak["splits"] for leak in leaks)
    found = []
    if into_test:
        found.append(
            f"{number(into_test, 'patient')} in the test part and in another one of the given split: "
            "the test result will look better than it is."
        )
    if len(leaks) > into_test:
        found.append(
            f"{number(len(leaks) - into_test, 'patient')} in both the training and the validation part of the given "
            "split: the validation result will look better than it is."
        )
    return found


def _class_warnings(catalogue: Catalogue, report: dict[str, Any]) -> list[str]:
    found = []
    counts = {entry["name"]: entry["count"] for entry in report["classes"]}
    small = {name: count for name, count in counts.items() if count < _SMALL_CLASS}
    if len(small) == 1:
        [(name, count)] = small.items()
        found.append(f"The class '{name}' has only {number(count, 'image')}: its results will be very uncertain.")
    elif small:
        told = _named([f"'{name}' ({count:,})" for name, count in sorted(small.items(), key=lambda entry: entry[1])])
        found.append(
            f"{len(small):,} classes have fewer than {_SMALL_CLASS} images; their results will be very uncertain: "
            f"{told}."
        )
    least, most = min(counts.values(), default=0), max(counts.values(), default=0)
    if least and most >= _IMBALANCE * least:
        rare, common = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        found.append(
            f"The classes are very unequal: '{common}' has {most / least:.0f} times as many images as '{rare}'. "
            "Balance the classes in training, and read balanced accuracy rather than accuracy."
        )
    if unknown := [f"'{name}'" for name in catalogue.classes if may_mean_unknown(name)]:
        found.append(
            f"{_named(unknown)} may stand for a label that is not known, and {'is' if len(unknown) == 1 else 'are'} "
            "taken as a class. If it is none, leave it out where you say where the classes are."
        )
    folded: dict[str, list[str]] = defaultdict(list)
    for name in catalogue.classes:
        folded[_looks_like(name)].append(f"'{name}'")
    for names in folded.values():
        if len(names) > 1:
            told = f"{', '.join(names[:-1])} and {names[-1]}"
            alike = len({name.casefold() for name in names}) == 1
            only_in = "capitals" if alike else "capitals, spaces or hidden letters"
            found.append(f"The classes {told} differ only in {only_in}: are they one class?")
    return found


def _looks_like(name: str) -> str:
    """Return a name without what the eye does not tell apart: capitals, spaces between words, letters of no width."""
    return " ".join("".join(letter for letter in name.casefold() if unicodedata.category(letter) != "Cf").split())


def _side_warnings(report: dict[str, Any]) -> list[str]:
    found = []
    for side, facts in report["splits"].items():
        absent, part = [f"'{name}'" for name, count in facts["classes"].items() if count == 0], SIDE_NAMES[side]
        if len(absent) == 1:
            found.append(f"The class {absent[0]} has no image in the {part} part: it cannot be judged there.")
        elif absent:
            found.append(
                f"{len(absent):,} classes have no image in the {part} part, so they cannot be judged there: "
                f"{_named(absent)}."
            )
    return found


def _named(names: Sequence[str]) -> str:
    """Return names as a list to read, of which the first are told where there are many."""
    told = names[:_SHOWN_NAMES]
    more = len(names) - len(told)
    return ", ".join(told) + (f" and {more:,} more" if more else "")
