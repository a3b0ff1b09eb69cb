"""Refusals of data sets that are in another state than a request needs: in use, here already, not ready."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.db import Dataset, Job
from backend.db.models import FINISHED_STATES
from backend.problems import RequestRefused
from wara.errors import InputError


def refuse_in_use(session: Session, dataset_id: str) -> None:
    """Raise while a training uses a data set.

    Raises:
        RequestRefused: 409, with the training's name.
    """
    using = session.scalars(
        select(Job.name).where(Job.dataset_id == dataset_id, Job.state.not_in(FINISHED_STATES))
    ).first()
    if using is not None:
        raise RequestRefused(
            409,
            "A training is using this data set",
            seen=using,
            remedy="Wait until it has ended, or cancel it first.",
            code="dataset-in-use",
        )


def already_here(session: Session, digest: str, age_band: int | None) -> RequestRefused:
    """Return the 409 for content that another data set holds.

    Args:
        session: of the database.
        digest: of the content.
        age_band: what the sender agreed to now; where the other data set was taken in otherwise, that is said.
    """
    existing = session.scalars(select(Dataset).where(Dataset.digest == digest)).one_or_none()
    if existing is None:
        return RequestRefused(
            409,
            "A data set of the same content was deleted at this very moment",
            remedy="Upload it once more.",
            code="dataset-deleted",
        )
    remedy = "Use the one that is here; the second copy was not kept."
    if existing.age_band != age_band:
        now, then = _kept(age_band), _kept(existing.age_band)
        remedy += f" It was taken in {then}; to have it {now}, delete it and upload it again."
    return RequestRefused(
        409,
        "This data set is already here",
        seen=existing.name,
        remedy=remedy,
        code="dataset-exists",
        existing=existing.id,
    )


def _kept(age_band: int | None) -> str:
    return "without sex and age" if age_band is None else f"with sex and ages in bands of {age_band} years"


def asked() -> InputError:
    """Return what is said of an upload whose sender wants to say first where the labels come from."""
    return InputError(
        "You asked to say first where the classes and patients stand",
        remedy="Say it here; the images are then checked, and what is not needed of headers and tables is taken away.",
        code="asked",
    )


def no_room_for_check() -> InputError:
    """Return what is said when the disk is too full to keep the cleaned images beside those that came."""
    return InputError(
        "The disk is full, so the images could not be checked",
        remedy="Free some space, then choose here again where the labels come from; the images are still there.",
        code="disk-full",
    )


def refuse_unless_receiving(dataset: Dataset) -> None:
    """Raise when an upload is finished.

    Raises:
        RequestRefused: 409, with the state.
    """
    if dataset.state != "receiving":
        raise RequestRefused(
            409,
            "The upload of this data set is already finished",
            seen=dataset.state,
            remedy="Start a new upload to add images.",
            code="dataset-not-receiving",
        )


def refuse_unless_ready(dataset: Dataset) -> None:
    """Raise while a data set has no checked catalogue.

    Raises:
        RequestRefused: 409, with what is missing.
    """
    if dataset.state == "failed" and dataset.error is not None:
        problem = dataset.error
        raise RequestRefused(
            409, problem["title"], seen=problem.get("seen"), remedy=problem["remedy"], code="dataset-failed"
        )
    if dataset.state == "mapping":
        raise RequestRefused(
            409,
            "It is not yet said where the labels of this data set come from",
            seen=dataset.name,
            remedy="Say it on the page Data, or by PUT datasets/ID/mapping.",
            code="dataset-needs-mapping",
        )
    if dataset.state != "ready":
        raise RequestRefused(
            409,
            "The images of this data set are still being received or checked",
            seen=dataset.state,
            remedy="Wait until its state is 'ready'.",
            code="dataset-not-ready",
        )
