"""A data set as it was decided, and the decisions about its findings: taken, kept and taken back."""

from __future__ import annotations

from backend.catalogues import Study, load_study
from backend.db import Dataset
from backend.intake import Intake
from backend.problems import RequestRefused, not_found
from wara.data.checks import require_trainable
from wara.data.decisions import Decision, apply_decisions, read_decisions, write_decisions
from wara.data.findings import decide
from wara.data.fixes import MASK


def study(intake: Intake, dataset: Dataset, seed: int) -> Study:
    """Return a data set as training with this seed would take it.

    Raises:
        RequestRefused: 409 while the data set is not ready.
    """
    intake.catalogue(dataset)  # refuses while it is not ready
    return load_study(intake.catalogue_file(dataset), intake.decisions_file(dataset), seed)


def take_decision(intake: Intake, dataset_id: str, finding: str, fix: str, seed: int) -> list[Decision]:
    """Record the fix of a finding; return all decisions.

    Raises:
        InputError: there is no such finding or fix, or nothing that can be trained on would remain.
        RequestRefused: 404; 409 while the data set is not ready or a job uses it.
    """
    with intake.storage.lock(dataset_id):
        dataset = intake.changeable(dataset_id)
        now = study(intake, dataset, seed)
        decision = decide(now.findings, now.catalogue.items, finding, fix)
        return _write(intake, dataset, [*now.decisions, decision])


def undo_decision(intake: Intake, dataset_id: str, number: int) -> list[Decision]:
    """Take a decision back by its number, from 0; the others stay. Returns those.

    Raises:
        RequestRefused: 404 for the number or the data set; 409 while it is not ready or a job uses it, or for what was
            covered in the files.
        InputError: nothing that can be trained on would remain.
    """
    with intake.storage.lock(dataset_id):
        dataset = intake.changeable(dataset_id)
        path = intake.decisions_file(dataset)
        decisions = read_decisions(path) if path.exists() else []
        if not 0 <= number < len(decisions):
            raise not_found("decision", str(number))
        if decisions[number].fix == MASK:
            raise RequestRefused(
                409, "What was covered in the stored files cannot be brought back",
                remedy="Delete the data set and upload the images again.", code="mask-final",
            )  # fmt: skip
        return _write(intake, dataset, decisions[:number] + decisions[number + 1 :])


def _write(intake: Intake, dataset: Dataset, decisions: list[Decision]) -> list[Decision]:
    require_trainable(apply_decisions(intake.catalogue(dataset), decisions))
    path = intake.decisions_file(dataset)
    if decisions:
        write_decisions(path, decisions)
    else:
        path.unlink(missing_ok=True)
    return decisions
