"""The demo data set: drawn on this server and taken in like an upload, once; and images for trying its models on."""

from __future__ import annotations

from functools import cache
from pathlib import PurePosixPath

from sqlalchemy import select

from backend.accounts.access import visible
from backend.db import Dataset
from backend.intake import Intake
from backend.problems import RequestRefused
from backend.storage import Storage
from wara.demo import files
from wara.demo_drawing import CLASSES

NAME = "Demo (synthetic images)"
IMAGES = 300
UNSEEN_SEED = 1
_FOLDER = "demo"


def add_demo(intake: Intake, storage: Storage) -> tuple[str, bool]:
    """Draw the demo images into a new data set and begin its check, or find the one that is here.

    Returns:
        The data set's id, and whether it is new.

    Raises:
        RequestRefused: 507 when the disk has too little room.
    """
    # Whoever asks a second time while the images are drawn waits, and is given the same.
    with storage.lock("demo"):
        existing = _existing(intake)
        if existing is not None:
            return existing, False
        storage.require_space()
        with storage.scratch() as batch:
            for name, content in files(IMAGES):
                writer = batch.open(f"{_FOLDER}/{name}")
                writer.write(content)
                writer.close()
            dataset_id = intake.begin(NAME, None)
            try:
                intake.add(dataset_id, batch)
                intake.finish(dataset_id)
            except RequestRefused as error:
                intake.discard_upload(dataset_id)
                if error.code == "dataset-exists":  # somebody uploaded the same images under another name
                    return str(error.extra["existing"]), False
                raise
            except BaseException:
                intake.discard_upload(dataset_id)
                raise
    return dataset_id, True


@cache
def unseen() -> dict[str, bytes]:
    """Return an image of each class, drawn by another seed than the data set's: PNG by file name."""
    drawn = files(len(CLASSES), seed=UNSEEN_SEED, dicom_share=0)
    return {PurePosixPath(name).name: content for name, content in drawn}


def _existing(intake: Intake) -> str | None:
    with intake.database.session() as session:
        named = session.scalars(
            select(Dataset).where(
                visible("dataset"), Dataset.name.startswith(NAME), Dataset.state.in_(("checking", "ready"))
            )
        )
        # The name alone could also be that of somebody's folder.
        return next((row.id for row in named if {item["name"] for item in row.classes} == set(CLASSES)), None)
