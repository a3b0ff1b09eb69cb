"""Thumbnails: there once an image is checked, made again where one is missing, never those of another image."""

from __future__ import annotations

from backend.settings import Settings
from backend.thumbnails import THUMBNAILS_FOLDER
from tests.backend.support import API, Studio, study


def test_the_check_leaves_a_thumbnail_of_every_image_and_a_missing_one_is_made_the_same(
    studio: Studio, settings: Settings
) -> None:
    found = studio.ready(study(5))
    folder = settings.data_dir / "datasets" / found["id"] / THUMBNAILS_FOLDER
    made = {path: path.read_bytes() for path in folder.iterdir()}
    assert len(made) == found["images"] == 10
    # What earlier versions kept, by an image's number, is not taken for one of these.
    for number in range(10):
        (folder / f"{number}.webp").write_bytes(b"former")
    items = studio.http.get(f"{API}/datasets/{found['id']}/images", params={"limit": 100}).json()["items"]
    before = [studio.http.get(item["url"]).content for item in items]
    assert sorted(before) == sorted(made.values())
    for path in made:
        path.unlink()
    assert [studio.http.get(item["url"]).content for item in items] == before
    assert {path: path.read_bytes() for path in folder.glob("*.jpg")} == made
