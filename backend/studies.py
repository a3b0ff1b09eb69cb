"""A data set as it was decided: its catalogue after the decisions, its split and its findings, computed once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from backend.db import Dataset
from backend.intake import Intake, load_catalogue
from backend.problems import not_found
from wara.data.checks import require_trainable
from wara.data.decisions import Decision, apply_decisions, read_decisions, write_decisions
from wara.data.findings import Finding, decide, find
from wara.data.items import Catalogue
from wara.data.report import data_report
from wara.data.split import make_split


@dataclass(frozen=True)
class Study:
    """What training with a seed would work on.

    Attributes:
        catalogue: after the decisions.
        split: the side of each of its items.
        findings: what is still to be objected to.
        decisions: in the order in which they were taken.
        numbers: each file's place in the catalogue as it was checked, which thumbnails go by.
    """

    catalogue: Catalogue
    split: list[str]
    findings: list[Finding]
    decisions: list[Decision]
    numbers: dict[str, int]

    def report(self) -> dict[str, Any]:
        """Return the data report."""
        return data_report(self.catalogue, self.split, findings=self.findings, decisions=self.decisions)


def study(intake: Intake, dataset: Dataset, seed: int) -> Study:
    """Return a data set as training with this seed would take it.

    Raises:
        RequestRefused: 409 while the data set is not ready.
    """
    intake.catalogue(dataset)  # refuses while it is not ready
    path = intake.decisions_file(dataset)
    content = path.read_bytes() if path.exists() else b""
    return _study(intake.catalogue_file(dataset), path, hashlib.blake2b(content).digest(), seed)


def forget_studies() -> None:
    """Let go of what was computed, when a data set is deleted: names of files are not kept longer than the files."""
    _study.cache_clear()


def take_decision(intake: Intake, dataset: Dataset, finding: str, fix: str, seed: int) -> list[Decision]:
    """Record the fix of a finding; return all decisions.

    Raises:
        InputError: there is no such finding or fix, or nothing that can be trained on would remain.
        RequestRefused: 404 or 409, as for deleting the data set.
    """
    with intake.storage.lock(dataset.id):
        intake.require_unused(dataset.id)
        now = study(intake, dataset, seed)
        decision = decide(now.findings, now.catalogue.items, finding, fix)
        return _write(intake, dataset, [*now.decisions, decision])


def undo_decision(intake: Intake, dataset: Dataset, number: int) -> list[Decision]:
    """Take a decision back by its number, from 0; the others stay. Returns those.

    Raises:
        RequestRefused: 404 for the number or the data set, 409 while a job uses the data set.
        InputError: nothing that can be trained on would remain.
    """
    with intake.storage.lock(dataset.id):
        intake.require_unused(dataset.id)
        path = intake.decisions_file(dataset)
        decisions = read_decisions(path) if path.exists() else []
        if not 0 <= number < len(decisions):
            raise not_found("decision", str(number))
        return _write(intake, dataset, decisions[:number] + decisions[number + 1 :])


def _write(intake: Intake, dataset: Dataset, decisions: list[Decision]) -> list[Decision]:
    require_trainable(apply_decisions(intake.catalogue(dataset), decisions))
    path = intake.decisions_file(dataset)
    if decisions:
        write_decisions(path, decisions)
    else:
        path.unlink(missing_ok=True)
    return decisions


@lru_cache(maxsize=8)
def _study(catalogue_file: Path, decisions_file: Path, content: bytes, seed: int) -> Study:
    """``content`` (a hash of the decisions) is only a part of the cache's key."""
    checked = load_catalogue(catalogue_file)
    decisions = read_decisions(decisions_file) if decisions_file.exists() else []
    catalogue = apply_decisions(checked, decisions)
    split = make_split(catalogue, seed)
    numbers = {item.file: number for number, item in enumerate(checked.items)}
    return Study(catalogue, split, find(catalogue, split), decisions, numbers)
