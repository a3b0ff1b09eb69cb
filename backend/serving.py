"""Models kept ready between predictions: the few that were used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from backend.served_model import ServedModel


class PredictorCache:
    """Loads each model once and forgets the one that was not used for longest.

    Args:
        capacity: models in memory at once.
        load: makes a predictor of (id, run folder, backbone spec).
    """

    def __init__(self, capacity: int, load: Callable[[str, Path, str], ServedModel]) -> None:
        self._capacity = capacity
        self._load = load
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, model_id: str, run: Path, backbone: str) -> ServedModel:
        """Return a warm model; a second request for a model that is loading waits for it.

        What is done with it at once by several is its own concern: it runs one batch at a time.
        """
        with self._lock:
            entry = self._entries.setdefault(model_id, _Entry())
            self._entries.move_to_end(model_id)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        if entry.predictor is None:
            with entry.loading:
                if entry.predictor is None:
                    entry.predictor = self._load(model_id, run, backbone)
        return entry.predictor

    def ready(self, model_id: str) -> ServedModel | None:
        """Return a model that is warm, without waiting; None where it must be loaded first."""
        with self._lock:
            entry = self._entries.get(model_id)
            if entry is None or entry.predictor is None:
                return None
            self._entries.move_to_end(model_id)
            return entry.predictor

    def forget(self, model_id: str) -> None:
        """Let a model go; requests under way end with it as it was."""
        with self._lock:
            self._entries.pop(model_id, None)

    def warm(self) -> list[str]:
        """Return the ids of the models that are loaded, the most recently used last."""
        with self._lock:
            return [model_id for model_id, entry in self._entries.items() if entry.predictor is not None]


class _Entry:
    """One model; its lock keeps a second request from loading it again."""

    def __init__(self) -> None:
        self.loading = threading.Lock()
        self.predictor: ServedModel | None = None
