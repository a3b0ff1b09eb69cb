"""A real server on its own data folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before any server's own warm-up imports torch in a thread, at which the seed of the next test would stumble.
import wara.backbones  # noqa: F401
from backend.settings import Settings
from tests.backend.support import Studio, serve, settings_for, study


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path / "data")


@pytest.fixture
def studio(settings: Settings) -> Iterator[Studio]:
    with serve(settings) as client:
        yield Studio(client)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Studio, dict[str, Any]]]:
    """A server with one WaRA model, trained by a real job on 24 images; tests must leave it as it is."""
    with serve(settings_for(tmp_path_factory.mktemp("trained"))) as client:
        studio = Studio(client)
        job = studio.train(studio.ready(study())["id"])
        job = studio.ended(job["id"])
        assert job["state"] == "succeeded", job
        yield studio, job
