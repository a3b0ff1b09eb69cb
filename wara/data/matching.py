"""Find the files that a table means, as people write them: a path, a name, a name without its suffix, a folder."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath


class FileIndex:
    """The names of a source, found by what a table writes.

    A file is taken as written; else relative to the folder that was seen through, or to the table's own folder; else
    by its name alone, with or without the suffix, where that is unique. Where both are in a folder, that is the same
    one: ``P1/scan.png`` is never ``P2/scan.png``, another patient's, because the first is missing.

    Args:
        names: the source's names.
        prefix: the source's wrapping folder, with a slash, or "".
        table: the table's name, relative to the source where it lies in it.
    """

    def __init__(self, names: Sequence[str], prefix: str = "", table: str = "") -> None:
        self._names = names
        self._written = frozenset(names)
        self._exact = _unique(names, PurePosixPath.as_posix)  # two that differ in the form of their letters alone: none
        self._by_name = _unique(names, lambda path: path.name)
        self._by_stem = _unique(names, lambda path: path.stem)
        self._prefix = prefix
        self._folder = "" if "/" not in table else table.rsplit("/", 1)[0] + "/"
        self._folders: dict[str, list[str]] | None = None
        self._shared: dict[str, list[str]] | None = None

    def file(self, written: str) -> str | None:
        """Return the one file that is meant, or None."""
        path = _with_slashes(written)
        for candidate in (path, path.removeprefix(self._prefix), self._folder + path):
            if candidate in self._written:
                return candidate
            if (found := self._exact.get(plain(candidate))) is not None:
                return found
        *folders, last = plain(path).rsplit("/", 2)[-2:]
        found = self._by_name.get(last) or self._by_stem.get(last)
        if found is not None and folders and "/" in found:
            return found if plain(found).split("/")[-2].casefold() == folders[0].casefold() else None
        return found

    def files(self, written: str) -> list[str]:
        """Return the files that are meant: one, or all of the folder of this path or name; [] where there is none."""
        if not written:
            return []
        one = self.file(written)
        if one is not None:
            return [one]
        path = plain(written).strip("/")
        return self._in_folders().get(path) or self._in_folders().get(path.removeprefix(self._prefix)) or []

    def alike(self, written: str) -> list[str]:
        """Return the files of which nobody knows which one is meant, for they share the name; [] where one is found."""
        if not written or self.files(written):
            return []
        if self._shared is None:
            self._shared = defaultdict(list)
            for name in self._names:
                path = PurePosixPath(plain(name))
                for part in {path.name, path.stem}:
                    self._shared[part].append(name)
        *folders, last = plain(written).rsplit("/", 2)[-2:]
        found = self._shared.get(last, [])
        if folders:  # another folder's file was never meant
            found = [name for name in found if plain(name).split("/")[-2:-1] == folders]
        return found if len(found) > 1 else []

    def _in_folders(self) -> dict[str, list[str]]:
        """Return the files below each folder, by the folder's path, and by its name where only one has that name."""
        if self._folders is None:
            below: dict[str, list[str]] = defaultdict(list)
            for name in self._names:
                for folder in PurePosixPath(plain(name)).parents:
                    if folder.name:
                        below[folder.as_posix()].append(name)
            paths = Counter(path.rsplit("/", 1)[-1] for path in below)
            last = {path.rsplit("/", 1)[-1]: files for path, files in below.items()}
            self._folders = {name: files for name, files in last.items() if paths[name] == 1} | below
        return self._folders


def plain(path: str) -> str:
    """Return a path with slashes, composed letters and no leading ``./``."""
    return unicodedata.normalize("NFC", _with_slashes(path))


def _with_slashes(path: str) -> str:
    return path.strip().replace("\\", "/").removeprefix("./")


def _unique(names: Sequence[str], key: Callable[[PurePosixPath], str]) -> dict[str, str]:
    """Return the names by a part of them, leaving out parts that several names share."""
    parts = [plain(key(PurePosixPath(name))) for name in names]
    counts = Counter(parts)
    return {part: name for part, name in zip(parts, names, strict=True) if counts[part] == 1}
