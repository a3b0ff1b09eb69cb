"""What a training is told on the command line: the file that is named is the one that is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wara.cli_recipe import mapping_of, recipe_from
from wara.data.mapping import MAPPING_FILE, Mapping, write_mapping
from wara.errors import InputError
from wara.training import outputs
from wara.training.recipe import Recipe


@pytest.fixture
def run(tmp_path: Path) -> Path:
    recipe = Recipe.from_preset("quick", backbone="embedded", rank=4).to_dict()
    backbone = {"name": "embedded", "source": "embedded", "sha256": ""}
    (tmp_path / outputs.RECIPE).write_text(json.dumps({"format": outputs.FORMAT, **recipe, "backbone": backbone}))
    return tmp_path


def test_a_recipe_under_another_name_is_read_itself(run: Path) -> None:
    stored = json.loads((run / outputs.RECIPE).read_text())
    stored["rank"] = 2
    (run / "edited.json").write_text(json.dumps(stored))
    ranks = [recipe_from(path, [], {}).rank for path in (run, run / outputs.RECIPE, run / "edited.json")]
    assert ranks == [4, 4, 2]


def test_a_file_that_is_no_recipe_is_told_by_its_name(run: Path) -> None:
    (run / "card.md").write_text("# Card\n")
    with pytest.raises(InputError, match=r"The card\.md of this run cannot be read"):
        recipe_from(run / "card.md", [], {})


def test_a_backbone_that_is_no_name_is_told() -> None:
    with pytest.raises(InputError, match=r"no name \(seen: 5\)"):
        recipe_from(None, ["backbone=5"], {})


def test_where_a_run_had_its_labels_from_belongs_to_what_is_repeated(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mapping_of(run, None) is None
    write_mapping(run / MAPPING_FILE, Mapping(source="pattern", pattern="(?P<label>[a-z]+)_"))
    assert [mapping_of(path, None) for path in (run, run / outputs.RECIPE)] == [run / MAPPING_FILE] * 2
    assert "Note: the labels come from where that run had them" in capsys.readouterr().err


def test_a_table_that_is_named_goes_before_a_mapping_without_one(run: Path, tmp_path: Path) -> None:
    write_mapping(run / MAPPING_FILE, Mapping(source="pattern", pattern="(?P<label>[a-z]+)_"))
    assert mapping_of(run, tmp_path / "labels.csv") is None
    write_mapping(run / MAPPING_FILE, Mapping("table", table="labels.csv", columns={"file": "f", "label": "dx"}))
    assert mapping_of(run, tmp_path / "labels.csv") == run / MAPPING_FILE
