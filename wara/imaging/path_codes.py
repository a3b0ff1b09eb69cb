"""Code the names of a whole data set: by each file's own header, and by what all headers together say."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from wara.imaging.names_in_paths import NOBODY, Identifiers, coded_file, coded_folder, pieces_of, stem_of

# Of numbers that others' headers hold: shorter ones stand in too many names by chance, longer ones are UIDs.
_LONG = 5
_LONGEST = 24
_SHORTEST = 3


class Everybody:
    """What many headers say, for names of files that have no header of their own (pictures, tables, what is no image).

    A name counts where it stands as a word, or with five letters and more inside one; a number with five characters
    and more.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._numbers: set[str] = set()

    def add(self, identifiers: Identifiers) -> None:
        """Take what one header says."""
        self._names |= {name for name in identifiers.names if len(name) >= _SHORTEST}
        for number in identifiers.numbers:
            joined = "".join(pieces_of(number))
            if _LONG <= len(joined) <= _LONGEST and any(char.isdigit() for char in joined):
                self._numbers.add(joined)

    def stand_in(self, text: str) -> bool:
        """Whether a text carries something of anybody."""
        if not self._names and not self._numbers:
            return False
        pieces = pieces_of(text)
        if all(piece in NOBODY for piece in pieces):
            return False
        if any(piece in self._names for piece in pieces) or "".join(p for p in pieces if p.isalpha()) in self._names:
            return True
        together = "".join(pieces)
        return any(
            together[start:end] in self._numbers or together[start:end] in self._names
            for start in range(len(together) - _LONG + 1)
            for end in range(start + _LONG, min(len(together), start + _LONGEST) + 1)
        )


class PathCoder:
    """Collects what headers say of their own paths, and then gives every path its name without it.

    ``note`` may be called from several threads; paths are coded when all have been noted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._everybody = Everybody()
        self._folders: set[str] = set()
        self._files: set[str] = set()
        self._stems: set[str] = set()
        self._spared: frozenset[str] = frozenset()
        self._known: dict[str, bool] = {}

    def note(self, path: str, identifiers: Identifiers, above: Iterable[str] = ()) -> None:
        """Take what a file's header says of its path, and of the folders ``above`` the data."""
        if not identifiers.numbers and not identifiers.names:
            return
        *folders, file = path.split("/")
        found = {part for part in (*folders, *above) if identifiers.stand_in(part, folder=True)}
        stem = stem_of(file)
        own = identifiers.stand_in(stem)
        with self._lock:
            self._everybody.add(identifiers)
            self._folders |= found
            if own:
                self._files.add(path)
                self._stems.add(stem)

    def spare(self, folders: Collection[str]) -> None:
        """Leave folders of these names as they are: they hold so many people that they are nobody's."""
        self._spared = frozenset(folders)

    def tells(self, text: str) -> bool:
        """Whether a folder's name or another text carries what a header says."""
        if text not in self._known:
            self._known[text] = text not in self._spared and (
                text in self._folders
                or (text in self._stems and len(text) >= _SHORTEST)
                or self._everybody.stand_in(text)
            )
        return self._known[text]

    def folder(self, part: str) -> str:
        """Return a folder's name, or the code for it."""
        return coded_folder(part) if self.tells(part) else part

    def path(self, path: str) -> str:
        """Return a path in which each part that carries something of a header is a code.

        Raises:
            InputError: the key can be neither read nor made.
        """
        *folders, file = path.split("/")
        stem = stem_of(file)
        if path in self._files or stem in self._stems or self._everybody.stand_in(stem):
            kind = PurePosixPath(file).suffix
            file = coded_file(file)
            if stem.endswith(kind) and 1 < len(kind) <= _LONG and kind[1:].isalpha():
                # What is no image keeps its kind, which says why it was passed over.
                file = file.removesuffix(".dcm") + (kind if not self._everybody.stand_in(kind) else "")
        return "/".join([*map(self.folder, folders), file])
