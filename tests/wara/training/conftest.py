"""Images for the runs of this room, drawn once and decoded once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wara.support import draw_folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("images") / "set")


@pytest.fixture(scope="session")
def pixel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pixels")
