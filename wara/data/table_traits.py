"""Sex and age in a table of labels whose columns a person or a guess has named: by the columns' own names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from wara.data.grids import Grid
from wara.data.matching import FileIndex
from wara.data.tables import age_in_years
from wara.errors import InputError

SEX = frozenset(("sex", "gender", "geschlecht", "sexe", "sexo", "sesso"))
AGE = frozenset(("age", "alter", "edad", "eta", "idade"))
LONGEST_SEX = 12


def table_traits(
    grid: Grid, index: FileIndex, file_column: str, taken: Collection[str]
) -> dict[str, tuple[str | None, float | None]]:
    """Return sex and age in years of each file that the table tells them of.

    A cell that holds neither is not known: such tables were made for other ends, and nobody asked for these columns.
    So is what rows of one file say differently.

    Args:
        grid: the table.
        index: finds the files.
        file_column: the column of the file names.
        taken: columns that are something else.
    """
    used = {name.strip().casefold() for name in taken}
    header = [name.strip().casefold() for name in grid.header]
    places = [
        next((place for place, name in enumerate(header) if name in names and name not in used), None)
        for names in (SEX, AGE)
    ]
    if places == [None, None]:
        return {}
    sex, age = (None if place is None else grid.values(place) for place in places)
    told: dict[str, set[tuple[str | None, float | None]]] = defaultdict(set)
    for row, written in enumerate(grid.values(grid.place(file_column))):
        found = (_sex(sex[row]) if sex else None, _age(age[row]) if age else None)
        for file in index.files(written):
            told[file].add(found)
    return {file: next(iter(found)) for file, found in told.items() if len(found) == 1 and found != {(None, None)}}


def _sex(written: str) -> str | None:
    return written.strip() or None if len(written.strip()) <= LONGEST_SEX else None


def _age(written: str) -> float | None:
    try:
        return age_in_years(written.strip(), "age")
    except InputError:
        return None
