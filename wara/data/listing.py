"""List which images there are, of which class, patient and side, from names and tables; nothing is decoded."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from wara.data.items import Catalogue, Item, PassedOver, class_names, frame_name_parts
from wara.data.sources import Source
from wara.data.tables import Row, find_table, parse_table, resolve_files
from wara.data.words import split_of
from wara.errors import InputError
from wara.imaging.formats import is_image_name

_LAYOUTS = (
    "Put the images into one folder per class, or into train, val and test folders over class folders, "
    "or add a labels.csv with the columns file and label."
)


def read_catalogue(source: Source, labels: Path | str | None = None) -> Catalogue:
    """List the images of a source with their classes. Nothing is decoded.

    Args:
        source: an open source.
        labels: a CSV with the columns file and label, optionally patient and split: a path, or the name of a file
            inside the source. Without it ``labels.csv`` in the data's top folder is used if there is one, then
            folders.

    Returns:
        The catalogue; files that are no images stand in ``passed_over``.

    Raises:
        InputError: no files, no classes to be found, or a table that cannot be used.
    """
    names = source.names()
    if not names:
        raise InputError(
            "The folder is empty" if source.path.is_dir() else "The archive is empty",
            seen=source.path.name,
            remedy="Choose the folder that holds the images.",
            code="empty-data",
        )
    table = find_table(source, labels)
    if table is not None:
        items, passed_over = _from_table(source, names, parse_table(table.data, table.name), table.name)
        layout = "csv"
    else:
        layout, items, passed_over = _from_folders(names)
    if not items:
        raise _nothing(source, names, passed_over)
    items = sorted(items, key=lambda item: item.file)
    return Catalogue(
        items=tuple(items),
        classes=class_names(items),
        passed_over=tuple(sorted(passed_over, key=lambda entry: entry.file)),
        layout=layout,
        fingerprint=_fingerprint(source, items),
    )


def _from_table(source: Source, names: list[str], rows: list[Row], table: str) -> tuple[list[Item], list[PassedOver]]:
    found = resolve_files(rows, names, source.prefix, table)
    items = [_item(row, name, source) for row, name in zip(rows, found, strict=True)]
    named = {item.path for item in items}
    both = sorted({item.file for item in items if item.frame is None} & {i.path for i in items if i.frame is not None})
    if both:
        raise InputError(
            "The table names a file both as a whole and by its frames",
            seen=f"{table}: {both[0]}",
            remedy="Keep either the row of the file or the rows of its frames.",
            code="csv-frames",
        )
    passed_over = []
    for name in names:
        if name in named or name == table or PurePosixPath(name).suffix.lower() == ".csv":
            continue
        reason = "not named in the table" if is_image_name(name) else _not_an_image(name)
        passed_over.append(PassedOver(name, reason))
    return items, passed_over


def _item(row: Row, name: str, source: Source) -> Item:
    frame = None if name in source else frame_name_parts(name)[1]
    return Item(name, row.label, row.patient, row.split, frame=frame, sex=row.sex, age=row.age)


def _from_folders(names: list[str]) -> tuple[str, list[Item], list[PassedOver]]:
    images, passed_over = [], []
    for name in names:
        if PurePosixPath(name).name.upper() == "DICOMDIR":
            passed_over.append(PassedOver(name, "the index of a disc, not an image"))
        elif is_image_name(name):
            images.append(name.split("/"))
        else:
            passed_over.append(PassedOver(name, _not_an_image(name)))
    by_split = _has_split_folders(images)
    items = []
    for parts in images:
        name = "/".join(parts)
        split = split_of(parts[0]) if by_split and len(parts) > 1 else None
        if by_split and split is None:
            passed_over.append(PassedOver(name, "outside the train, val and test folders"))
        elif len(parts) < (3 if by_split else 2):
            passed_over.append(PassedOver(name, "not inside a class folder"))
        else:
            items.append(Item(name, parts[1].strip() if by_split else parts[0].strip(), None, split))
    return ("split-folders" if by_split else "class-folders"), items, passed_over


def _has_split_folders(images: list[list[str]]) -> bool:
    """Whether the top folders are sides of a split: all of them, or at least a ``train`` over class folders."""
    tops = {parts[0] for parts in images if len(parts) > 1}
    splits = {split_of(top) for top in tops}
    over_classes = any(len(parts) > 2 and split_of(parts[0]) is not None for parts in images)
    return over_classes and (None not in splits or "train" in splits)


def _not_an_image(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    return f"not an image of a kind that is read ({suffix})"


def _nothing(source: Source, names: list[str], passed_over: list[PassedOver]) -> InputError:
    """Return the error for a source with files but without a single image in a class."""
    tables = [name for name in names if "/" not in name and name.lower().endswith(".csv")]
    loose = sum(entry.reason == "not inside a class folder" for entry in passed_over)
    if loose:
        hint = f" The table {tables[0]} can be chosen as the labels." if tables else ""
        return InputError(
            "The images are not sorted into classes",
            seen=f"{loose:,} images outside class folders in {source.path.name}",
            remedy=_LAYOUTS + hint,
            code="no-classes",
        )
    return InputError(
        "There is no image in the data",
        seen=f"{len(names):,} files in {source.path.name}, e.g. {names[0]}",
        remedy="Choose the folder that holds the images (PNG, JPEG, TIFF, WebP, BMP or DICOM).",
        code="no-images",
    )


def _fingerprint(source: Source, items: list[Item]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for item in items:
        facts = [item.file, item.label, item.patient or "", item.split or "", source.stamp(item.path)]
        if item.sex or item.age is not None:  # only then, so that stored pixels of other data sets stay valid
            facts += [item.sex or "", str(item.age)]
        digest.update("\0".join(facts).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
