"""A checked catalogue is stored item by item and read back the same, also as older versions wrote it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from wara.data.checked import checked_as_json, read_checked
from wara.data.items import Catalogue, Item, PassedOver

ITEMS = (
    Item("a/1.png", "a", patient="p", split="test", digest="d", format="PNG", width=3, height=4, spacing=(0.5, 0.25)),
    Item('b/ü "2"\n.dcm#3', "b", frame=3, age=40.0, sex="F", text="seen"),
)
CATALOGUE = Catalogue(
    ITEMS, ("a", "b"), (PassedOver("c.png", 'is "damaged", "items": [', "a"),), "csv", "print", "digest", ("sex",)
)
EMPTY = Catalogue((), (), (), "csv", "print")


@pytest.mark.parametrize("catalogue", [CATALOGUE, EMPTY], ids=["items", "empty"])
def test_what_is_read_is_what_was_written(catalogue: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.json"
    path.write_text("".join(checked_as_json(catalogue)), encoding="utf-8")
    assert read_checked(path) == catalogue
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(asdict(catalogue)))


def test_the_items_come_one_by_one() -> None:
    pieces = list(checked_as_json(CATALOGUE))
    assert [piece.count('"label": ') for piece in pieces[1:]] == [1, 1, 0]


@pytest.mark.parametrize("indent", [None, 1])
def test_an_older_file_is_read(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.json"
    stored = asdict(CATALOGUE)
    del stored["from_table"]
    path.write_text(json.dumps(stored, indent=indent), encoding="utf-8")
    assert read_checked(path).items == ITEMS and read_checked(path).from_table == ()


@pytest.mark.parametrize("keep", [0, 1, 60, -2, -5, -40])
def test_a_file_that_is_cut_short_is_no_catalogue(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.json"
    path.write_text("".join(checked_as_json(CATALOGUE))[:keep], encoding="utf-8")
    with pytest.raises(ValueError):
        read_checked(path)
