"""What a killed server left, set right at the next start: uploads go back to their rows, folders without a row go."""

from __future__ import annotations

import logging
from collections.abc import Set
from pathlib import Path, PurePath

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from backend.batch_record import RECORD_FILE
from backend.db import Backbone, Database, Dataset, Job, Model
from backend.db.engine import OURS, UNKNOWN_KEPT
from backend.problems import unexpected
from backend.storage import Storage

log = logging.getLogger("backend.orphans")


def sweep(database: Database, storage: Storage) -> None:
    """Put uploads back whose finish was cut short, and end deletions and beginnings that were.

    For the start alone, before anything else touches the folders: what is being made now has no row yet. Models have a
    sweep of their own, after the jobs that a stopped server left: see ``backend.importing.drop_unlisted_models``.
    """
    try:
        returned = _put_back(database, storage)
        known = _known(database, storage)
        if _kept(storage).exists():
            _keep(storage, sum(len(unknown(storage, kind, names)) for kind, names in known.items()))
            return
        del known["models"]  # these have their own time
        removed = {kind: remove_unknown(storage, kind, names) for kind, names in known.items()}
    except (OSError, SQLAlchemyError) as error:
        unexpected(error)  # the server starts all the same, and the next start sweeps again
        return
    counts = ", ".join(f"{kind} {count}" for kind, count in removed.items() if count)
    if returned or counts:
        log.info("Left by a killed server: uploads put back %d; folders removed: %s", returned, counts or "none")


def unknown(storage: Storage, kind: str, known: Set[str]) -> list[str]:
    """Return the folders of one kind that nothing refers to."""
    folders = [folder.name for folder in (storage.root / kind).iterdir() if folder.is_dir()]
    return [name for name in folders if OURS.fullmatch(name) and name not in known]


def remove_unknown(storage: Storage, kind: str, known: Set[str]) -> int:
    """Remove the folders of one kind that nothing refers to; return how many.

    None is removed where a new database found some: it knows nothing of them, and the former one may come back. They
    stay until somebody says otherwise.
    """
    if _kept(storage).exists():
        return 0
    removed = 0
    for name in unknown(storage, kind, known):
        try:
            storage.remove(kind, name)
            removed += 1
        except OSError as error:
            unexpected(error)
    return removed


def _put_back(database: Database, storage: Storage) -> int:
    with database.session() as session:
        receiving = session.scalars(select(Dataset.id).where(Dataset.state == "receiving")).all()
    return sum(storage.unsettle(dataset_id) for dataset_id in receiving)


def _known(database: Database, storage: Storage) -> dict[str, set[str]]:
    """Return by the kind of a folder which of them something refers to."""
    with database.session() as session:
        states = {row.id: row.state for row in session.execute(select(Dataset.id, Dataset.state))}
        jobs = set(session.scalars(select(Job.id)))
        backbones = set(session.scalars(select(Backbone.id)))
        models = set(session.scalars(select(Model.id)))
        specs = {*session.scalars(select(Model.backbone_spec)), *session.scalars(select(Job.backbone_spec))}
    return {
        "staging": set(states),
        "uploads": {dataset_id for dataset_id, state in states.items() if state == "receiving"},
        "datasets": {dataset_id for dataset_id, state in states.items() if state != "failed"},
        "jobs": jobs,
        "models": models | jobs,  # a job's model has its id, and lies here before it is a row
        "batches": {record.parent.name for record in (storage.root / "batches").glob(f"*/{RECORD_FILE}")},
        "backbones": backbones | {PurePath(spec.partition(":")[2]).parent.name for spec in specs},
    }


def _kept(storage: Storage) -> Path:
    return storage.root / UNKNOWN_KEPT


def _keep(storage: Storage, count: int) -> None:
    """Say that folders which a new database did not know stay; once it knows them all, there is nothing to say."""
    if not count:
        _kept(storage).unlink(missing_ok=True)
        return
    log.warning(
        "The database does not know %d folders of the data folder: it was made anew beside them. They stay. Stop the "
        "server and put the former wara.db back, or remove the file %s: then the next start removes them.",
        count, UNKNOWN_KEPT,
    )  # fmt: skip
