"""Checked catalogues as they are stored and as they were decided, a few kept in memory; and what a row says of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from backend.db import Dataset
from wara.data.catalogue import Catalogue
from wara.data.checked import read_checked
from wara.data.decisions import Decision, apply_decisions, read_decisions
from wara.data.findings import Finding, find
from wara.data.report import data_report
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
    return read_checked(path)


@lru_cache(maxsize=256)
def formats_of(path: Path) -> tuple[str, ...]:
    """Return the formats of a stored catalogue's images; kept, because lists of data sets ask again and again."""
    return tuple(sorted({item.format for item in load_catalogue(path).items if item.format}))


@dataclass(frozen=True)
class Study:
    """What training with a seed would work on.

    Attributes:
        checked: the catalogue before any decision; thumbnails go by it.
        catalogue: after the decisions.
        split: the side of each of its items.
        findings: what is still to be objected to.
        decisions: in the order in which they were taken.
        numbers: each file's place in ``checked``.
    """

    checked: Catalogue
    catalogue: Catalogue
    split: list[str]
    findings: list[Finding]
    decisions: list[Decision]
    numbers: dict[str, int]

    def report(self) -> dict[str, Any]:
        """Return the data report."""
        return data_report(self.catalogue, self.split, findings=self.findings, decisions=self.decisions)


def load_study(catalogue_file: Path, decisions_file: Path, seed: int) -> Study:
    """Return a stored catalogue as training with this seed would take it: decided, split and looked through."""
    content = decisions_file.read_bytes() if decisions_file.exists() else b""
    return _study(catalogue_file, decisions_file, hashlib.blake2b(content).digest(), seed)


@lru_cache(maxsize=8)
def _study(catalogue_file: Path, decisions_file: Path, content: bytes, seed: int) -> Study:
    """``content`` (a hash of the decisions) is only a part of the cache's key."""
    checked = load_catalogue(catalogue_file)
    decisions = read_decisions(decisions_file) if decisions_file.exists() else []
    catalogue = apply_decisions(checked, decisions)
    split = make_split(catalogue, seed)
    numbers = {item.file: number for number, item in enumerate(checked.items)}
    return Study(checked, catalogue, split, find(catalogue, split), decisions, numbers)


def forget() -> None:
    """Read stored catalogues anew: one was changed or deleted; names of files are not kept longer than the files."""
    load_catalogue.cache_clear()
    formats_of.cache_clear()
    _study.cache_clear()
