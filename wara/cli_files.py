"""Files of the command line: images to classify, read one by one, the tables of their answers, what is left out."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wara.errors import InputError

if TYPE_CHECKING:
    from wara.analysis.images import LeftOut
    from wara.console import RunView
    from wara.inference import Predictor
    from wara.predictions import Prediction


def contents(paths: list[Path]) -> Iterator[tuple[str, bytes | InputError]]:
    """Yield name and content of image files, those in folders included; one image in memory at a time."""
    from wara.data.sources import open_source

    for path in paths:
        if path.is_dir():
            with open_source(path) as source:
                if not source.names():
                    raise InputError(
                        "The folder holds no files", seen=shown(path.name),
                        remedy="Name images, or a folder of them.", code="empty-data",
                    )  # fmt: skip
                for name, content in source.contents():
                    yield f"{shown(path)}/{source.prefix}{name}", content
            continue
        if not path.is_file():
            raise InputError(
                "There is no such file", seen=shown(path.name), remedy="Check the path.", code="file-missing"
            )
        yield shown(path), path.read_bytes()


def shown(path: Path | str) -> str:
    """Return a path as text that a terminal and a table can carry, bytes in it that are no UTF-8 too."""
    from wara.data.sources import readable_name

    return readable_name(str(path))


def how_many(paths: list[Path]) -> int:
    """Return how many files `contents` yields, those that it refuses counted as one each."""
    from wara.data.sources import open_source

    number = 0
    for path in paths:
        if path.is_dir():
            with open_source(path) as source:
                number += len(source)
        else:
            number += 1
    return number


def named_safely(images: Iterator[tuple[str, bytes | InputError]]) -> Iterator[tuple[str, bytes | InputError]]:
    """Return the images under names that repeat nothing of their own headers; see `wara.imaging.deidentify`."""
    from wara.imaging.deidentify import safely_named

    return itertools.starmap(safely_named, images)


def in_words(prediction: Prediction) -> str:
    """Return an answer as it is printed: label and probability, or why the file cannot be read."""
    if prediction.error is not None:
        return prediction.error
    share = (prediction.probabilities or {})[prediction.label or ""]
    frames = f", mean of {prediction.frames} frames" if prediction.frames > 1 else ""
    warning = f"  {prediction.warning}" if prediction.warning else ""
    return f"{prediction.label} ({share:.3f}){frames}{warning}"


def print_left_out(view: RunView, left_out: LeftOut) -> None:
    """Print which images of a data set could not be read, and how many files were passed over for which reason."""
    if left_out.unreadable:
        view.console.print(f"{len(left_out.unreadable):,} of {left_out.listed:,} images could not be read:")
        for entry in left_out.unreadable:
            view.console.print(f"  {entry.file}: {entry.reason}", markup=False)
    if left_out.passed_over:
        number = len(left_out.passed_over)
        view.console.print(f"{number:,} {'file' if number == 1 else 'files'} passed over:")
        for reason, count in left_out.reasons().items():
            view.console.print(f"  {count:,}: {reason}", markup=False)


class AnswerTables:
    """Writes the answers of a run while they come: a row an image, and at the end a row a patient.

    The table of images holds the columns of the Classify page's, and after them ``predicted``, ``p_CLASS`` and
    ``uncalibrated_CLASS`` as a run's own predictions.csv names them, so that what reads one reads the other.

    Args:
        images: file of the table of images, or None.
        patients: file of the table of patients, or None.
        predictor: whose answers they are.
        run: its folder.
    """

    def __init__(self, images: Path | None, patients: Path | None, predictor: Predictor, run: Path) -> None:
        from wara import __version__
        from wara.answer_table import Mark, Row, image_heading

        self._patients_path, self._predictor = patients, predictor
        self._classes = predictor.classes
        self._mark = Mark(shown(run.resolve().name), run_digest(run), __version__)
        self._rows: list[Row] = []  # for the patients alone
        self._file: io.TextIOWrapper | None = None
        for path in (images, patients):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
        if images is not None:
            self._file = images.open("w", newline="", encoding="utf-8")
            own = [f"{kind}_{name}" for kind in ("p", "uncalibrated") for name in self._classes]
            self._file.write(image_heading(self._classes, ["predicted", *own]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the table of images: what is in it stays."""
        if self._file is not None:
            self._file.close()

    def add(self, prediction: Prediction) -> None:
        """Write an image's row."""
        from wara.answer_table import Row, image_line

        row = Row.of(prediction, self._classes)
        if self._patients_path is not None and row.patient:
            self._rows.append(row)
        if self._file is None:
            return
        shares = [(kind or {}).get(name) for kind in (prediction.probabilities, prediction.uncalibrated)
                  for name in self._classes]  # fmt: skip
        own = ["" if share is None else f"{share:.6f}" for share in shares]
        self._file.write(image_line(row, self._classes, self._mark, [row.label or "", *own]))
        self._file.flush()

    def finish(self) -> int:
        """Write the table of patients, if one was asked for; return how many patients are in it."""
        from wara.answer_table import patient_lines, patient_rows

        if self._patients_path is None:
            return 0
        rule = str(self._predictor.recipe.get("patient_rule", "mean"))
        found = patient_rows(self._rows, self._classes, rule, self._predictor.answers.threshold)
        with self._patients_path.open("w", newline="", encoding="utf-8") as file:
            file.writelines(patient_lines(found, self._classes, rule, self._mark))
        return len(found)


def run_digest(run: Path) -> str:
    """Return 12 hexadecimal digits by which a run is known again: of its recipe and its adapter's files."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(p for p in [run / "recipe.json", *(run / "adapter").rglob("*")] if p.is_file()):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
