"""Models kept ready between predictions: the few that were used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wara.errors import InputError
    from wara.inference import Prediction, Predictor


class PredictorCache:
    """Loads each model once and forgets the one that was not used for longest.

    Args:
        capacity: models in memory at once.
        load: makes a predictor of (run folder, backbone spec).
    """

    def __init__(self, capacity: int, load: Callable[[Path, str], Predictor]) -> None:
        self._capacity = capacity
        self._load = load
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def predict(
        self, model_id: str, run: Path, backbone: str, images: Iterable[tuple[str, bytes | InputError]]
    ) -> list[Prediction]:
        """Classify images with a warm model; a second call for a model that is loading waits for it."""
        with self.borrow(model_id, run, backbone) as predictor:
            return predictor.predict(images)

    @contextmanager
    def borrow(self, model_id: str, run: Path, backbone: str) -> Iterator[Predictor]:
        """Lend a warm model to one borrower at a time; the next one waits."""
        with self._lock:
            entry = self._entries.setdefault(model_id, _Entry())
            self._entries.move_to_end(model_id)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        with entry.lock:
            if entry.predictor is None:
                entry.predictor = self._load(run, backbone)
            yield entry.predictor

    def forget(self, model_id: str) -> None:
        """Let a model go."""
        with self._lock:
            self._entries.pop(model_id, None)

    def warm(self) -> list[str]:
        """Return the ids of the models that are loaded, the most recently used last."""
        with self._lock:
            return [model_id for model_id, entry in self._entries.items() if entry.predictor is not None]


class _Entry:
    """One model: its lock keeps a second request from loading it again or sharing the device with the first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.predictor: Predictor | None = None
