"""Small data sets that the tests of this room make for themselves."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wara.data.items import Catalogue, Item, class_names


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a key of its own, never the user's."""
    monkeypatch.setenv("WARA_HOME", str(tmp_path / "home"))


@pytest.fixture
def png() -> Callable[..., bytes]:
    """Return a distinct small image for each number, grey or in colour."""

    def png(number: int, *, colour: bool = False, size: tuple[int, int] = (12, 10)) -> bytes:
        shape = (size[1], size[0], 3) if colour else (size[1], size[0])
        file = io.BytesIO()
        Image.fromarray(np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)).save(file, "PNG")
        return file.getvalue()

    return png


@pytest.fixture
def folder(tmp_path: Path, png: Callable[..., bytes]) -> Callable[..., Path]:
    """Write files; names alone become distinct images, a mapping gives their bytes or texts."""

    def folder(files: Iterable[str] | dict[str, bytes | str | None], name: str = "data") -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        contents = files if isinstance(files, dict) else dict.fromkeys(files)
        for number, (file, content) in enumerate(contents.items()):
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            data = png(number) if content is None else content.encode() if isinstance(content, str) else content
            path.write_bytes(data)
        return root

    return folder


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[..., Path]:
    def make_zip(files: dict[str, bytes], name: str = "data.zip") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file, content in files.items():
                archive.writestr(file, content)
        return path

    return make_zip


@pytest.fixture
def catalogue() -> Callable[[Iterable[Item]], Catalogue]:
    def catalogue(items: Iterable[Item]) -> Catalogue:
        kept = tuple(items)
        return Catalogue(kept, class_names(kept), (), "csv", "fingerprint")

    return catalogue
