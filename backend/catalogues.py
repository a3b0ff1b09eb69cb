"""Checked catalogues as they are stored, a few of them kept in memory, and what a data set's row says of them."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path

from backend.db import Dataset
from backend.storage import read_json
from wara.data.catalogue import Catalogue, Item, PassedOver
from wara.data.split import make_split

CATALOGUE_FILE = "catalogue.json"


def describe(dataset: Dataset, catalogue: Catalogue) -> None:
    """Set down in a data set's row what its catalogue holds."""
    counts = Counter(item.label for item in catalogue.items)
    dataset.images = len(catalogue.items)
    dataset.classes = [{"name": name, "count": counts[name]} for name in catalogue.classes]
    dataset.layout = catalogue.layout
    dataset.passed_over = len(catalogue.passed_over)


@lru_cache(maxsize=8)
def load_catalogue(path: Path) -> Catalogue:
    """Return a stored catalogue."""
    stored = read_json(path)
    stored["items"] = tuple(Item(**fields) for fields in stored["items"])
    stored["passed_over"] = tuple(PassedOver(**fields) for fields in stored["passed_over"])
    stored["classes"] = tuple(stored["classes"])
    return Catalogue(**stored)


@lru_cache(maxsize=16)
def split_of_catalogue(path: Path, seed: int) -> list[str]:
    """Return the side of every item of a stored catalogue that training with this seed would use."""
    return make_split(load_catalogue(path), seed)


def forget() -> None:
    """Read stored catalogues anew: one was changed or deleted."""
    load_catalogue.cache_clear()
    split_of_catalogue.cache_clear()
