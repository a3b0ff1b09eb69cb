"""Class folders, and train, val and test folders over or in them: what the names of folders say of the images."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

from wara.data.drawn_masks import REASON as A_MASK
from wara.data.drawn_masks import drawn_masks
from wara.data.grids import is_table_name
from wara.data.items import Item, PassedOver
from wara.data.words import split_of
from wara.imaging.formats import is_image_name

UNUSED_TABLE = "a table that was not named as the one of the labels"
DISC_INDEX = "the index of a disc, not an image"


def from_folders(names: Sequence[str]) -> tuple[str, list[Item], list[PassedOver]]:
    """Return the layout ("class-folders" or "split-folders"), the images in classes, and what is passed over."""
    images, passed_over = [], []
    for name in names:
        if is_disc_index(name):
            passed_over.append(PassedOver(name, DISC_INDEX))
        elif is_image_name(name):
            images.append(name.split("/"))
        else:
            passed_over.append(PassedOver(name, not_an_image(name)))
    masks = drawn_masks("/".join(parts) for parts in images)
    by_split = _has_split_folders(images)
    in_classes = not by_split and _has_splits_in_classes([parts for parts in images if "/".join(parts) not in masks])
    items = []
    for parts in images:
        name = "/".join(parts)
        if name in masks:
            passed_over.append(PassedOver(name, A_MASK))
            continue
        split = split_of(parts[0]) if by_split and len(parts) > 1 else None
        if by_split and split is None:
            passed_over.append(PassedOver(name, "outside the train, val and test folders"))
        elif len(parts) < (3 if by_split else 2):
            passed_over.append(PassedOver(name, "not inside a class folder"))
        else:
            label = parts[1] if by_split else parts[0]
            split = split_of(parts[1]) if in_classes else split
            # A Mac writes letters apart from their accents: the same class from there is the same.
            items.append(Item(name, unicodedata.normalize("NFC", label.strip()), None, split))
    return ("split-folders" if by_split or in_classes else "class-folders"), items, passed_over


def _has_split_folders(images: list[list[str]]) -> bool:
    """Whether the top folders are sides of a split: all of them, or at least a ``train`` over class folders.

    Of ``train`` and ``test`` that hold images alone nobody knows the classes; they are none themselves.
    """
    tops = {parts[0] for parts in images if len(parts) > 1}
    splits = {split_of(top) for top in tops}
    over_classes = any(len(parts) > 2 and split_of(parts[0]) is not None for parts in images)
    # Beside folders that are no sides "TR" may be a class, such as tricuspid regurgitation.
    in_words = any(split_of(top) == "train" and top.strip().casefold() != "tr" for top in tops)
    all_sides = None not in splits
    return (over_classes and (all_sides or in_words)) or (len(splits) > 1 and all_sides and in_words)


def _has_splits_in_classes(images: list[list[str]]) -> bool:
    """Whether every class folder is parted into sides, ``class/train/image``: else a folder in it is just a folder."""
    words = {parts[1] if len(parts) > 2 else "" for parts in images if len(parts) > 1}
    sides = {split_of(word) for word in words}
    return None not in sides and {"train"} < sides


def is_disc_index(name: str) -> bool:
    """Whether a file is the index of a DICOM disc, by its name."""
    return name.rpartition("/")[2].upper() == "DICOMDIR"


def not_an_image(name: str) -> str:
    """Return the reason why a file of this name is passed over."""
    if is_table_name(name):
        return UNUSED_TABLE
    suffix = PurePosixPath(name).suffix.lower()
    return f"not an image of a kind that is read ({suffix})"
