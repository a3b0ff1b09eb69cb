"""List which images there are, of which class, patient and side, from names, tables and headers; nothing is decoded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from wara.data.folders import from_folders, is_disc_index, not_an_image
from wara.data.grids import is_table_name
from wara.data.items import Catalogue, Item, PassedOver, class_names, frame_name_parts
from wara.data.mapping import Mapping
from wara.data.mapping_preview import open_reader
from wara.data.mapping_read import Reading
from wara.data.patients import patient_code
from wara.data.sources import Source
from wara.data.tables import Row, find_table, parse_table, resolve_files
from wara.data.words import number
from wara.errors import InputError
from wara.imaging.formats import is_image_name, is_raster_name

_LAYOUTS = (
    "Put the images into one folder per class, or into train, val and test folders over class folders, "
    "or add a labels.csv with the columns file and label."
)
_SHOWN_REASONS = 3


def read_catalogue(source: Source, labels: Path | str | None = None, mapping: Mapping | None = None) -> Catalogue:
    """List the images of a source with their classes. Nothing is decoded.

    Args:
        source: an open source.
        labels: a table (CSV, TSV or .xlsx) with the columns file and label, optionally patient and split: a path, or
            the name of a file inside the source. Without it ``labels.csv``, ``.tsv`` or ``.xlsx`` in the data's top
            folder is used if there is one, then folders.
        mapping: where labels, patients and sides come from, when it is otherwise; ``labels`` is then only where the
            mapping's table is to be found.

    Returns:
        The catalogue; files that are no images stand in ``passed_over``. Patients are codes.

    Raises:
        InputError: no files, no classes to be found, or a table or a mapping that cannot be used.
    """
    names = source.names()
    if not names:
        raise InputError(
            "The folder is empty" if source.path.is_dir() else "The archive is empty",
            seen=source.path.name,
            remedy="Choose the folder that holds the images.",
            code="empty-data",
        )
    if mapping is not None:
        layout, items, passed_over = _from_mapping(source, mapping, labels)
    elif (table := find_table(source, labels)) is not None:
        items, passed_over = _from_table(source, names, parse_table(table.data, table.name), table.name)
        layout = "csv"
    else:
        layout, items, passed_over = from_folders(names)
        if items and _is_disc(names):
            raise _disc()
    if not items:
        raise _nothing(source, names, passed_over)
    items = sorted(items, key=lambda item: item.file)
    told = [("sex", any(item.sex for item in items)), ("age", any(item.age is not None for item in items))]
    return Catalogue(
        items=tuple(items),
        classes=class_names(items),
        passed_over=tuple(sorted(passed_over, key=lambda entry: entry.file)),
        layout=layout,
        fingerprint=fingerprint_of(source, items),
        from_table=tuple(trait for trait, known in told if known),
    )


def _from_mapping(
    source: Source, mapping: Mapping, labels: Path | str | None
) -> tuple[str, list[Item], list[PassedOver]]:
    reader = open_reader(source, mapping, labels)
    readings = reader.read()
    used = [reading for reading in readings if reading.reason is None]
    passed_over = [PassedOver(reading.file, reading.reason) for reading in readings if reading.reason is not None]
    passed_over += [PassedOver(name, reason) for name, reason in reader.left_aside()]
    if reader.images and not used:
        reasons = Counter(entry.reason for entry in passed_over).most_common(_SHOWN_REASONS)
        told = "; ".join(f"{count:,} times: {reason}" for reason, count in reasons)
        raise InputError(
            "No image gets a label in this way",
            seen=f"{len(reader):,} images; {told}",
            remedy="Say in another way where the labels come from.",
            code="mapping-nothing",
        )
    items = [_mapped(reading, *reader.traits.get(reading.file, (None, None))) for reading in used]
    layout = from_folders(reader.images)[0] if mapping.source == "folders" else mapping.source
    return layout, items, passed_over


def _mapped(reading: Reading, sex: str | None, age: float | None) -> Item:
    return Item(reading.file, reading.label or "", reading.patient, reading.split, sex=sex, age=age)


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
        if name in named or name == table or is_table_name(name):
            continue
        reason = "not named in the table" if is_image_name(name) else not_an_image(name)
        passed_over.append(PassedOver(name, reason))
    return items, passed_over


def _item(row: Row, name: str, source: Source) -> Item:
    frame = None if name in source else frame_name_parts(name)[1]
    patient = patient_code(row.patient) if row.patient else None
    return Item(name, row.label, patient, row.split, frame=frame, sex=row.sex, age=row.age)


def _is_disc(names: list[str]) -> bool:
    """Whether this is a DICOM disc, or what was copied from one: its index on top, and DICOM files alone."""
    indexed = any(is_disc_index(name) for name in names if "/" not in name)
    return indexed and not any(is_raster_name(name) for name in names)


def _disc() -> InputError:
    return InputError(
        "The folders of a DICOM disc are patients and studies, not classes",
        seen="the index of a disc, DICOMDIR",
        remedy="Say where the classes stand: in a table with the columns file and label, or in an attribute of the "
        "DICOM headers. If the folders are classes after all, leave the file DICOMDIR out.",
        code="no-classes",
    )


def _nothing(source: Source, names: list[str], passed_over: list[PassedOver]) -> InputError:
    """Return the error for a source with files but without a single image in a class."""
    tables = [name for name in names if "/" not in name and is_table_name(name)]
    loose = sum(entry.reason == "not inside a class folder" for entry in passed_over)
    if loose:
        hint = f" The table {tables[0]} can be chosen as the labels." if tables else ""
        return InputError(
            "The images are not sorted into classes",
            seen=f"{number(loose, 'image')} outside class folders",
            remedy=_LAYOUTS + hint,
            code="no-classes",
        )
    return InputError(
        "There is no image in the data",
        seen=f"{number(len(names), 'file')}, e.g. {names[0]}",
        remedy="Choose the folder that holds the images (PNG, JPEG, TIFF, WebP, BMP or DICOM).",
        code="no-images",
    )


def fingerprint_of(source: Source, items: Iterable[Item]) -> str:
    """Return the fingerprint of a catalogue (see ``Catalogue``) of these items as they lie in a source."""
    digest = hashlib.blake2b(digest_size=16)
    for item in items:
        facts = [item.file, item.label, item.patient or "", item.split or "", source.stamp(item.path)]
        if item.sex or item.age is not None:  # only then, so that stored pixels of other data sets stay valid
            facts += [item.sex or "", str(item.age)]
        digest.update("\0".join(facts).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
