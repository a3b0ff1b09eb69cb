"""Where labels, patients and sides come from: one description, kept with the data set and with every run of it."""

from __future__ import annotations

import json
from collections.abc import Mapping as Document
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wara.errors import InputError

SOURCES = ("folders", "table", "pattern", "dicom")
COLUMNS = ("file", "label", "patient", "split")
MAPPING_FILE = "mapping.json"
_MAX_TEXT = 1024
_MAX_RENAMED = 2000
_MAX_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Mapping:
    """Where each image's label, patient and side come from.

    The label comes from ``source``. A patient or a side is looked for in the table's column, then in the pattern's
    group; a patient then in the DICOM attribute ``patient_tag``. Patients become codes under this machine's key.

    Attributes:
        source: "folders", "table", "pattern" or "dicom".
        table: name of the table (CSV, TSV or .xlsx), as the data or the command line names it.
        sheet: sheet of a workbook; None for the first that holds anything.
        columns: the table's column for "file", "label", "patient" and "split", as far as it has them.
        depth: which folder names the class: 1 the top folder, 2 the one below, -1 the folder that the file lies in;
            None for the usual layouts (class folders, with train, val and test above them or not).
        pattern: regular expression with the named groups label, patient and split, as far as names hold them. It is
            searched in the file's name, or in its whole path where the pattern holds a slash.
        label_tag: DICOM attribute that is the label, by keyword or as (gggg,eeee).
        patient_tag: DICOM attribute that is the patient; None for PatientID, as everywhere.
        rename: new names of labels, by their names as read.
        leave_out: labels, as read, whose images are not used.
    """

    source: str = "folders"
    table: str | None = None
    sheet: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    depth: int | None = None
    pattern: str | None = None
    label_tag: str | None = None
    patient_tag: str | None = None
    rename: dict[str, str] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values, what is not used left out."""
        stored = asdict(self) | {"leave_out": list(self.leave_out)}
        return {key: value for key, value in stored.items() if value not in (None, {}, [])}

    @classmethod
    def from_dict(cls, document: Document[str, Any]) -> Mapping:
        """Read what ``to_dict`` gives, or a person wrote; every value is checked.

        Raises:
            InputError: an unknown field, or a value that cannot be one; code "mapping-field".
        """
        unknown = sorted(set(document) - set(cls.__dataclass_fields__))
        if unknown:
            raise _wrong(unknown[0], "there is no such field", f"The fields are {', '.join(cls.__dataclass_fields__)}.")
        fields = {key: value for key, value in document.items() if value is not None and value != ""}
        if "source" in fields and fields["source"] not in SOURCES:
            raise _wrong("source", fields["source"], f"Choose one of {', '.join(SOURCES)}.")
        for key in ("table", "sheet", "pattern", "label_tag", "patient_tag"):
            if key in fields:
                _require_text(key, fields[key])
        for key in ("columns", "rename"):
            if key in fields:
                fields[key] = _texts_by_name(key, fields[key])
        for name in fields.get("columns", {}):
            if name not in COLUMNS:
                raise _wrong("columns", name, f"A column can be the {', '.join(COLUMNS)}.")
        if "leave_out" in fields:
            fields["leave_out"] = _texts("leave_out", fields["leave_out"])
        if "depth" in fields:
            depth = fields["depth"]
            if not isinstance(depth, int) or isinstance(depth, bool) or depth == 0 or abs(depth) > _MAX_DEPTH:
                raise _wrong("depth", depth, "Give 1 for the top folder, 2 for the next, or -1 for the file's own.")
        return cls(**fields)


def write_mapping(path: Path, mapping: Mapping) -> None:
    """Write a mapping as JSON, whole or not at all."""
    draft = path.with_name(f"{path.name}.part")
    draft.write_text(json.dumps(mapping.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)


def read_mapping(path: Path) -> Mapping:
    """Read a mapping.json.

    Raises:
        InputError: it is not there or is none; code "mapping-unreadable" or "mapping-field".
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "The description of where labels come from cannot be read",
            seen=path.name,
            remedy="Name the mapping.json of a run, or leave the option out.",
            code="mapping-unreadable",
        ) from error
    return Mapping.from_dict(document)


def kept_mapping(run: Path) -> Mapping | None:
    """Return the mapping that a RUN folder holds; None where its labels came from a usual layout.

    Raises:
        InputError: as ``read_mapping``.
    """
    path = run / MAPPING_FILE
    return read_mapping(path) if path.is_file() else None


def _require_text(key: str, value: object) -> None:
    if not isinstance(value, str) or not value.isprintable():
        raise _wrong(key, value, "Give one line of text.")
    if len(value) > _MAX_TEXT:
        raise _wrong(key, f"{len(value):,} characters", f"Give at most {_MAX_TEXT:,}.")


def _texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or len(value) > _MAX_RENAMED:
        raise _wrong(key, value, f"Give a list of at most {_MAX_RENAMED:,} texts.")
    for text in value:
        _require_text(key, text)
    return tuple(value)


def _texts_by_name(key: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > _MAX_RENAMED:
        raise _wrong(key, value, f"Give at most {_MAX_RENAMED:,} pairs of texts.")
    for name, text in value.items():
        _require_text(key, name)
        _require_text(key, text)
    return {name: text for name, text in value.items() if text != ""}


def _wrong(key: str, seen: object, remedy: str) -> InputError:
    return InputError(
        f"The description of where labels come from has a wrong '{key}'",
        seen=str(seen)[:80],
        remedy=remedy,
        code="mapping-field",
    )
