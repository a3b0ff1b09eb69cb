"""Find what a header says of a person, a day or an examination in a file's name, and write a code in its place."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from wara.imaging.formats import IMAGE_SUFFIXES
from wara.imaging.identity import keyed_digest

# Words that stand in headers as names and in folders as classes or layouts, and are nobody's.
_NOBODY_WORDS = (
    "abnormal anon anonym anonymized anonymous benign case control covid data dataset demo dicom disease dummy exam "
    "example female healthy image images img lesion male malignant name negative no noname none normal other patient "
    "patients person phantom pneumonia positive scan series sick sit study subject synthetic test train tumor tumour "
    "unknown val valid validation volunteer"
)
NOBODY = frozenset(_NOBODY_WORDS.split())
_PIECES = re.compile(r"[^\W\d_]+|\d+")
_CODED = re.compile(r"(image|folder)_[0-9a-f]{12}(\.|$)")
_LONG = 5
_SHORTEST = 3


@dataclass(frozen=True)
class Identifiers:
    """What a file's header says that must stand nowhere else.

    Attributes:
        numbers: patient and accession numbers, identifiers of examinations and files, days (as YYYYMMDD).
        names: parts of persons' names.
    """

    numbers: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, numbers: Iterable[str] = (), names: Iterable[str] = ()) -> Identifiers:
        """Take values as they stand in a header; a name's parts may be parted by carets, blanks or commas."""
        parts = {piece for name in names for piece in pieces_of(name) if len(piece) >= _SHORTEST}
        whole = {"".join(pieces_of(name)) for name in names} | {"".join(reversed(pieces_of(name))) for name in names}
        cleaned = {number.strip(" \0\t\r\n") for number in numbers}
        return cls(frozenset(cleaned - {""}), frozenset((parts | whole) - NOBODY - {""}))

    def __or__(self, other: Identifiers) -> Identifiers:
        return Identifiers(self.numbers | other.numbers, self.names | other.names)

    def stand_in(self, part: str, *, folder: bool = False) -> bool:
        """Whether one part of a path carries one of them. A folder of fewer than three letters never does."""
        pieces = pieces_of(part)
        if not pieces or all(piece in NOBODY for piece in pieces):
            return False
        together, letters = "".join(pieces), "".join(piece for piece in pieces if piece.isalpha())
        for name in self.names:
            if name in pieces or name == letters or (len(name) >= _LONG and name in together):
                return True
        return any(_stands_in(pieces_of(number), pieces, together, folder) for number in self.numbers)


def _stands_in(number: list[str], pieces: list[str], together: str, folder: bool) -> bool:
    joined = "".join(number)
    if not joined or all(piece in NOBODY for piece in number) or (folder and len(joined) < _SHORTEST):
        return False
    if len(joined) >= _LONG and joined in together:
        return True
    if len(joined) < _SHORTEST:  # a patient "7" and the seventh picture: only where nothing else stands in the name
        return number == pieces
    return any(pieces[at : at + len(number)] == number for at in range(len(pieces) - len(number) + 1))


def pieces_of(text: str) -> list[str]:
    """Return the words and numbers in a text, without capitals and accents."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return _PIECES.findall("".join(letter for letter in plain if not unicodedata.combining(letter)))


def safe_path(path: str, identifiers: Identifiers) -> str:
    """Return a relative path in which each part that carries an identifier is replaced by a code.

    The code hangs on the part alone, under this machine's key: one folder stays one folder, and a table that names
    the file by its old name can still be followed (see ``coded_file``).

    Raises:
        InputError: the key can be neither read nor made.
    """
    *folders, file = path.split("/")
    parts = [coded_folder(part) if identifiers.stand_in(part, folder=True) else part for part in folders]
    return "/".join([*parts, coded_file(file) if identifiers.stand_in(stem_of(file)) else file])


def coded_file(file: str) -> str:
    """Return the code for a file's name: ``image_0123456789ab.dcm``; one without a known suffix is taken as DICOM."""
    suffix = PurePosixPath(file).suffix.lower() if _has_suffix(file) else ".dcm"
    return f"image_{_code(file)}{suffix}"


def coded_folder(part: str) -> str:
    """Return the code for a folder's name: ``folder_0123456789ab``."""
    return f"folder_{_code(part)}"


def is_coded(path: str) -> bool:
    """Whether a part of a path is a code."""
    return any(_CODED.match(part) for part in path.split("/"))


def stem_of(file: str) -> str:
    """Return a file's name without the suffix of an image, a zip or a table; another suffix belongs to the name."""
    return PurePosixPath(file).stem if _has_suffix(file) else file


def _has_suffix(file: str) -> bool:
    suffix = PurePosixPath(file).suffix.lower()
    return suffix in IMAGE_SUFFIXES or suffix in (".zip", ".csv", ".tsv", ".xlsx")


def _code(text: str) -> str:
    return hashlib.blake2b(keyed_digest(text, b"path"), digest_size=6).hexdigest()
