"""Models that were trained elsewhere: brought in whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import unicodedata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sqlalchemy import select

from backend.backbones import BackboneRegistry
from backend.db import Database, Job, Model
from backend.db.models import FINISHED_STATES, new_id, now
from backend.incoming import StoredFile
from backend.orphans import remove_unknown
from backend.storage import Storage

if TYPE_CHECKING:
    from wara.imports import Brought

MOST_NAME = 120
_RUN = "run"

log = logging.getLogger("backend.importing")


def import_model(
    database: Database, storage: Storage, backbones: BackboneRegistry, device: str, file: StoredFile, name: str = ""
) -> tuple[Model, list[str]]:
    """Keep the model of a zip as one's own, once it is known to be sound and to answer.

    Args:
        database: where it becomes a row.
        storage: the data folder.
        backbones: what weights are here.
        device: on which it is tried.
        file: the zip, in the folder of its request, in which the work is done too.
        name: what it is to be called; empty takes the name of the folder in the zip.

    Returns:
        The model, and the names of files that were not taken.

    Raises:
        InputError: what is wrong with it, or which backbone is missing; nothing is kept.
    """
    from wara.imports import bring_in

    # Under the name that the person knows, which messages show.
    path = file.path.rename(file.path.with_name(f"{PurePosixPath(file.name).stem[:80]}.zip"))
    run = path.with_name(_RUN)
    specs = [offer.info.spec for offer in backbones.offers() if offer.info.source == "file" and offer.info.available]
    brought = bring_in(path, run, specs=specs, device=device)
    row = _row(brought, _name(name) or _name(brought.name) or _name(path.stem) or "Imported model")
    kept = storage.folder("models", row.id)
    try:
        with database.session() as session:
            session.add(row)
            session.flush()
            # A server that is killed between the two leaves a folder without a row, which the next start sweeps.
            storage.move(run, kept)
    except BaseException:
        with contextlib.suppress(OSError):
            storage.remove("models", row.id)
        raise
    log.info("Model %s was brought in from elsewhere", row.id)
    return row, brought.passed_over


def drop_unlisted_models(database: Database, storage: Storage) -> None:
    """Remove folders of models that no row knows: a server was killed while it brought them in or deleted them."""
    with database.session() as session:
        # A job's model has its id, and lies here before it is a row.
        unfinished = session.scalars(select(Job.id).where(Job.state.not_in(FINISHED_STATES)))
        known = {*session.scalars(select(Model.id)), *unfinished}
    if count := remove_unknown(storage, "models", known):
        log.info("Left by a killed server: folders removed: models %d", count)


def _row(brought: Brought, name: str) -> Model:
    recipe, moment = brought.recipe, now()
    return Model(
        id=new_id(), name=name, dataset_name="", method=recipe["method"], backbone=recipe["backbone"]["name"],
        backbone_spec=brought.spec, pretrained=bool(recipe["backbone"]["pretrained"]), preset=recipe["preset"],
        classes=list(recipe["classes"]), created=moment, imported=moment, seed=recipe["seed"], rank=recipe["rank"],
        metrics=brought.metrics,
    )  # fmt: skip


def _name(text: str) -> str:
    """Return a name as it can be shown, on one line."""
    flat = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(letter for letter in flat if letter.isprintable())[:MOST_NAME].strip()
