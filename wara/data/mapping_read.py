"""Follow a mapping: each file's label, patient and side, or the reason why the file is not used. No pixels are read."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from wara.data.dicom_tags import label_keyword, patient_keyword, read_tags
from wara.data.drawn_masks import REASON as A_MASK
from wara.data.drawn_masks import drawn_masks
from wara.data.folders import DISC_INDEX, from_folders, is_disc_index, not_an_image
from wara.data.grids import Grid, is_table_name, named
from wara.data.kept import Kept
from wara.data.mapping import Mapping
from wara.data.matching import FileIndex
from wara.data.patients import patient_code
from wara.data.patterns import EXAMPLE, NamePattern
from wara.data.table_traits import table_traits
from wara.data.words import split_of
from wara.errors import InputError
from wara.imaging.formats import is_image_name
from wara.imaging.names_in_paths import is_coded

ALIKE = "other files have its name, and the table does not say by the folder which one is meant"
NO_FILE = "named in the table, but not in the data"
_SAY_BEFORE = "Or upload the images again with 'Ask me where the classes are', and say it before they are checked."


@dataclass(frozen=True, slots=True)
class Reading:
    """What a mapping says of one file.

    Attributes:
        file: the file's name in the data.
        label: its class, under its new name; None where there is none.
        patient: a code, never what was written; None where unknown.
        split: "train", "val" or "test", or None.
        groups: further named groups of the pattern, as they stand in the name.
        reason: why the file is not used; None where it is.
    """

    file: str
    label: str | None = None
    patient: str | None = None
    split: str | None = None
    groups: dict[str, str] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Facts:
    """What one place (table, pattern, header, folders) says of a file."""

    label: str | None = None
    patient: str | None = None
    split: str | None = None
    groups: dict[str, str] = field(default_factory=dict)
    reason: str | None = None


class Reader:
    """Follows one mapping over the names of a source.

    Args:
        mapping: where labels, patients and sides come from.
        names: the source's names.
        open_file: opens a file of the source, for DICOM headers.
        grid: the table, where the mapping names one.
        prefix: the source's wrapping folder, with a slash, or "".
        table: the table's name relative to the source where it lies in it.
        kept: what is still known of former headers and names, where the source was cleaned.

    Raises:
        InputError: the mapping is not complete or does not fit the table; see the message.
    """

    def __init__(
        self,
        mapping: Mapping,
        names: Sequence[str],
        open_file: Callable[[str], BinaryIO],
        *,
        grid: Grid | None = None,
        prefix: str = "",
        table: str = "",
        kept: Kept | None = None,
    ) -> None:
        self.mapping = mapping
        self.images = [name for name in names if is_image_name(name) and name != table]
        self.others = [name for name in names if not is_image_name(name) and name != table]
        self.rows_without_file: list[str] = []
        self._open = open_file
        self._pattern = NamePattern(mapping.pattern) if mapping.pattern else None
        self._label_tag = label_keyword(mapping.label_tag) if mapping.label_tag else None
        self._patient_tag = patient_keyword(mapping.patient_tag) if mapping.patient_tag else None
        self._kept = kept
        self._require_complete(grid)
        self._require_kept(grid)
        self._table: dict[str, _Facts] | None = None
        self.traits: dict[str, tuple[str | None, float | None]] = {}
        if grid is not None:
            index = FileIndex(self.images, prefix, table)
            self._table = self._read_table(grid, index)
            self.traits = table_traits(grid, index, mapping.columns["file"], mapping.columns.values())
        self._folders = self._read_folders() if mapping.source == "folders" else {}
        self._split_folders = mapping.source != "table" and _tops_are_sides(self.images)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, names: Iterable[str] | None = None) -> list[Reading]:
        """Return what the mapping says of images: of those named, or of all."""
        readings = [self._reading(name) for name in (self.images if names is None else names)]
        if any(reading.split and not reading.reason for reading in readings):
            readings = [
                replace(reading, reason="it has no side of the split, which others have")
                if reading.split is None and reading.reason is None
                else reading
                for reading in readings
            ]
        return readings

    def left_aside(self) -> list[tuple[str, str]]:
        """Return what is no image, and the table's rows without a file, each with the reason; tables are left out."""
        others = [(name, not_an_image(name)) for name in self.others if not is_table_name(name)]
        return others + [(written, NO_FILE) for written in self.rows_without_file]

    def _require_complete(self, grid: Grid | None) -> None:
        mapping = self.mapping
        if mapping.source == "table" or mapping.columns:
            if grid is None:
                raise _incomplete("the name of the table is missing", "Name the table of labels.")
            needed = ("file", "label") if mapping.source == "table" else ("file",)
            for column in needed:
                if column not in mapping.columns:
                    raise _incomplete(
                        f"the column of the {column} is missing; {grid.name} has {named(grid.header)}",
                        f"Say which column holds the {'file names' if column == 'file' else 'labels'}.",
                    )
        if mapping.source == "pattern" and (self._pattern is None or "label" not in self._pattern.groups):
            seen = mapping.pattern or "no pattern"
            raise _incomplete(seen, f"Name the part that is the label (?P<label>...), e.g. {EXAMPLE}")
        if mapping.source == "dicom" and self._label_tag is None:
            raise _incomplete("no DICOM attribute", "Name the attribute that is the label, e.g. BodyPartExamined.")

    def _require_kept(self, grid: Grid | None) -> None:
        """Refuse what was removed when the images were cleaned, and say what, why and what to do."""
        if self._kept is None:
            return
        wanted = (self._label_tag if self.mapping.source == "dicom" else None, self._patient_tag)
        if lost := self._kept.lost(wanted):
            raise InputError(
                "This DICOM attribute was removed when the images were checked, for it may tell who somebody is",
                seen=lost[0],
                remedy=f"Choose another one. {_SAY_BEFORE}",
                code="removed",
            )
        header = set() if grid is None else {name.casefold() for name in grid.header}
        gone = [column for column in self.mapping.columns.values() if column.strip().casefold() not in header]
        if grid is not None and gone:
            raise InputError(
                f"The table has no column '{gone[0]}' (any more): columns that may tell who somebody is were removed "
                "when the images were checked",
                seen=f"{grid.name}: its columns are {named(grid.header)}",
                remedy=f"Name one of these columns. {_SAY_BEFORE}",
                code="csv-column-missing",
            )

    def _read_table(self, grid: Grid, index: FileIndex) -> dict[str, _Facts]:
        places = {name: grid.place(column) for name, column in self.mapping.columns.items()}
        found: dict[str, list[_Facts]] = defaultdict(list)
        unclear: set[str] = set()
        for _, cells in grid.rows:
            cell = {key: cells[place] if place < len(cells) else "" for key, place in places.items()}
            files = index.files(cell["file"])
            if alike := index.alike(cell["file"]):
                unclear.update(alike)
            elif not files:
                self.rows_without_file.append(cell["file"] or f"a row without a file name in {grid.name}")
            for file in files:
                found[file].append(_facts(cell, "in the table"))
        not_known = {file: _Facts(reason=ALIKE) for file in unclear}
        return not_known | {file: _agreed(facts) for file, facts in found.items()}

    def _read_folders(self) -> dict[str, _Facts]:
        depth = self.mapping.depth
        if depth is None:
            _, items, passed_over = from_folders(self.images)
            known = {item.file: _Facts(label=item.label, split=item.split) for item in items}
            return known | {entry.file: _Facts(reason=entry.reason) for entry in passed_over}
        facts = {}
        masks = drawn_masks(self.images)
        for name in self.images:
            if name in masks:
                facts[name] = _Facts(reason=A_MASK)
                continue
            folders = name.split("/")[:-1]
            place = depth - 1 if depth > 0 else len(folders) + depth
            inside = 0 <= place < len(folders)
            facts[name] = _Facts(label=folders[place]) if inside else _Facts(reason="not inside so many folders")
        return facts

    def _reading(self, name: str) -> Reading:
        if is_disc_index(name):
            return Reading(name, reason=DISC_INDEX)
        places = {
            "table": self._from_table(name),
            "pattern": self._from_pattern(name),
            "dicom": self._from_header(name),
            "folders": self._folders.get(name, _Facts()),
        }
        chosen = places[self.mapping.source]
        written = _composed(chosen.label)
        label = self.mapping.rename.get(written, written) if written else None
        patient = next((facts.patient for facts in places.values() if facts.patient), None)
        split = next((facts.split for facts in places.values() if facts.split), None)
        if split is None and self._split_folders:
            split = split_of(name.split("/", 1)[0])
        reason = next((facts.reason for facts in (chosen, *places.values()) if facts.reason), None)
        if reason is None and written in self.mapping.leave_out:
            reason = f"its label '{written}' is left out"
        if reason is None and not label:
            reason = "it has no label"
        return Reading(name, label, patient_code(patient) if patient else None, split, places["pattern"].groups, reason)

    def _from_table(self, name: str) -> _Facts:
        if self._table is None:
            return _Facts()
        found = self._table.get(name)
        if found is None:
            return _Facts(reason="not named in the table") if self.mapping.source == "table" else _Facts()
        if self.mapping.source == "table" and not found.label and not found.reason:
            return replace(found, reason="the table gives it no label")
        return found

    def _from_pattern(self, name: str) -> _Facts:
        if self._pattern is None:
            return _Facts()
        labels = self.mapping.source == "pattern"
        former = self._kept is not None and self._kept.pattern == self.mapping.pattern and name in self._kept.groups
        groups = self._kept.groups[name] if former and self._kept else self._pattern.find(name)
        if groups is None and labels and not former and self._kept is not None and is_coded(name):
            return _Facts(reason="its name repeated its header and is a code now, which does not fit the pattern")
        if groups is None:
            # A label is needed; a patient or a side that some names lack is not.
            return _Facts(reason="its name does not fit the pattern") if labels else _Facts()
        facts = _facts(groups, "in the name")
        if labels and not facts.label and not facts.reason:
            return replace(facts, reason="its name holds no label")
        return facts

    def _from_header(self, name: str) -> _Facts:
        if self._label_tag is None and self._patient_tag is None:
            return _Facts()
        patient_tag = self._patient_tag or "PatientID"
        wanted = [tag for tag in (self._label_tag, patient_tag) if tag]
        try:
            values = self._tags(name, wanted)
        except InputError as error:
            return _Facts(reason=error.what)
        if self.mapping.source != "dicom":
            return _Facts(patient=(values or {}).get(patient_tag))
        if values is None:
            return _Facts(reason="not a DICOM file")
        label = values.get(self._label_tag or "")
        why = f"its DICOM header has no {self._label_tag}" + (", or none that was kept" if self._kept else "")
        reason = None if label else why
        return _Facts(label, values.get(patient_tag), reason=reason)

    def _tags(self, name: str, wanted: list[str]) -> dict[str, str] | None:
        """Return values of a header, those first that were kept of the former one; None where it is not DICOM."""
        known = self._kept.tags.get(name, {}) if self._kept else {}
        missing = [tag for tag in wanted if self._kept is None or tag not in self._kept.keywords]
        if not missing:
            return known if self._kept and name in self._kept.tags else None
        with self._open(name) as file:
            values = read_tags(file, missing)
        return None if values is None else values | known


def _facts(cell: dict[str, str], where: str) -> _Facts:
    word = cell.get("split", "")
    split = split_of(word) if word else None
    reason = f"'{word}' {where} names no side of the split" if word and split is None else None
    groups = {key: value for key, value in cell.items() if key not in ("file", "label", "patient", "split")}
    return _Facts(cell.get("label") or None, cell.get("patient") or None, split, groups, reason)


def _agreed(facts: list[_Facts]) -> _Facts:
    """Return what all rows of one file say; rows that say different things are not chosen among."""
    first = facts[0]
    for what in ("label", "patient", "split"):
        if len({getattr(fact, what) for fact in facts}) > 1:
            return replace(first, reason=f"the table gives it more than one {'side' if what == 'split' else what}")
    return first


def _tops_are_sides(images: Sequence[str]) -> bool:
    tops = Counter(name.split("/", 1)[0] if "/" in name else "" for name in images)
    return bool(tops) and all(split_of(top) is not None for top in tops)


def _composed(text: str | None) -> str:
    return unicodedata.normalize("NFC", text or "").strip()


def _incomplete(seen: str, remedy: str) -> InputError:
    return InputError("It is not said where the labels come from", seen=seen, remedy=remedy, code="mapping-incomplete")
