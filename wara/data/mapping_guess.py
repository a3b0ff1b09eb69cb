"""Guess which columns of a table are file, label, patient and side: by usual names, then by what stands in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from wara.data.grids import Grid
from wara.data.matching import FileIndex
from wara.data.words import is_split_word

_NAMES = {
    "file": (
        "file", "filename", "file name", "files", "path", "filepath", "file path", "image", "images", "image id",
        "imageid", "image name", "imagename", "image file", "image path", "image index", "img", "img id", "img name",
        "scan", "scan id", "picture", "photo", "dicom", "dicom file", "dicom path", "id code", "bild", "datei",
        "dateiname",
    ),
    "label": (
        "label", "labels", "class", "classes", "class name", "classname", "diagnosis", "diagnose", "dx", "target",
        "category", "finding", "findings", "finding label", "finding labels", "pathology", "disease", "grade", "level",
        "severity", "outcome", "result", "ground truth", "groundtruth", "gt", "truth", "y", "tumor", "tumour", "klasse",
        "befund", "stage",
    ),
    "patient": (
        "patient", "patients", "patient id", "patientid", "patient number", "patient no", "patient code", "pid",
        "pat id", "patid", "subject", "subject id", "subjectid", "participant", "participant id", "mrn", "person",
        "person id", "case id", "caseid", "lesion id", "study id", "hospital number", "patientennummer",
    ),
    "split": ("split", "side", "set", "subset", "partition", "fold", "dataset", "part", "phase"),
}  # fmt: skip
# Columns that tell who somebody is: what stands in them is never shown.
_PERSONAL = (
    "name", "surname", "first name", "last name", "patient name", "patientname", "birth", "date of birth", "dob",
    "birth date", "birthdate", "address", "phone", "email", "e mail", "ssn", "nhs number", "insurance",
    "accession number", "accession",
)  # fmt: skip
MOST_CLASSES = 50
SAMPLES = 3


@dataclass(frozen=True)
class Column:
    """What a column holds.

    Attributes:
        name: its name.
        distinct: different values, empty cells left out.
        matches: rows whose value is a file or a folder of the data.
        samples: up to three values; none where they may tell who somebody is.
    """

    name: str
    distinct: int
    matches: int
    samples: tuple[str, ...]


@dataclass(frozen=True)
class Guess:
    """Guessed columns.

    Attributes:
        columns: the column for "file", "label", "patient" and "split", as far as they could be told.
        sentences: what was guessed and why, one sentence each.
        described: every column of the table.
    """

    columns: dict[str, str] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()
    described: tuple[Column, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether files and labels could be told."""
        return {"file", "label"} <= set(self.columns)


def guess_columns(grid: Grid, index: FileIndex) -> Guess:
    """Guess the columns of a table.

    Args:
        grid: the table.
        index: the images of the data.
    """
    values = [grid.values(place) for place in range(len(grid.header))]
    matches = [sum(bool(index.files(value)) for value in column) for column in values]
    unique = [place for place, name in enumerate(grid.header) if name and grid.header.count(name) == 1]
    chosen: dict[str, int] = {}
    sentences: list[str] = []
    rows = len(grid.rows)

    def free() -> list[int]:
        return [place for place in unique if place not in chosen.values()]

    def choose(what: str, place: int, why: str) -> None:
        chosen[what] = place
        sentences.append(f"Column '{grid.header[place]}' is taken as the {what}: {why}.")

    found = [place for place in free() if matches[place]]
    if found:
        best = max(found, key=lambda place: (matches[place], _usual(grid.header[place], "file"), -place))
        choose("file", best, f"{matches[best]:,} of {rows:,} rows match a file or folder of the data")
    split = next((p for p in free() if _usual(grid.header[p], "split") and _all_sides(values[p])), None)
    if split is None:
        split = next((p for p in free() if _all_sides(values[p])), None)
    if split is not None:
        choose("split", split, "it holds words such as train and test")
    patient = next((p for p in free() if _usual(grid.header[p], "patient")), None)
    if patient is not None:
        choose("patient", patient, "by its name")
    elif "file" in chosen and _usual(grid.header[chosen["file"]], "patient"):
        choose("patient", chosen["file"], "its values are patients, each with a folder or file of their own")
    label = _label(grid, values, free())
    if label is not None:
        why = "by its name" if _usual(grid.header[label], "label") else "no other column holds so few different values"
        choose("label", label, f"{why}, {_distinct(values[label])} different values")
    if "patient" not in chosen:
        looks = next((p for p in free() if _looks_like_patients(values[p])), None)
        if looks is not None:
            choose("patient", looks, "its numbers come back in several rows; check that it is")
    columns = {what: grid.header[place] for what, place in chosen.items()}
    described = tuple(
        Column(name, _distinct(values[place]), matches[place],
               _samples(name, values[place], matches[place], place == chosen.get("patient")))
        for place, name in enumerate(grid.header)
    )  # fmt: skip
    return Guess(columns, tuple(sentences), described)


def _label(grid: Grid, values: Sequence[list[str]], places: list[int]) -> int | None:
    possible = [p for p in places if 2 <= _distinct(values[p]) <= MOST_CLASSES and not _is_measure(values[p])]
    named = [p for p in possible if _usual(grid.header[p], "label")]
    if named:
        order = {name: place for place, name in enumerate(_NAMES["label"])}
        return min(named, key=lambda p: order[_folded(grid.header[p])])
    # Few different values, each of them in several rows; a column of sexes or sides of the body is like that too,
    # so the guess is said, and the person decides.
    repeated = [p for p in possible if 2 * _distinct(values[p]) <= sum(map(bool, values[p]))]
    usual = [p for p in repeated if _folded(grid.header[p]) not in ("sex", "gender", "age", "eye", "laterality")]
    return min(usual, key=lambda p: _distinct(values[p]), default=None)


def _usual(name: str, what: str) -> bool:
    return _folded(name) in _NAMES[what]


def _folded(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return " ".join(re.sub(r"[\W_]+", " ", spaced).casefold().split())


def _distinct(values: Sequence[str]) -> int:
    return len({value for value in values if value})


def _all_sides(values: Sequence[str]) -> bool:
    words = {value for value in values if value}
    return len(words) > 1 and all(is_split_word(word) for word in words)


def _is_measure(values: Sequence[str]) -> bool:
    """Whether a column holds numbers with decimals, which are measured and not classes."""
    numbers = [value for value in values if re.fullmatch(r"[-+]?\d+[.,]\d*[1-9]\d*", value)]
    return 2 * len(numbers) > len(values)


def _looks_like_patients(values: Sequence[str]) -> bool:
    filled = [value for value in values if value]
    few = _distinct(values)
    with_digits = all(re.fullmatch(r"[^\s.,]{1,40}", value) and re.search(r"\d", value) for value in filled)
    return MOST_CLASSES < few < len(filled) and with_digits


def _samples(name: str, values: Sequence[str], matches: int, patient: bool) -> tuple[str, ...]:
    """Return the first different values, unless the column may tell who somebody is."""
    hidden = patient or _usual(name, "patient") or _folded(name) in _PERSONAL
    few = _distinct(values) <= MOST_CLASSES and 2 * _distinct(values) <= sum(map(bool, values))
    if hidden or not (matches or few):
        return ()
    return tuple(value[:60] for value in dict.fromkeys(filter(None, values)))[:SAMPLES]
