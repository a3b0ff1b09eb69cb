"""Where a data set's labels come from: looked at before it is applied, and applied to data that is already here."""

from __future__ import annotations

from typing import Any

from backend.catalogues import describe, forget
from backend.db import Dataset
from backend.intake import Intake
from backend.problems import RequestRefused, not_found
from backend.refusals import refuse_in_use
from wara.data.catalogue import read_catalogue, require_trainable
from wara.data.mapping import Mapping, write_mapping
from wara.data.mapping_preview import preview
from wara.data.sources import open_source
from wara.errors import InputError

_HAS_FILES = ("mapping", "checking", "ready")
_CAN_CHANGE = ("mapping", "ready")


def preview_mapping(intake: Intake, dataset: Dataset, mapping: Mapping | None) -> dict[str, Any]:
    """Return what a mapping would give (see ``wara.data.mapping_preview.preview``).

    Args:
        intake: the data sets.
        dataset: which one.
        mapping: where labels come from; None for what is set now, else a guess.

    Raises:
        RequestRefused: 409 while the data set has no files.
        InputError: its table cannot be read.
    """
    if dataset.state not in _HAS_FILES:
        raise _wrong_state(dataset)
    try:
        return _preview(intake, dataset, mapping)
    except InputError:
        with intake.database.session() as session:
            now = session.get(Dataset, dataset.id)
        if now is None or now.source == dataset.source:
            raise
        return _preview(intake, now, mapping)  # its check ended meanwhile, and what came was taken away


def _preview(intake: Intake, dataset: Dataset, mapping: Mapping | None) -> dict[str, Any]:
    with open_source(intake.source(dataset)) as source:
        return preview(source, mapping or intake.mapping(dataset), intake.labels_file(dataset))


def apply_mapping(intake: Intake, dataset_id: str, mapping: Mapping) -> None:
    """Take labels, patients and sides from elsewhere, and have the images checked again.

    Decisions about findings are dropped, as the check begins: they were taken about the former labels, patients and
    sides.

    Raises:
        RequestRefused: 404; 409 while a training uses the data set, or while it is received or checked.
        InputError: with these labels nothing can be trained; the data set stays as it was.
    """
    with intake.storage.lock(dataset_id):
        with intake.database.session() as session:
            dataset = session.get(Dataset, dataset_id)
            if dataset is None:
                raise not_found("data set", dataset_id)
            if dataset.state not in _CAN_CHANGE:
                raise _wrong_state(dataset)
            refuse_in_use(session, dataset_id)
        with open_source(intake.source(dataset)) as source:
            catalogue = read_catalogue(source, intake.labels_file(dataset), mapping)
        require_trainable(catalogue)
        with intake.database.session() as session:
            row = session.get_one(Dataset, dataset_id)
            refuse_in_use(session, dataset_id)  # reading the headers of many files takes a while
            describe(row, catalogue)
            row.state, row.error = "checking", None
            write_mapping(intake.mapping_file(row), mapping)
    forget()
    intake.submit(dataset_id)


def _wrong_state(dataset: Dataset) -> RequestRefused:
    return RequestRefused(
        409,
        "Where the labels of this data set come from cannot be changed now",
        seen=dataset.state,
        remedy="Upload it again." if dataset.state == "failed" else "Wait until its images are received and checked.",
        code="dataset-not-ready",
    )
