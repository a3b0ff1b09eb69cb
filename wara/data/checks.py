"""Refuse data that nothing honest can be trained on, before any time is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from wara.data.folders import UNUSED_TABLE
from wara.data.groups import group_items, groups_by_class
from wara.data.items import Catalogue, PassedOver
from wara.data.split import sides_to_make
from wara.data.words import number
from wara.errors import InputError

_SHOWN_REASONS = 3
_PURPOSE = {"train": "training", "val": "choosing the best moment", "test": "the final test"}


def require_trainable(catalogue: Catalogue) -> None:
    """Raise the plainest true reason why the catalogue cannot be trained and tested on, if there is one.

    Call it after ``ingest``, when unreadable files are known; before, it speaks of names only.

    Raises:
        InputError: no readable image, fewer than two classes, a class with no or one image, fewer patients of a
            class than sides to be made, or a class without training images in the given split.
    """
    if not catalogue.items:
        raise nothing_readable(catalogue.passed_over)
    counts = Counter(item.label for item in catalogue.items)
    if len(catalogue.classes) < 2:
        raise InputError(
            "The data holds only one class",
            seen=catalogue.classes[0],
            remedy="At least two classes are needed: add a folder (or rows) of another class, e.g. 'normal'."
            + _or_a_table(catalogue),
            code="one-class",
        )
    for name in catalogue.classes:
        if counts[name] == 0:
            raise InputError(
                "A class has no image that can be read",
                seen=f"{name}{_why(name, catalogue.passed_over)}",
                remedy="Add readable images of this class, or take its folder (or rows) out.",
                code="class-empty",
            )
        if counts[name] == 1:
            raise InputError(
                "A class has only one image",
                seen=name,
                remedy="Training, choosing and testing need different images: add at least two more, better dozens."
                + _or_a_table(catalogue),
                code="class-too-small",
            )
    _require_sides(catalogue)


def _require_sides(catalogue: Catalogue) -> None:
    wanted = sides_to_make(catalogue)
    pool = [place for place, item in enumerate(catalogue.items) if item.split in (None, "train")]
    groups = group_items(catalogue.items, pool, least=max(1, len(wanted)))
    available = groups_by_class(groups)
    images = Counter(catalogue.items[place].label for place in pool)
    for name in catalogue.classes:
        if images[name] == 0:
            raise InputError(
                "A class has no training image in the given split",
                seen=name,
                remedy="Move some of its images to train, or take the class out.",
                code="class-not-in-train",
            )
        if available[name] < len(wanted):
            raise _too_few(name, images[name], available[name], wanted)


def _too_few(name: str, images: int, patients: int, wanted: Sequence[str]) -> InputError:
    needed = f"{len(wanted)} are needed, one each for {_and([_PURPOSE[side] for side in wanted])}"
    if images < len(wanted):
        return InputError(
            f"A class has only {images} {'image' if images == 1 else 'images'} to train on; at least {needed}",
            seen=name,
            remedy="Add images of this class, better dozens.",
            code="class-too-small",
        )
    plural = "patient" if patients == 1 else "patients"
    return InputError(
        f"A class has images of only {patients} {plural}; at least {needed}",
        seen=f"{name}: {images} images",
        remedy="A patient is never on two sides of the split. Add images of other patients, or, where the patient "
        "numbers are placeholders, give a table with true ones in the column 'patient'. Where the folders are "
        "patients, not classes, say where the classes stand: in a table or in DICOM headers.",
        code="too-few-patients",
    )


def nothing_readable(passed_over: Sequence[PassedOver]) -> InputError:
    """Return the error for data of which no image could be read, with the most frequent reason."""
    reasons = Counter(entry.reason for entry in passed_over)
    seen = "no files"
    if reasons:
        reason, count = reasons.most_common(1)[0]
        seen = f"{len(passed_over):,} files passed over, {count:,} of them: {reason}"
    return InputError(
        "No image in the data can be read",
        seen=seen,
        remedy="Choose a folder of PNG, JPEG, TIFF, WebP, BMP or DICOM images.",
        code="nothing-readable",
    )


def _why(label: str, passed_over: Sequence[PassedOver]) -> str:
    """Return the reasons why files of a class are not used, each with its count, most frequent first."""
    reasons = Counter(entry.reason for entry in passed_over if entry.label == label).most_common()
    if not reasons:
        return ""
    told = [f"{reason} ({count:,})" for reason, count in reasons[:_SHOWN_REASONS]]
    if rest := sum(count for _, count in reasons[_SHOWN_REASONS:]):
        told.append(f"other reasons ({rest:,})")
    return f", {number(sum(count for _, count in reasons), 'file')} passed over: {'; '.join(told)}"


def _or_a_table(catalogue: Catalogue) -> str:
    """Return what else to do where folders were taken for classes although a table lies beside them, else ""."""
    tables = [entry.file for entry in catalogue.passed_over if entry.reason == UNUSED_TABLE]
    return f" If the labels stand in a table ({tables[0]}), name it as the table of labels." if tables else ""


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
