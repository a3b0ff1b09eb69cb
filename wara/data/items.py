"""What a catalogue is: images with class, patient and side, and the files that are passed over."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from wara.data.words import SPLITS

# What the patient of frames is called whose file names none, before a hash of the file.
OF_ONE_FILE = "file-"


@dataclass(frozen=True, slots=True)
class Item:
    """One image.

    Attributes:
        file: POSIX path relative to the data's top folder; for a frame of a file "scan.dcm#12".
        label: the class, as the folder or the table names it.
        patient: who it is of, as a keyed hash; from the table, else (after ``ingest``) the DICOM patient ID.
        split: "train", "val" or "test" where the data says so.
        digest: a hash of the file's bytes, known after ``ingest``; equal files have equal digests.
        format: "PNG", "JPEG", "TIFF", "WebP", "BMP" or "DICOM", known after ``ingest``.
        width: columns of the image as stored, known after ``ingest``.
        height: rows of the image as stored, known after ``ingest``.
        pixels: a hash of the decoded pixels, known after ``ingest``; equal pictures have equal ones.
        look: the image as 32 x 32 grey values in base64, known after ``ingest`` (see ``wara.data.looks``).
        modality: of a DICOM file, e.g. "CR" or "MG" (0008,0060), known after ``ingest``.
        frame: number of the frame, from 1, where the item is one frame of a file; None where the file is one image.
        spacing: distance in mm between rows and between columns, known after ``ingest`` where the file tells it.
        sex: as the table's column of that name writes it; where the table has none, M, F or O of a DICOM header that
            was allowed to keep it (see ``wara.imaging.traits``), known after ``ingest``.
        age: in years, from where the sex is.
        text: why text may stand in the picture, after ``ingest`` without a store: "stated" or "regions" by the header,
            "seen" by the detector; "" where nothing says so, "masked" where it was covered, None where nobody looked.
    """

    file: str
    label: str
    patient: str | None = None
    split: str | None = None
    digest: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    pixels: str | None = None
    look: str | None = field(default=None, repr=False)
    modality: str | None = None
    frame: int | None = None
    spacing: tuple[float, float] | None = None
    sex: str | None = None
    age: float | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        """Take the spacing back from JSON, which knows no tuples."""
        spacing: Any = self.spacing
        if isinstance(spacing, list):
            object.__setattr__(self, "spacing", tuple(spacing))

    @property
    def path(self) -> str:
        """The file to read, relative to the data's top folder: ``file`` without the frame's number."""
        return self.file if self.frame is None else frame_name_parts(self.file)[0]


@dataclass(frozen=True, slots=True)
class PassedOver:
    """One file that is not used, and why, in plain words; its class, where it has one and that is still known."""

    file: str
    reason: str
    label: str | None = None


@dataclass(frozen=True)
class Catalogue:
    """The images of a data set.

    Attributes:
        items: the images, in the order of their names.
        classes: the class names in natural order ("grade 2" before "grade 10"); a label's number is its place here.
        passed_over: files that are not used, with reasons.
        layout: "class-folders", "split-folders" or "csv"; with a mapping also "table", "pattern" or "dicom".
        fingerprint: changes with any file, label, patient or given side (by sizes and times, or a zip's
            checksums); stays the same through ``ingest``. Says whether stored pixels are still valid.
        digest: hash of the content and labels alone, the same on every machine; None before ``ingest``.
        from_table: which of "sex" and "age" the table of labels tells; headers are not asked for these.
    """

    items: tuple[Item, ...]
    classes: tuple[str, ...]
    passed_over: tuple[PassedOver, ...]
    layout: str
    fingerprint: str
    digest: str | None = None
    from_table: tuple[str, ...] = ()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return images by given side and class; everything under "all" where no sides are given."""
        sides = [side for side in SPLITS if any(item.split == side for item in self.items)]
        if not sides:
            return {"all": self._count(self.items)}
        counts = {side: self._count(item for item in self.items if item.split == side) for side in sides}
        rest = [item for item in self.items if item.split is None]
        return counts | ({"all": self._count(rest)} if rest else {})

    def targets(self) -> list[int]:
        """Return each item's class as its place in ``classes``."""
        index = {name: number for number, name in enumerate(self.classes)}
        return [index[item.label] for item in self.items]

    def with_items(self, items: Iterable[Item], passed_over: Iterable[PassedOver]) -> Catalogue:
        """Return a catalogue of other items under the same classes: a class that lost all its images stays seen."""
        return replace(self, items=tuple(items), passed_over=tuple(passed_over))

    def _count(self, items: Iterable[Item]) -> dict[str, int]:
        found = Counter(item.label for item in items)
        return {name: found.get(name, 0) for name in self.classes}


def content_digest(items: Iterable[Item]) -> str:
    """Return a hash of the content and labels of images, the same on every machine."""
    digest = hashlib.blake2b(digest_size=16)
    for item in items:
        digest.update(f"{item.file}\0{item.label}\0{item.digest}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def frame_name(path: str, frame: int) -> str:
    """Return the name of one frame of a file, e.g. "scan.dcm#12"."""
    return f"{path}#{frame}"


def frame_name_parts(name: str) -> tuple[str, int | None]:
    """Return file and frame of a name that ``frame_name`` made; the name and None where it is no such name."""
    path, mark, number = name.rpartition("#")
    return (path, int(number)) if mark and path and re.fullmatch(r"[1-9][0-9]{0,8}", number) else (name, None)


def class_names(items: Iterable[Item]) -> tuple[str, ...]:
    """Return the classes of the items in natural order."""
    return tuple(sorted({item.label for item in items}, key=natural_key))


def natural_key(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which numbers inside a text count as numbers, and capitals matter last."""
    pieces = re.split(r"(\d+)", text.casefold())
    return [(1, int(piece), "") if piece.isdecimal() else (0, 0, piece) for piece in pieces], text
