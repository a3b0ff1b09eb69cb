"""What a training is told on the command line: KEY=VALUE pairs, a recipe file, the decisions that belong to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from wara.errors import InputError

if TYPE_CHECKING:
    from wara.training.recipe import Recipe


def recipe_from(file: Path | None, options: list[str], named: dict[str, Any]) -> Recipe:
    """Return the recipe of a file, of KEY=VALUE pairs and of named options; the later goes before the earlier."""
    from wara.embedded import EMBEDDED
    from wara.inference import recipe_of
    from wara.training import outputs
    from wara.training.recipe import Recipe

    fields: dict[str, Any] = {}
    if file is not None:
        whole = (file.parent, file.name) if file.is_file() else (file, outputs.RECIPE)
        fields = recipe_of(outputs.read_recipe(*whole)).to_dict()
    for key, text in pairs(options, "An option is not KEY=VALUE", "Write e.g. --option augment=none.", "option-form"):
        try:
            fields[key] = json.loads(text)
        except json.JSONDecodeError:
            fields[key] = text
    fields.update({key: value for key, value in named.items() if value is not None})
    spec = fields.pop("backbone", EMBEDDED)
    if not isinstance(spec, str):
        raise InputError(
            "The backbone of a recipe is no name", seen=spec, remedy="Name it with --backbone NAME or NAME:FILE.",
            code="backbone-form",
        )  # fmt: skip
    if not spec:
        raise InputError(
            "The weights file of this recipe's backbone is not where it was", seen=str(file),
            remedy="Name it with --backbone NAME:FILE.", code="backbone-needed",
        )  # fmt: skip
    return Recipe.from_preset(fields.pop("preset", "quick"), backbone=spec, **fields)


def require_something_to_go_on_with(out: Path, options: list[str], named: dict[str, Any]) -> None:
    """Refuse to resume a run that kept no recipe where no option says what it was either: it would become another run.

    Raises:
        InputError: the folder is not there or holds nothing yet, and every option is left to its default.
    """
    told = bool(options) or any(value is not None for key, value in named.items() if key != "device")
    # What begins with a dot is the cache of pixels, all that a run has before its images are read.
    begun = out.is_file() or (out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()))
    if not told and not begun:
        raise InputError(
            "There is no run here yet to go on with; one that is stopped while its images are read keeps no options",
            seen=out.name, remedy="Start it with its options as the first time, without --resume.",
            code="resume-nothing",
        )  # fmt: skip


def pairs(texts: list[str], what: str, remedy: str, code: str) -> list[tuple[str, str]]:
    """Split KEY=VALUE texts."""
    for text in texts:
        if "=" not in text:
            raise InputError(what, seen=text, remedy=remedy, code=code)
    return [(key, value) for key, _, value in (text.partition("=") for text in texts)]


def decisions_of(recipe_file: Path) -> Path | None:
    """Return the decisions of the run that a recipe is of: they belong to what is repeated."""
    from wara.training import outputs

    return _beside(recipe_file, outputs.DECISIONS, "decisions of that run about its data are used")


def mapping_of(recipe_file: Path, labels: Path | None) -> Path | None:
    """Return where the run that a recipe is of had its labels from; None where it had no mapping, or not this table's.

    Args:
        recipe_file: as for ``recipe_from``.
        labels: the table that was named now, if any.
    """
    from wara.data.mapping import MAPPING_FILE, kept_mapping

    kept = kept_mapping(_folder_of(recipe_file)) if labels is not None else None
    if kept is not None and kept.table is None:
        return None
    return _beside(recipe_file, MAPPING_FILE, "labels come from where that run had them")


def _beside(recipe_file: Path, name: str, told: str) -> Path | None:
    path = _folder_of(recipe_file) / name
    if not path.is_file():
        return None
    typer.echo(f"Note: the {told}: {path}", err=True)
    return path


def _folder_of(recipe_file: Path) -> Path:
    return recipe_file.parent if recipe_file.is_file() else recipe_file
