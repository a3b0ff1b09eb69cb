"""Thumbnails: there once an image is checked, made again where one is missing, never those of another image."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backend.settings import Settings
from backend.thumbnails import THUMBNAILS_FILE, forget_thumbnails, keeper
from tests.backend.support import API, Studio, study
from wara.data.items import Item


def kept_in(folder: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(folder / THUMBNAILS_FILE)) as shelf:
        return dict(shelf.execute("SELECT digest, picture FROM thumbnails").fetchall())


def change(folder: Path, order: str) -> None:
    with closing(sqlite3.connect(folder / THUMBNAILS_FILE)) as shelf:
        shelf.execute(order)
        shelf.commit()


def shown(studio: Studio, dataset: str) -> list[bytes]:
    items = studio.http.get(f"{API}/datasets/{dataset}/images", params={"limit": 100}).json()["items"]
    return [studio.http.get(item["url"]).content for item in items]


def test_the_check_leaves_a_thumbnail_of_every_image_and_a_missing_one_is_made_the_same(
    studio: Studio, settings: Settings
) -> None:
    found = studio.ready(study(5))
    folder = settings.data_dir / "datasets" / found["id"]
    made = kept_in(folder)
    assert len(made) == found["images"] == 10
    before = shown(studio, found["id"])
    assert sorted(before) == sorted(made.values())
    change(folder, "DELETE FROM thumbnails")
    assert shown(studio, found["id"]) == before
    assert kept_in(folder) == made


@pytest.mark.parametrize("content", [None, b"no database at all" * 100], ids=["gone", "damaged"])
def test_where_their_file_is_gone_or_damaged_all_are_made_again(
    studio: Studio, settings: Settings, content: bytes | None
) -> None:
    found = studio.ready(study(5))
    folder = settings.data_dir / "datasets" / found["id"]
    before, made = shown(studio, found["id"]), kept_in(folder)
    (folder / THUMBNAILS_FILE).unlink()
    if content is not None:
        (folder / THUMBNAILS_FILE).write_bytes(content)
    assert shown(studio, found["id"]) == before
    assert kept_in(folder) == made


def test_what_a_forgotten_one_showed_is_nowhere_in_the_file(tmp_path: Path) -> None:
    with keeper(tmp_path) as show:
        for number in range(20):
            show(f"digest-{number}", b"picture of %d " % number * 500)
    assert b"picture of 7 picture of 7" in (tmp_path / THUMBNAILS_FILE).read_bytes()
    forget_thumbnails(tmp_path, [Item("a.png", "x", digest="digest-7")])
    assert b"picture of 7 picture of 7" not in (tmp_path / THUMBNAILS_FILE).read_bytes()
    assert len(kept_in(tmp_path)) == 19


def test_a_check_that_began_anew_leaves_none_of_the_former_one_and_none_in_the_form_of_earlier_versions(
    tmp_path: Path,
) -> None:
    (tmp_path / "thumbnails").mkdir()
    (tmp_path / "thumbnails" / "1.jpg").write_bytes(b"former")
    with keeper(tmp_path) as show:
        show("one", b"former")
    with keeper(tmp_path) as show:
        show("two", b"now")
    assert kept_in(tmp_path) == {"two": b"now"}
    assert [path.name for path in tmp_path.iterdir()] == [THUMBNAILS_FILE]


def test_without_their_folder_a_check_goes_on_without_thumbnails(tmp_path: Path) -> None:
    with keeper(tmp_path / "deleted") as show:
        show("one", b"picture")
    assert not (tmp_path / "deleted").exists()
