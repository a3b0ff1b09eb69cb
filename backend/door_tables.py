"""The tables of an upload at the door: each is reduced to what labels may still be read from; the rest is dropped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from backend.storage import write_atomically
from wara.data.grids import Grid, is_table_name, read_grid
from wara.data.items import frame_name, frame_name_parts
from wara.data.mapping import Mapping
from wara.data.mapping_guess import guess_columns
from wara.data.mapping_preview import open_table
from wara.data.matching import FileIndex
from wara.data.sources import Source
from wara.data.table_keep import ROLES, keep_table, may_identify
from wara.data.tables import Table, find_table
from wara.errors import InputError
from wara.imaging.deidentify import Consent
from wara.imaging.formats import is_image_name
from wara.imaging.path_codes import PathCoder


class TableKeeper:
    """Reduces the tables of one data set.

    Args:
        source: what came, open.
        names: the names under which images are stored now, by those in the source.
        coder: gives tables their names.
        consent: what may be kept of the patients.
        root: folder of what is kept.
    """

    def __init__(
        self, source: Source, names: dict[str, str], coder: PathCoder, consent: Consent, root: Path
    ) -> None:
        self._source = source
        self._names = names
        self._coder = coder
        self._consent = consent
        self._root = root
        self._images = [name for name in source.names() if is_image_name(name)]

    def keep(self, mapping: Mapping | None, labels: Path | None, folder: Path) -> tuple[Mapping | None, str | None]:
        """Write the reduced tables; return the mapping as it is followed now, and the name of the table of labels.

        Args:
            mapping: where labels come from, if a person said it.
            labels: a copy of the table that the upload named, which goes to ``folder``.
            folder: for that table alone.
        """
        used = self._used(mapping, labels)
        found: dict[str, _Placed] = {}
        for name in self._source.names():
            if is_table_name(name) and not (labels is not None and PurePosixPath(name).name == labels.name):
                self._keep(Table(name, self._source.read(name)), used, mapping, self._root, found)
        if labels is not None:
            self._keep(Table(labels.name, labels.read_bytes()), used, mapping, folder, found)
        named = found.get(labels.name) if labels is not None else None
        followed = mapping
        if mapping is not None and used is not None:
            now = found.get(used)
            followed = replace(
                mapping,
                table=now.name if now else None,
                sheet=None,  # what was a sheet of a workbook is a table of its own
                columns=now.columns if now else {},
            )
        return followed, named.name if named else None

    def _used(self, mapping: Mapping | None, labels: Path | None) -> str | None:
        """Return the name of the table that labels are read from; None where there is none."""
        if mapping is None:
            table = find_table(self._source, labels)
        elif mapping.source == "table" or mapping.columns:
            table = open_table(self._source, mapping.table, labels)
        else:
            return None
        return None if table is None else table.name

    def _keep(
        self, table: Table, used: str | None, mapping: Mapping | None, folder: Path, found: dict[str, _Placed]
    ) -> None:
        in_use = table.name == used
        index = FileIndex(self._images, self._source.prefix, table.name)
        try:
            grid = read_grid(table.data, table.name, mapping.sheet if mapping is not None and in_use else None)
            columns = self._columns(grid, index, in_use, mapping)
            kept = keep_table(grid, columns, lambda written: self._stored(written, index), self._consent)
        except InputError:
            if in_use:
                raise
            return  # no table of labels, so nothing of it is needed
        if kept is None:
            return
        name = self._place(table.name, folder)
        (folder / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(folder / name, kept.data)
        found[table.name] = _Placed(name, kept.columns)

    def _columns(self, grid: Grid, index: FileIndex, in_use: bool, mapping: Mapping | None) -> dict[str, str]:
        if in_use and mapping is not None:
            return mapping.columns
        if in_use:
            return {name.casefold(): name for name in grid.header if name.casefold() in ROLES}
        guess = guess_columns(grid, index)
        if not guess.complete:
            raise InputError("The table holds no labels of these images", remedy="Name its columns.", code="no-labels")
        # Nobody has said that these are the labels, so their column may not be any.
        return {role: name for role, name in guess.columns.items() if role != "label" or not may_identify(name)}

    def _stored(self, written: str, index: FileIndex) -> list[str]:
        """Return the names under which what a row writes as its file is stored now."""
        files = index.files(written)
        if not files:
            path, frame = frame_name_parts(written)
            file = index.file(path) if frame is not None else None
            if file is None or frame is None or file not in self._names:
                return []
            return [frame_name(self._names[file], frame)]
        return [self._names[file] for file in files if file in self._names]

    def _place(self, name: str, folder: Path) -> str:
        path = PurePosixPath(self._coder.path(name)).with_suffix(".csv")
        while (folder / path).exists():
            path = path.with_name(f"{path.stem}_.csv")
        return path.as_posix()


@dataclass(frozen=True)
class _Placed:
    """Where a reduced table lies, and its columns."""

    name: str
    columns: dict[str, str]
