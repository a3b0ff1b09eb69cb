"""What a cleaned data set still knows of its former headers and names: the values that its labels were read from.

The file lies hidden in the folder of the cleaned images. Without it, labels that were read from a DICOM attribute
which is not kept, or by a pattern from names that are codes now, could not be read once more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wara.data.sources import KEPT_FILE
from wara.imaging.dicom_keep import KEEP

# Beside the list of attributes that are kept: codes stand in these (see docs/deidentification.md).
_CODED = frozenset({"PatientID", "StudyInstanceUID"})
_CHARACTERISTICS = frozenset({"PatientSex"})


@dataclass
class Kept:
    """Values by the file's name as it is stored now.

    Attributes:
        sex_and_age: whether sex and age bands were kept.
        keywords: DICOM attributes whose values stand in ``tags``.
        tags: of each DICOM file the values of those; patients are codes.
        pattern: the pattern whose groups stand in ``groups``.
        groups: of each file whose name became a code, what the pattern found in the former one; None for nothing.
    """

    sex_and_age: bool = False
    keywords: list[str] = field(default_factory=list)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    pattern: str | None = None
    groups: dict[str, dict[str, str] | None] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the file into the folder of the images."""
        (folder / KEPT_FILE).write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Kept | None:
        """Return what a folder says; None where it is not one of cleaned images."""
        try:
            return cls(**json.loads((folder / KEPT_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def lost(self, keywords: Iterable[str | None]) -> list[str]:
        """Return those of some DICOM attributes that can be read no more."""
        known = KEEP.keys() | _CODED | set(self.keywords) | (_CHARACTERISTICS if self.sex_and_age else set())
        return [keyword for keyword in keywords if keyword and keyword not in known]
