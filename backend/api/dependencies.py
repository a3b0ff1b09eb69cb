"""What routes ask for: sessions, storage and the server's parts, as annotated aliases.

Those that only look something up are coroutines: FastAPI runs the others in threads, which costs more than they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from backend.accounts.access import limit, require
from backend.accounts.audit import Audit
from backend.accounts.people import People
from backend.answering import Answering
from backend.backbones import BackboneRegistry
from backend.batches import Batches
from backend.db import Database, Dataset, Job, Model
from backend.devices import Devices
from backend.estimates import Estimator
from backend.intake import Intake
from backend.jobs.supervisor import Supervisor
from backend.lanes import Lanes
from backend.metrics import Metrics
from backend.model_process import ModelProcess
from backend.problems import not_found
from backend.serving import PredictorCache
from backend.settings import Settings
from backend.storage import Storage
from backend.tus.uploads import Uploads
from wara.errors import InputError


@dataclass(frozen=True)
class Parts:
    """Everything a server is made of; lives in ``app.state.parts``."""

    settings: Settings
    database: Database
    storage: Storage
    intake: Intake
    supervisor: Supervisor
    devices: Devices
    backbones: BackboneRegistry
    networks: ModelProcess
    predictors: PredictorCache
    explainers: PredictorCache
    estimates: Estimator
    uploads: Uploads
    batches: Batches
    answering: Answering
    lanes: Lanes
    metrics: Metrics
    people: People
    audit: Audit


async def get_parts(request: Request) -> Parts:
    """Return the parts of the server that answers this request."""
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(get_parts)]


def get_session(parts: PartsDep) -> Iterator[Session]:
    """Give a session that commits when the route has returned, and finds only what whoever asks may see."""
    with parts.database.session() as session:
        yield limit(session)


SessionDep = Annotated[Session, Depends(get_session, scope="function")]


async def get_storage(parts: PartsDep) -> Storage:
    """Return the server's part of this name."""
    return parts.storage


async def get_intake(parts: PartsDep) -> Intake:
    """Return the server's part of this name."""
    return parts.intake


async def get_supervisor(parts: PartsDep) -> Supervisor:
    """Return the server's part of this name."""
    return parts.supervisor


async def get_backbones(parts: PartsDep) -> BackboneRegistry:
    """Return the server's part of this name."""
    return parts.backbones


async def get_devices(parts: PartsDep) -> Devices:
    """Return the server's part of this name."""
    return parts.devices


async def get_uploads(parts: PartsDep) -> Uploads:
    """Return the server's part of this name."""
    return parts.uploads


async def get_batches(parts: PartsDep) -> Batches:
    """Return the server's part of this name."""
    return parts.batches


StorageDep = Annotated[Storage, Depends(get_storage)]
IntakeDep = Annotated[Intake, Depends(get_intake)]
SupervisorDep = Annotated[Supervisor, Depends(get_supervisor)]
BackbonesDep = Annotated[BackboneRegistry, Depends(get_backbones)]
DevicesDep = Annotated[Devices, Depends(get_devices)]
UploadsDep = Annotated[Uploads, Depends(get_uploads)]
BatchesDep = Annotated[Batches, Depends(get_batches)]


def get_dataset(dataset_id: str, session: SessionDep, parts: PartsDep) -> Iterator[Dataset]:
    """Give the data set of the path, or answer 404; also when it is deleted while the route works with its files."""
    found = require_dataset(session, dataset_id)
    with gone_is_not_found(parts, Dataset, "data set", dataset_id):
        yield found


def get_job(job_id: str, session: SessionDep) -> Job:
    """Return the job of the path, or answer 404."""
    found: Job = require(session, "job", job_id)
    return found


def get_model(model_id: str, session: SessionDep, parts: PartsDep) -> Iterator[Model]:
    """Give the model of the path, or answer 404; also when it is deleted while the route works with its files."""
    found = require_model(session, model_id)
    with gone_is_not_found(parts, Model, "model", model_id):
        yield found


@contextmanager
def gone_is_not_found(parts: Parts, kind: type[Dataset] | type[Model], called: str, identifier: str) -> Iterator[None]:
    """Answer 404 where work with files fails because what they belong to was deleted meanwhile."""
    try:
        yield
    except (OSError, InputError):
        with parts.database.session() as another:  # this request's session goes on seeing what it once read
            if another.get(kind, identifier) is None:
                raise not_found(called, identifier) from None
        raise


def require_dataset(session: Session, dataset_id: str) -> Dataset:
    """Return a data set that an order names, or answer 404 when it is not there or may not be seen."""
    found: Dataset = require(session, "dataset", dataset_id)
    return found


def require_model(session: Session, model_id: str) -> Model:
    """Return a model that a query or an order names, or answer 404 when it is not there or may not be seen."""
    found: Model = require(session, "model", model_id)
    return found


DatasetDep = Annotated[Dataset, Depends(get_dataset, scope="function")]
JobDep = Annotated[Job, Depends(get_job)]
ModelDep = Annotated[Model, Depends(get_model, scope="function")]
