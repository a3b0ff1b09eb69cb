"""Files of the command line: images to classify, read one by one, and the table of their predictions."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wara.errors import InputError

if TYPE_CHECKING:
    from wara.inference import Prediction


def contents(paths: list[Path]) -> Iterator[tuple[str, bytes | InputError]]:
    """Yield name and content of image files, those in folders included; one image in memory at a time."""
    from wara.data.sources import open_source

    for path in paths:
        if path.is_dir():
            with open_source(path) as source:
                if not source.names():
                    raise InputError(
                        "The folder holds no files", seen=path.name, remedy="Name images, or a folder of them.",
                        code="empty-data",
                    )  # fmt: skip
                for name, content in source.contents():
                    yield f"{path}/{source.prefix}{name}", content
            continue
        if not path.is_file():
            raise InputError("There is no such file", seen=path.name, remedy="Check the path.", code="file-missing")
        yield str(path), path.read_bytes()


def write_predictions(path: Path, classes: tuple[str, ...], predictions: Sequence[Prediction]) -> None:
    """Write one row an image: class, probabilities (calibrated and own), set, warning, patient code, error."""
    from wara.evaluation.choices import SEPARATOR

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = [*(f"p_{name}" for name in classes), *(f"uncalibrated_{name}" for name in classes)]
        writer.writerow(["file", "predicted", *columns, "set", "warning", "patient", "error"])
        for p in predictions:
            shares = [(p.probabilities or {}).get(c) for c in classes] + [
                (p.uncalibrated or {}).get(c) for c in classes
            ]
            values = ["" if share is None else f"{share:.6f}" for share in shares]
            more = [SEPARATOR.join(p.classes or ()), p.warning or "", p.patient or "", p.error or ""]
            writer.writerow([p.file, p.label or "", *values, *more])
