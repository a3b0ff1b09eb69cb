"""Tables of answers: a row an image and a row a patient, as CSV of which a spreadsheet runs nothing."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from wara.evaluation.choices import SEPARATOR

if TYPE_CHECKING:
    from wara.predictions import Prediction

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Mark:
    """Which model answered: its name, its id on the server (elsewhere a hash of the run), and WaRA's version."""

    model: str
    ident: str
    version: str

    def cells(self) -> list[str]:
        """Return the three cells that end every row."""
        return [as_text(self.model), as_text(self.ident), self.version]


@dataclass(frozen=True, slots=True)
class Row:
    """What a model says of one file.

    Attributes:
        file: its name, without what its header says of a person.
        patient: this machine's code for the patient, where one is known.
        label: the class; None where the file cannot be read.
        probabilities: in the order of the model's classes; None where the file cannot be read or a number is none.
        classes: the prediction set, where the model has one.
        warning: set where the image is unlike the training images.
        error: why the file cannot be read, with the value seen and what to do.
        reason: the same in a few words, equal for all files of one kind.
        number: place of the file among those that were to be classified, from 0.
    """

    file: str
    patient: str | None = None
    label: str | None = None
    probabilities: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None
    warning: str | None = None
    error: str | None = None
    reason: str | None = None
    number: int = 0

    @classmethod
    def of(cls, prediction: Prediction, classes: Sequence[str], number: int = 0, patient: str | None = None) -> Row:
        """Take a prediction; ``patient`` goes before the one that the file's header names."""
        shares = None if prediction.probabilities is None else tuple(prediction.probabilities[name] for name in classes)
        return cls(
            file=prediction.file,
            patient=patient or prediction.patient,
            label=prediction.label,
            probabilities=shares if shares and all(math.isfinite(share) for share in shares) else None,
            classes=prediction.classes,
            warning=prediction.warning,
            error=prediction.error,
            reason=prediction.reason,
            number=number,
        )

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Row:
        """Take back what ``to_json`` gave."""
        for name in ("probabilities", "classes"):
            stored[name] = None if stored.get(name) is None else tuple(stored[name])
        return cls(**stored)

    def to_json(self) -> dict[str, Any]:
        """Return what is known, as JSON-able values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def image_heading(classes: Sequence[str], more: Sequence[str] = ()) -> str:
    """Return the first line of the table of images; ``more`` names columns of the caller's own, which come last."""
    shares = [f"probability {name}" for name in classes]
    texts = ["file", "patient", "label", *shares, "set", "warning", "model", "model id", "version", "error", *more]
    return _line([as_text(text) for text in texts])


def image_line(row: Row, classes: Sequence[str], mark: Mark, more: Sequence[str] = ()) -> str:
    """Return one image's line."""
    shares = [""] * len(classes) if row.probabilities is None else [_number(share) for share in row.probabilities]
    held = SEPARATOR.join(row.classes or ())
    front = [as_text(text or "") for text in (row.file, row.patient, row.label)]
    notes = [as_text(text or "") for text in (held, row.warning)]
    return _line([*front, *shares, *notes, *mark.cells(), as_text(row.error or ""), *map(as_text, more)])


@dataclass(frozen=True, slots=True)
class PatientRow:
    """What a model says of one patient: images (with an answer), class, its probabilities, images with a warning."""

    patient: str
    images: int
    label: str
    probabilities: tuple[float, ...]
    warnings: int


def patient_rows(rows: Iterable[Row], classes: Sequence[str], rule: str, threshold: float | None) -> list[PatientRow]:
    """Put the images of each patient together, in order of first sight; images of nobody known are left out.

    Args:
        rows: the images' rows; those without probabilities are left out.
        classes: the model's classes.
        rule: ``"mean"`` or ``"worst"``, see `wara.evaluation.patients.by_patient`.
        threshold: probability of the second class from which a patient is called so; None: the most probable class.

    Raises:
        InputError: an unknown rule.
    """
    import numpy as np

    from wara.evaluation.bootstrap import group_index
    from wara.evaluation.operating import labels_at
    from wara.evaluation.patients import by_patient

    known = [(row.patient, row.probabilities, row.warning is not None) for row in rows if row.patient]
    answered = [(patient, shares, warned) for patient, shares, warned in known if shares is not None]
    if not answered:
        return []
    patients = [patient for patient, _, _ in answered]
    # No true classes are known here; with one and the same for all, no patient is left out as mixed.
    together = by_patient([shares for _, shares, _ in answered], np.zeros(len(answered), dtype=int), patients, rule)
    index, count = group_index(patients, len(patients))
    images = np.bincount(index, minlength=count)
    warned = np.bincount(index, weights=[float(warning) for _, _, warning in answered], minlength=count)
    labels, shares = labels_at(together.probabilities, threshold), together.probabilities.tolist()
    return [
        PatientRow(patient, int(images[i]), classes[labels[i]], tuple(shares[i]), int(warned[i]))
        for i, patient in enumerate(dict.fromkeys(patients))
    ]


def patient_lines(rows: Iterable[PatientRow], classes: Sequence[str], rule: str, mark: Mark) -> Iterator[str]:
    """Yield the lines of the table of patients, its heading first."""
    shares = [f"probability {name}" for name in classes]
    texts = ["patient", "images", "label", *shares, "images with a warning", "put together by"]
    yield _line([as_text(text) for text in (*texts, "model", "model id", "version")])
    for row in rows:
        front = [as_text(row.patient), str(row.images), as_text(row.label)]
        yield _line([*front, *map(_number, row.probabilities), str(row.warnings), rule, *mark.cells()])


def as_text(cell: str) -> str:
    """Return a cell that a spreadsheet would run as a formula with an apostrophe before it, by which it stays text."""
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def _number(share: float) -> str:
    return f"{share:.{_DIGITS}f}" if math.isfinite(share) else ""


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()
