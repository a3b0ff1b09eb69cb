"""The application: its parts put together, its life from start to stop, the pages at its edge."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from backend import decoding, docs, heap, model_process, orphans, problems, sign_in
from backend.accounts.audit import Audit
from backend.accounts.gate import Gate
from backend.accounts.people import People
from backend.answering import Answering
from backend.api import router
from backend.api.dependencies import Parts
from backend.backbones import BackboneRegistry
from backend.batches import Batches
from backend.db import Database
from backend.devices import Devices
from backend.estimates import Estimator
from backend.guard import ApiShell, RequestGuard
from backend.heads import HeadAsGet
from backend.intake import Intake
from backend.jobs.supervisor import Supervisor
from backend.lanes import Lanes
from backend.metrics import CONTENT_TYPE, Metrics, State
from backend.model_process import ModelProcess
from backend.proxies import FromProxies
from backend.served_model import ServedModel
from backend.serving import PredictorCache
from backend.settings import WILDCARD_HOSTS, Settings
from backend.storage import Storage
from backend.thumbnails import THUMBNAIL_PIXELS
from backend.tus.uploads import Uploads
from wara import __version__
from wara.data.seen import Found, Look
from wara.errors import InputError
from wara.imaging.view import DicomView

log = logging.getLogger("backend")

WARM_UP_AFTER_S = 8.0
EXPLAINING_REST_S = 300.0
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
DESCRIPTION = (
    "Upload medical images, fine-tune a vision transformer, classify, and look at the scale of detail it uses. "
    "A research tool, not a medical device."
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application.

    Nothing is opened or started before the application's own start.

    Args:
        settings: how it runs; read from the environment when left out.
    """
    settings = settings or Settings()
    parts = _assemble(settings)
    app = FastAPI(
        title="WaRA Studio",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        # Nothing about requests leaves the process, whatever the environment asks for.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.parts = parts
    problems.install(app)
    app.add_middleware(ApiShell, metrics=parts.metrics)
    app.add_middleware(Gate, people=parts.people, audit=parts.audit)
    app.add_middleware(RequestGuard, settings=settings)
    app.add_middleware(HeadAsGet)
    app.add_middleware(FromProxies, settings=settings)
    app.include_router(router)
    docs.install(app)
    app.router.routes.append(Route("/metrics", _metrics, include_in_schema=False))
    sign_in.install(app)
    _close_api(app)
    return _with_front_end(app, settings) if settings.front_end else app


def _metrics(request: Request) -> Response:
    parts: Parts = request.app.state.parts
    return Response(parts.metrics.text(), media_type=CONTENT_TYPE)


def _close_api(app: FastAPI) -> None:
    """Answer what no route under ``/api`` takes, before the pages at ``/`` would with an answer of their own form."""
    known = list(app.routes)

    async def nothing_here(request: Request) -> Response:
        def takes(method: str) -> bool:
            scope = {**request.scope, "method": method}
            return any(route.matches(scope)[0] is Match.FULL for route in known)

        methods = [method for method in METHODS if takes(method)]
        if not methods:
            raise HTTPException(404)
        raise HTTPException(405, headers={"Allow": ", ".join(methods)})  # RFC 9110, 15.5.6

    app.router.routes.append(Route("/api/{rest:path}", nothing_here, methods=METHODS, include_in_schema=False))


def _assemble(settings: Settings) -> Parts:
    storage = Storage(settings.data_dir, min_free_mb=settings.min_free_mb, max_upload_mb=settings.max_upload_mb)
    database = Database(storage.database)
    intake = Intake(database, storage, _see_apart)
    devices = Devices(settings.device)
    supervisor = Supervisor(settings, database, storage, intake, devices.found)
    networks = model_process.shared("answers")
    predictors = PredictorCache(settings.warm_models, functools.partial(_load, networks, settings.device))
    # In another process, so that answers need not wait for it, and that is gone when nobody asks any more.
    explaining = model_process.shared("explanations", EXPLAINING_REST_S)
    explainers = PredictorCache(1, functools.partial(_load, explaining, settings.device))
    # Two of more cores are left to the model, which computes on all of them, and to the event loop.
    metrics, lanes = Metrics(), Lanes()
    answering = Answering(readers=max(2, (os.cpu_count() or 2) - 2), seen=metrics.batch)
    metrics.registry.register(
        State(supervisor.counts, lambda: answering.waiting, lanes, storage.free_mb, devices.known, networks.pid)
    )
    return Parts(
        settings=settings,
        database=database,
        storage=storage,
        intake=intake,
        supervisor=supervisor,
        devices=devices,
        backbones=BackboneRegistry(settings, database, storage),
        networks=networks,
        predictors=predictors,
        explainers=explainers,
        estimates=Estimator(settings, lambda: supervisor.counts()["running"]),
        uploads=Uploads(storage, intake),
        batches=Batches(intake, predictors, answering),
        answering=answering,
        lanes=lanes,
        metrics=metrics,
        people=People(database),
        audit=Audit(database),
    )


def _see_apart(looks: Sequence[Look], view: DicomView) -> Iterator[Found]:
    return decoding.shared().see_all(looks, view, THUMBNAIL_PIXELS)


def _load(networks: ModelProcess, device: str, model_id: str, run: Path, backbone: str) -> ServedModel:
    return ServedModel(networks, model_id, run, backbone, device.partition(":")[0], decoding.shared().squares)


def _with_front_end(app: FastAPI, settings: Settings) -> FastAPI:
    """Put the pages at ``/``: the one place where the server knows of them, and they know of it only its address."""
    try:
        pages = importlib.import_module("app.ui")
    except ModuleNotFoundError as error:
        if error.name not in ("app", "app.ui"):
            raise
        log.warning("The pages are not installed; only the API is served")
        return app
    mounted: FastAPI = pages.mount(
        app, settings.base_url(), root_path=settings.root_path, certificate=settings.tls_cert
    )
    return mounted


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    # The library reads this word itself, in this process and in the jobs.
    os.environ["WARA_OFFLINE"] = str(parts.settings.offline).lower()
    await run_in_threadpool(_start, parts)
    try:
        yield
    finally:
        await run_in_threadpool(_stop, parts)


def _start(parts: Parts) -> None:
    settings = parts.settings
    if settings.host in WILDCARD_HOSTS and not (settings.extra_hosts or settings.published_on_loopback):
        log.warning(
            "The server listens on every network of this machine and answers under any name. Set WARA_ALLOWED_HOSTS to "
            "the names it is meant to have."
        )
    if not (settings.reached_by_one or settings.tls_cert or settings.proxies):
        log.warning(
            "The server speaks plain http with other machines: passwords and images can be read on the way. Set "
            "WARA_TLS_CERT and WARA_TLS_KEY, or put a proxy with TLS in front and name it in WARA_TRUSTED_PROXIES."
        )
    prepare(parts)
    orphans.sweep(parts.database, parts.storage)
    parts.intake.start()
    parts.supervisor.start()
    parts.answering.start()
    parts.batches.start()
    parts.devices.look()
    # What holds the models takes seconds of a core to start: the first page goes before it.
    warm_up = threading.Timer(WARM_UP_AFTER_S, _warm_up, (parts,))
    warm_up.name, warm_up.daemon = "warm-up", True
    warm_up.start()


def prepare(parts: Parts) -> None:
    """Claim the data folder, bring its tables to the newest form, and see that nobody is let in by mistake.

    Raises:
        InputError: another server has the folder; or others can reach this one, and there are no accounts.
    """
    parts.storage.prepare()
    parts.database.upgrade()
    settings = parts.settings
    if settings.admin_password and not parts.people.exist():
        parts.people.add(settings.admin_name, settings.admin_password.get_secret_value(), "admin")
        log.info("The first account was made from WARA_ADMIN_NAME and WARA_ADMIN_PASSWORD")
    if settings.reached_by_one or parts.people.exist():
        return
    raise InputError(
        "Others can reach the server at this address, and there are no accounts",
        seen=f"{settings.host}, behind a proxy" if settings.proxies else settings.host,
        remedy="Make the first one with python -m backend users add NAME, or by WARA_ADMIN_NAME and "
        "WARA_ADMIN_PASSWORD; or listen on 127.0.0.1.", code="no-accounts",
    )  # fmt: skip


def _stop(parts: Parts) -> None:
    parts.supervisor.stop()
    parts.batches.stop()
    parts.answering.stop()
    parts.intake.stop()
    parts.database.close()
    parts.storage.release()


def _warm_up(parts: Parts) -> None:
    parts.networks.start()
    heap.keep_tidy()
