"""What is kept of a batch of classified images: its order, a row an image, and what the rows add up to; no image."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.problems import not_found
from backend.storage import append_lines, read_json, write_json
from wara.answer_table import Mark, PatientRow, Row, image_heading, image_line, patient_lines, patient_rows
from wara.imaging.identity import keyed_digest

RECORD_FILE, ROWS_FILE, PLAN_FILE, ZIP_FILE = "batch.json", "rows.jsonl", "plan.json", "images.zip"
OPEN_STATES = frozenset({"receiving", "running"})
REASONS_TOLD = 20


@dataclass
class Order:
    """What a batch is to do; ``batch.json``.

    Attributes:
        id: of the batch.
        model_id, model_name: the model that answers.
        version: WaRA's.
        classes: the model's.
        rule: how images of a patient are put together, see `wara.evaluation.patients`.
        kind: "files" that a browser sends a few at a time, or a "zip" or a "dataset" that this server works through.
        total: files in all.
        created: in UTC, ISO 8601.
        state: "receiving" (files) or "running", then "done", "cancelled" or "failed".
        dataset_id: of a data set that is here.
        names: hash of the names of a data set's files, by which a change of it is seen.
        threshold: the model's operating point on the first images; [] as long as none was classified.
        error: problem document of a failed batch.
        owner_id: the account that began it, who alone sees it, beside admins; None where there were no accounts.
    """

    id: str
    model_id: str
    model_name: str
    version: str
    classes: list[str]
    rule: str
    kind: str
    total: int
    created: str
    state: str
    dataset_id: str | None = None
    names: str | None = None
    threshold: list[float | None] = field(default_factory=list)
    error: dict[str, Any] | None = None
    owner_id: str | None = None


@dataclass
class Tally:
    """What the rows add up to."""

    done: set[int] = field(default_factory=set)
    labels: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    patients: Counter[str] = field(default_factory=Counter)
    warnings: int = 0

    def add(self, row: Row) -> None:
        """Count a row."""
        self.done.add(row.number)
        if row.error is not None:
            self.reasons[row.reason or row.error] += 1
            return
        if row.label is not None:
            self.labels[row.label] += 1
        self.warnings += row.warning is not None
        if row.patient:
            self.patients[row.patient] += 1

    @property
    def unreadable(self) -> int:
        """Files without an answer."""
        return self.reasons.total()


class BatchRecord:
    """One batch as it lies in its folder. Whoever changes it holds the batch's lock.

    Args:
        folder: its folder; ``batch.json`` is in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.order = Order(**read_json(folder / RECORD_FILE))
        self.tally = Tally()
        for row in self.rows():
            self.tally.add(row)
        self._places: dict[str, list[int]] | None = None

    @classmethod
    def begin(cls, folder: Path, order: Order, announced: Iterable[tuple[str, int]] = ()) -> BatchRecord:
        """Make the folder of a batch; ``announced`` are names and sizes of files that will be sent."""
        folder.mkdir(parents=True, mode=0o700)
        if order.kind == "files":
            # Names of files may name people; a hash under this machine's key says as well which file is which.
            write_json(folder / PLAN_FILE, [_key(name, size) for name, size in announced])
        write_json(folder / RECORD_FILE, asdict(order))
        return cls(folder)

    @property
    def mark(self) -> Mark:
        """The model, as every row names it."""
        return Mark(self.order.model_name, self.order.model_id, self.order.version)

    @property
    def changed(self) -> datetime:
        """When something was last written.

        Raises:
            RequestRefused: 404: the batch was deleted.
        """
        times = []
        for name in (RECORD_FILE, ROWS_FILE):
            with suppress(FileNotFoundError):
                times.append((self.folder / name).stat().st_mtime)
        if not times:
            raise not_found("batch", self.order.id)
        return datetime.fromtimestamp(max(times), UTC)

    def set(self, state: str, error: dict[str, Any] | None = None) -> None:
        """Write another state down. What is no longer needed of an ended batch goes."""
        write_json(self.folder / RECORD_FILE, asdict(replace(self.order, state=state, error=error)), durable=True)
        if state not in OPEN_STATES:
            for name in (ZIP_FILE, PLAN_FILE):
                (self.folder / name).unlink(missing_ok=True)
            self._places = None
        # Last: who is told that a batch has ended may rely on its images being gone.
        self.order.state, self.order.error = state, error

    def same_threshold(self, threshold: float | None) -> bool:
        """Note the operating point on the first images; afterwards say whether it is still the same."""
        if not self.order.threshold:
            self.order.threshold = [threshold]
            write_json(self.folder / RECORD_FILE, asdict(self.order))
        return self.order.threshold[0] == threshold

    def append(self, rows: list[Row]) -> None:
        """Keep rows, all of them or none, and count them."""
        if not rows:
            return
        append_lines(self.folder / ROWS_FILE, [row.to_json() for row in rows])
        for row in rows:
            self.tally.add(row)

    def rows(self, offset: int = 0, limit: int | None = None) -> Iterator[Row]:
        """Yield rows in the order in which they came; no more than one of them is in memory."""
        try:
            file = (self.folder / ROWS_FILE).open("rb")
        except FileNotFoundError:
            return
        with file:
            # What stands behind the last line end was being written when the server was killed, and does not count.
            whole = (line for line in file if line.endswith(b"\n"))
            end = None if limit is None else offset + limit
            for line in itertools.islice(whole, offset, end):
                yield Row.from_json(json.loads(line))

    def places(self, announced: list[tuple[str, int]]) -> list[int | None]:
        """Return the number of each file among those announced, None for one that was not; no number twice.

        Two files of one name and size are taken in turn, those first that are not done.
        """
        if self._places is None:
            self._places = defaultdict(list)
            with suppress(FileNotFoundError):
                for number, key in enumerate(read_json(self.folder / PLAN_FILE)):
                    self._places[key].append(number)
        seen: Counter[str] = Counter()
        found: list[int | None] = []
        for name, size in announced:
            key = _key(name, size)
            numbers = sorted(self._places.get(key, ()), key=lambda number: number in self.tally.done)
            found.append(numbers[seen[key]] if seen[key] < len(numbers) else None)
            seen[key] += 1
        return found

    def csv(self) -> Iterator[str]:
        """Yield the table of images, line by line."""
        yield image_heading(self.order.classes)
        for row in self.rows():
            yield image_line(row, self.order.classes, self.mark)

    def patients(self) -> list[PatientRow]:
        """Return the answers for patients."""
        threshold = self.order.threshold[0] if self.order.threshold else None
        return patient_rows(self.rows(), self.order.classes, self.order.rule, threshold)

    def patients_csv(self) -> Iterator[str]:
        """Yield the table of patients, line by line."""
        return patient_lines(self.patients(), self.order.classes, self.order.rule, self.mark)


def _key(name: str, size: int) -> str:
    name = name.replace("%22", '"')  # in a form browsers write quotes so, and the receiver takes both for quotes
    return keyed_digest(f"{name}\0{size}", b"batch").hex()
