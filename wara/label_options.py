"""Options of the command line that say where labels and patients come from, made into a mapping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wara.errors import InputError

if TYPE_CHECKING:
    from wara.data.mapping import Mapping
    from wara.data.sources import Source

Labels = Annotated[
    Path | None, typer.Option(help="Table (.csv, .tsv or .xlsx) with columns file, label and perhaps patient, split.")
]
Columns = Annotated[
    str | None, typer.Option(help="The table's own columns: file=Image,label=Dx,patient=PID,split=Set.")
]
Sheet = Annotated[str | None, typer.Option(help="Sheet of the workbook; else the first that holds anything.")]
Pattern = Annotated[
    str | None,
    typer.Option(help="Regular expression over file names with the groups label, patient, split: '(?P<patient>..)_'."),
]
LabelTag = Annotated[str | None, typer.Option(help="DICOM attribute that is the label, e.g. BodyPartExamined.")]
PatientTag = Annotated[str | None, typer.Option(help="DICOM attribute that is the patient.", show_default="PatientID")]
MappingFile = Annotated[
    Path | None, typer.Option("--mapping", help="mapping.json of a run: the same labels again; options go before it.")
]


@dataclass(frozen=True)
class LabelOptions:
    """What a person gave on the command line."""

    labels: Path | None = None
    columns: str | None = None
    sheet: str | None = None
    pattern: str | None = None
    label_tag: str | None = None
    patient_tag: str | None = None
    mapping_file: Path | None = None

    def resolve(self, data: Path) -> tuple[Mapping | None, tuple[str, ...]]:
        """Return the mapping, None where the usual layouts are meant, and sentences on what was guessed.

        Raises:
            InputError: the options do not fit each other or the table; columns that there are stand in the message.
        """
        from wara.data.mapping import Mapping, read_mapping
        from wara.data.sources import open_source

        given = (self.columns, self.sheet, self.pattern, self.label_tag, self.patient_tag)
        base = None if self.mapping_file is None else read_mapping(self.mapping_file)
        if not any(given) and (base is not None or self.labels is None):
            return base, ()
        columns = _pairs(self.columns)
        asked = base or Mapping()
        asked = replace(
            asked,
            sheet=self.sheet or asked.sheet,
            pattern=self.pattern or asked.pattern,
            label_tag=self.label_tag or asked.label_tag,
            patient_tag=self.patient_tag or asked.patient_tag,
            columns={**asked.columns, **columns},
        )
        with open_source(data) as source:
            mapping, sentences = _with_table(source, asked, self.labels, table=bool(columns or self.sheet))
        if mapping is None:
            return None, ()
        label_from = _label_source(mapping, base)
        return Mapping.from_dict(replace(mapping, source=label_from).to_dict()), sentences


def _with_table(
    source: Source, mapping: Mapping, labels: Path | None, *, table: bool
) -> tuple[Mapping | None, tuple[str, ...]]:
    """Fill in the table's name and the columns that were not given; None where its columns are as expected."""
    from wara.data.grids import named, read_grid
    from wara.data.mapping import COLUMNS, Mapping
    from wara.data.mapping_guess import guess_columns
    from wara.data.mapping_preview import open_table
    from wara.data.matching import FileIndex
    from wara.data.tables import has_expected_columns
    from wara.imaging.formats import is_image_name

    if labels is None and not table and not mapping.columns:
        return mapping, ()
    found = open_table(source, mapping.table, labels)
    if found is None:
        raise InputError(
            "Columns of a table are named, and there is no table",
            seen=", ".join(mapping.columns.values()) or mapping.sheet,
            remedy="Name the table by --labels.",
            code="csv-not-found",
        )
    grid = read_grid(found.data, found.name, mapping.sheet)
    mapping = replace(mapping, table=found.name)
    if has_expected_columns(grid) and not mapping.columns:
        if mapping == Mapping(table=found.name):
            return None, ()
        folded = {cell.casefold(): cell for cell in grid.header}
        return replace(mapping, columns={key: folded[key] for key in COLUMNS if key in folded}), ()
    guess = guess_columns(grid, FileIndex([n for n in source.names() if is_image_name(n)], source.prefix, found.name))
    others = {key: column for key, column in guess.columns.items() if key not in mapping.columns}
    by_pattern_or_tag = bool(mapping.label_tag) or "?P<label>" in (mapping.pattern or "")
    if mapping.columns or by_pattern_or_tag:  # what a person leaves out of the columns is meant to be left out
        others = {key: column for key, column in others.items() if key == "file"}
    columns = {**mapping.columns, **others}
    missing = [key for key in ("file", "label") if key not in columns and not (key == "label" and by_pattern_or_tag)]
    if missing:
        raise InputError(
            f"It cannot be told which column of the table is the {missing[0]}",
            seen=f"{grid.name}: its columns are {named(grid.header)}",
            remedy="Name them, e.g. --columns file=Image,label=Dx,patient=PID.",
            code="csv-column-missing",
        )
    told = tuple(
        sentence for sentence in guess.sentences if any(f"'{column}'" in sentence for column in others.values())
    )
    return replace(mapping, columns=columns), told


def _label_source(mapping: Mapping, base: Mapping | None) -> str:
    places = {
        "table": "label" in mapping.columns,
        "dicom": mapping.label_tag is not None,
        "pattern": "?P<label>" in (mapping.pattern or ""),
    }
    told: Sequence[str] = [place for place, gives in places.items() if gives]
    if base is not None and base.source in told:
        return base.source
    if len(told) > 1:
        raise InputError(
            "The label is said to come from more than one place",
            seen=" and ".join(told),
            remedy="Keep one of --columns label=..., --label-tag and a pattern with the group label.",
            code="mapping-twice",
        )
    return told[0] if told else "folders"


def _pairs(text: str | None) -> dict[str, str]:
    from wara.data.mapping import COLUMNS

    pairs = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        key, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column or key not in COLUMNS:
            raise InputError(
                "A column is not named as it should be",
                seen=part.strip(),
                remedy=f"Write NAME=COLUMN with the names {', '.join(COLUMNS)}, e.g. --columns file=Image,label=Dx.",
                code="columns-form",
            )
        pairs[key] = column
    return pairs
