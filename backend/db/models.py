"""The tables: data sets, jobs, models and uploaded backbones."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, ForeignKey, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from backend.acting import owner_id

DATASET_STATES = ("receiving", "mapping", "checking", "ready", "failed")
JOB_STATES = ("queued", "running", "paused", "succeeded", "failed", "cancelled")
FINISHED_STATES = frozenset({"succeeded", "failed", "cancelled"})


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time in UTC; SQLite itself forgets the zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC without a zone."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


def now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """Return a short random identifier (48 bits)."""
    return secrets.token_hex(6)


def new_place() -> int:
    """Return the place of a job at the end of the queue: microseconds since 1970."""
    return time.time_ns() // 1000


class Base(DeclarativeBase):
    """What all tables share."""

    type_annotation_map = {  # noqa: RUF012 - the form that SQLAlchemy documents
        datetime: UtcDateTime,
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
    }


class Dataset(Base):
    """An uploaded collection of images; its files lie in the storage under the same id."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    # The account that made it; None on a server without accounts. No foreign key: it outlives a deleted account.
    owner_id: Mapped[str | None] = mapped_column(String(32), default=owner_id, index=True)
    name: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(16), default="receiving")
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now, onupdate=now)
    # Hash of all names and contents: two uploads of the same folder meet here. Empty while receiving or when failed.
    digest: Mapped[str | None] = mapped_column(String(64), unique=True)
    source: Mapped[str | None] = mapped_column(String(1024))
    labels: Mapped[str | None] = mapped_column(String(1024))
    images: Mapped[int] = mapped_column(default=0)
    classes: Mapped[list[Any]] = mapped_column(default=list)
    layout: Mapped[str | None] = mapped_column(String(32))
    passed_over: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    # Sex and age are kept in bands of so many years where that was agreed to; None keeps neither.
    age_band: Mapped[int | None]


class Job(Base):
    """One training run, queued, running, paused or finished."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str | None] = mapped_column(String(32), default=owner_id, index=True)
    name: Mapped[str] = mapped_column(String(200))
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"))
    dataset_name: Mapped[str] = mapped_column(String(200))
    method: Mapped[str] = mapped_column(String(32))
    backbone: Mapped[str] = mapped_column(String(200))
    backbone_spec: Mapped[str] = mapped_column(String(2048))
    preset: Mapped[str] = mapped_column(String(32))
    recipe: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[str] = mapped_column(String(16), default="queued", index=True)
    created: Mapped[datetime] = mapped_column(default=now)
    started: Mapped[datetime | None]
    finished: Mapped[datetime | None]
    device: Mapped[str | None] = mapped_column(String(32))
    # The process is known by its number and its start time: the system gives numbers out again.
    pid: Mapped[int | None]
    pid_started: Mapped[float | None]
    attempts: Mapped[int] = mapped_column(default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    error: Mapped[dict[str, Any] | None]
    # Higher goes first; within one priority the lower place.
    priority: Mapped[int] = mapped_column(default=0)
    place: Mapped[int] = mapped_column(BigInteger, default=new_place)
    pause_requested: Mapped[bool] = mapped_column(default=False)
    paused_for: Mapped[str | None] = mapped_column(String(16))
    # The last sign of life of its process.
    beat: Mapped[datetime | None]
    # Parts that a batch is computed in, doubled whenever the memory ran out.
    accumulate: Mapped[int] = mapped_column(default=1)
    happenings: Mapped[list[Happening]] = relationship(
        order_by="Happening.id", lazy="selectin", passive_deletes=True, cascade="all, delete-orphan"
    )
    model: Mapped[Model | None] = relationship(back_populates="job", passive_deletes=True)


class Happening(Base):
    """Something that happened to a job; written in the transaction that changed its state."""

    __tablename__ = "job_happenings"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime] = mapped_column(default=now)
    state: Mapped[str] = mapped_column(String(16))
    code: Mapped[str] = mapped_column(String(32))
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Model(Base):
    """A trained model; its RUN folder lies in the storage under the same id."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str | None] = mapped_column(String(32), default=owner_id, index=True)
    name: Mapped[str] = mapped_column(String(200))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), unique=True)
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"))
    dataset_name: Mapped[str] = mapped_column(String(200))
    method: Mapped[str] = mapped_column(String(32))
    backbone: Mapped[str] = mapped_column(String(200))
    backbone_spec: Mapped[str] = mapped_column(String(2048))
    pretrained: Mapped[bool]
    preset: Mapped[str] = mapped_column(String(32))
    classes: Mapped[list[Any]]
    created: Mapped[datetime] = mapped_column(default=now)
    seed: Mapped[int | None]
    rank: Mapped[int | None]
    metrics: Mapped[dict[str, Any]]
    # When it was brought in, where it was trained elsewhere.
    imported: Mapped[datetime | None]
    job: Mapped[Job | None] = relationship(back_populates="model")


class Backbone(Base):
    """Weights that a person uploaded for a timm architecture."""

    __tablename__ = "backbones"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner_id: Mapped[str | None] = mapped_column(String(32), default=owner_id, index=True)
    name: Mapped[str] = mapped_column(String(200))
    file: Mapped[str] = mapped_column(String(300))
    original: Mapped[str] = mapped_column(String(300))
    created: Mapped[datetime] = mapped_column(default=now)
