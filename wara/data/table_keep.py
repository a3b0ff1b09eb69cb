"""What is kept of a table of labels: what labels are read from, patients as codes, columns that single nobody out.

A further column, such as a finer label, is kept where its name is not like an identifier's, it holds few different
values, and each of them stands with several patients; so a person can still choose it.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wara.data.grids import Grid
from wara.data.patients import patient_code
from wara.data.table_traits import AGE, LONGEST_SEX, SEX
from wara.data.tables import age_in_years
from wara.errors import InputError
from wara.imaging.deidentify import Consent
from wara.imaging.identity import CODED

ROLES = ("file", "label", "patient", "split")
MOST_VALUES = 100
FEWEST_PATIENTS = 5
_LONGEST_VALUE = 60
# Words of a column's name that say that it may tell who somebody is: whole ones, and parts of long ones.
_IDENTIFYING = (
    "id ids nr no num number mrn pid uid uuid dob ssn nhs nom nome code name names time day date data ort plz zip city "
    "town tel fax user login url web ip dr doctor arzt staff text free race ethnicity religion village ward room bed "
    "zeit hora heure tag dia jour geb born"
)
_WORDS = frozenset(_IDENTIFYING.split())
_PARTS = (
    "name", "nummer", "numero", "number", "apellido", "cognome", "prenom", "birth", "born", "geburt", "naissance",
    "nacimiento", "nascita", "datum", "date", "fecha", "uhrzeit", "time", "adress", "address", "direccion",
    "indirizzo", "street", "strasse", "straße", "stadt", "postal", "postcode", "phone", "telefon", "mobile", "handy",
    "mail", "physician", "medico", "medecin", "operator", "radiologist", "refer", "station", "hospital", "klinik",
    "clinic", "institut", "comment", "note", "notiz", "nota", "remark", "remarque", "comentario", "kommentar",
    "bemerkung", "anmerkung", "freetext", "description", "history", "report", "accession", "identif", "insurance",
    "versicher", "passport", "initial", "contact", "kontakt", "occupation", "beruf", "patient", "person", "subject",
    "ethnic", "relig", "nation",
)  # fmt: skip


@dataclass(frozen=True)
class KeptTable:
    """A reduced table.

    Attributes:
        data: the table as CSV in UTF-8.
        columns: its column for "file", "label", "patient" and "split", as far as it has them.
    """

    data: bytes
    columns: dict[str, str]


def keep_table(
    grid: Grid, columns: Mapping[str, str], stored: Callable[[str], Sequence[str]], consent: Consent
) -> KeptTable | None:
    """Reduce a table.

    Args:
        grid: the table.
        columns: its columns for "file", "label", "patient" and "split"; a file is needed.
        stored: returns the names under which what a row writes as its file is stored now; none where it is not kept.
        consent: whether sex and age are kept, by which bands.

    Returns:
        The table; one row for each stored file. None where no row names a file that is kept.

    Raises:
        InputError: a column is missing or there twice; the key that hides patients can be neither read nor made.
    """
    places = {role: grid.place(columns[role]) for role in ROLES if role in columns}
    cells = {role: grid.values(place) for role, place in places.items()}
    if "patient" in cells:
        coded = [patient_code(written) if written else None for written in cells["patient"]]
        cells["patient"] = [f"{CODED}{code}" if code else "" for code in coded]
    taken: dict[int, str] = {}
    header, values, final = list[str](), list[list[str]](), dict[str, str]()
    for role, place in places.items():
        # One column may be file and patient at once; what is kept of the two differs.
        name = _plain(grid.header[place]) if place not in taken else _free(role, {*header, *map(_plain, grid.header)})
        taken.setdefault(place, role)
        header.append(name)
        values.append(cells[role])
        final[role] = name
    for place, name in enumerate(grid.header):
        free = place not in taken and name and grid.header.count(name) == 1 and _plain(name) not in header
        kept = _further(name, grid.values(place), cells.get("patient"), consent) if free else None
        if kept is not None:
            header.append(_plain(name))
            values.append(kept)
    rows = [
        [file, *(column[number] for column in values[1:])]
        for number, written in enumerate(cells["file"])
        for file in stored(written)
    ]
    return KeptTable(_written(header, rows), final) if rows else None


def may_identify(column: str) -> bool:
    """Whether a column's name is like that of something that tells who somebody is."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)
    plain = unicodedata.normalize("NFKD", spaced).casefold()
    words = re.findall(r"[^\W\d_]+", "".join(char for char in plain if not unicodedata.combining(char)))
    together = "".join(words)
    return not words or any(word in _WORDS for word in words) or any(part in together for part in _PARTS)


def singles_out(values: Sequence[str], patients: Sequence[str]) -> bool:
    """Whether a value of a column stands with fewer than five patients, or the column has more than 100 values."""
    found: dict[str, set[str]] = defaultdict(set)
    for value, patient in zip(values, patients, strict=True):
        if value:
            found[value].add(patient)
    return len(found) > MOST_VALUES or any(len(who - {""}) < FEWEST_PATIENTS for who in found.values())


def _further(name: str, values: list[str], patients: list[str] | None, consent: Consent) -> list[str] | None:
    """Return what is kept of a column that is none of the roles, or None."""
    folded = name.strip().casefold()
    if folded in SEX:
        return [value if len(value) <= LONGEST_SEX else "" for value in values] if consent.sex_and_age else None
    if folded in AGE:
        return [_banded(value, consent) for value in values] if consent.sex_and_age else None
    if patients is None or not any(values) or any(len(value) > _LONGEST_VALUE for value in values):
        return None
    words = set(re.findall(r"[^\W\d_]+", folded))
    if may_identify(name) or words & (SEX | AGE) or singles_out(values, patients):
        return None
    return values


def _banded(written: str, consent: Consent) -> str:
    try:
        age = consent.age(age_in_years(written, "age"))
    except InputError:
        return ""
    return "" if age is None else f"{age:.0f}"


def _plain(name: str) -> str:
    """Return a column's name without what might be taken for the mark between two columns."""
    return " ".join(re.sub(r"[;,|\s]+", " ", name).split())


def _free(role: str, taken: set[str]) -> str:
    name, number = role, 2
    while name in taken:
        name, number = f"{role} {number}", number + 1
    return name


def _written(header: list[str], rows: list[list[str]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue().encode()
