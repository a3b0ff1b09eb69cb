"""What a model is given of a file and what it says of it; the network itself may be in another process (no torch)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wara.errors import InputError
from wara.imaging import DecodedImage, read_squares
from wara.imaging.view import DEFAULT_VIEW, DicomView

# As ``read_squares``: content, name, size, fit and view to squares, each with what was decoded.
Decode = Callable[[bytes, str, int, str, DicomView], Iterator[tuple[NDArray[np.uint8], DecodedImage]]]


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        file: the name that was given.
        label: the class: of two by the run's operating point, of more the most probable one; None when the image
            cannot be read.
        probabilities: calibrated probability of each class, or None.
        error: why the image cannot be read, or None.
        frames: of how many images the probabilities are the mean; more than 1 for DICOM files of several frames,
            where the run was trained on all of them.
        uncalibrated: the network's own probabilities, or None.
        classes: the prediction set, which holds the true class as often as the run's coverage says; None where the
            run has none.
        warning: set where the image is unlike the training images.
        patient: keyed hash of the DICOM patient ID, where there is one.
        reason: of an image that cannot be read: why, in a few words that are equal for all files of one kind.
    """

    file: str
    label: str | None
    probabilities: dict[str, float] | None
    error: str | None = None
    frames: int = 1
    uncalibrated: dict[str, float] | None = None
    classes: tuple[str, ...] | None = None
    warning: str | None = None
    patient: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class ReadFile:
    """A file as a model takes it.

    Attributes:
        name: the name that was given.
        squares: its images, each (size, size, 3); several where the run was trained on all frames of a file.
        patient: keyed hash of the DICOM patient ID, where there is one.
        error: why it cannot be read, or None.
    """

    name: str
    squares: tuple[NDArray[np.uint8], ...] = ()
    patient: str | None = None
    error: InputError | None = None


class Classifier(Protocol):
    """Whoever reads files and answers for them: a model of this process, or one of another."""

    def read(self, name: str, content: bytes | InputError) -> ReadFile:
        """Decode a file as the model takes it, or say why that cannot be."""

    def answer(self, files: Sequence[ReadFile]) -> list[Prediction]:
        """Classify files that were read, together; those that could not be read get their reason."""


@dataclass(frozen=True)
class Reader:
    """Reads files as one model takes them.

    Attributes:
        size: of the squares, in pixels.
        fit: "pad", "crop" or "stretch", as in training.
        view: how DICOM files are looked at.
        decode: how a file becomes squares. A server gives one that works in processes of their own, with limits.
    """

    size: int
    fit: str
    view: DicomView = DEFAULT_VIEW
    decode: Decode = read_squares

    def read(self, name: str, content: bytes | InputError) -> ReadFile:
        """Decode a file, or say why that cannot be."""
        if isinstance(content, InputError):
            return ReadFile(name, error=content)
        try:
            found = list(self.decode(content, name, self.size, self.fit, self.view))
        except InputError as error:
            return ReadFile(name, error=error)
        return ReadFile(name, tuple(three_channels(square) for square, _ in found), found[0][1].patient)


def answer_readable(
    files: Sequence[ReadFile],
    answer: Callable[[list[NDArray[np.uint8]], list[int]], Iterable[Prediction]],
) -> list[Prediction]:
    """Classify the files that could be read, and give the others their reason.

    Args:
        files: in the order of the answers.
        answer: takes the squares of all files, one behind the other, and how many each has; gives an answer for each
            file, without its name.
    """
    readable = [file for file in files if file.error is None]
    squares = [square for file in readable for square in file.squares]
    answered = iter(answer(squares, [len(file.squares) for file in readable]) if squares else ())
    return [
        replace(next(answered), file=file.name, patient=file.patient, frames=len(file.squares))
        if file.error is None
        else Prediction(file.name, None, None, file.error.sentence(), reason=file.error.what)
        for file in files
    ]


def three_channels(square: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a square (size, size) or (size, size, 3) with three channels; grey is repeated."""
    return square if square.ndim == 3 else np.repeat(square[:, :, None], 3, axis=2)
