"""The files of a RUN folder: recipe, history, metrics, predictions, and reading them back."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wara
from wara.errors import InputError
from wara.evaluation.card_page import FILE as CARD_PAGE
from wara.evaluation.card_page import card_page, figures_of

RECIPE, METRICS, HISTORY = "recipe.json", "metrics.json", "history.csv"
SPLIT, PREDICTIONS, CARD, DECISIONS = "split.csv", "predictions.csv", "card.md", "decisions.json"
CALIBRATION, NOVELTY = "calibration.json", "novelty.safetensors"
ADAPTER, FIGURES, CHECKPOINT = "adapter", "figures", "checkpoint"
FORMAT = 1
_HISTORY_COLUMNS = ("epoch", "train_loss", "val_loss", "val_auroc", "learning_rate", "seconds", "best")
_PACKAGES = ("torch", "timm", "peft", "pytorch_wavelets", "PyWavelets", "numpy", "scikit-learn", "pillow", "pydicom")


def package_versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"wara": wara.__version__, "python": platform.python_version(), **versions}


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def write_card(run: Path, markdown: str) -> None:
    """Write the model card as Markdown and as a page to print; the figures must be drawn by then."""
    (run / CARD).write_text(markdown, encoding="utf-8")
    (run / CARD_PAGE).write_text(read_card_page(run), encoding="utf-8")


def read_card_page(run: Path) -> str:
    """Return the model card as a page to print; runs of before there was one get theirs from what they hold."""
    page = run / CARD_PAGE
    if page.is_file():
        return page.read_text(encoding="utf-8")
    return card_page((run / CARD).read_text(encoding="utf-8"), figures_of(run / FIGURES))


def read_recipe(run: Path, file: str = RECIPE) -> dict[str, Any]:
    """Return the stored recipe of a run, or one beside it under another name.

    Raises:
        InputError: the folder is not a run.
    """
    path = run / file
    if not path.is_file():
        raise InputError(
            "This folder is not a training run: it has no recipe.json",
            seen=run.name,
            remedy="Give the folder that was named by --out when training.",
            code="run-missing",
        )
    try:
        recipe: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = recipe["format"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"The {file} of this run cannot be read", seen=run.name, remedy="Copy the run folder again.",
            code="run-damaged",
        ) from error  # fmt: skip
    if version != FORMAT:
        raise InputError(
            "This run was written by another version of the program", seen=f"format {version}",
            remedy=f"Use the version that wrote it, or train again (this version reads format {FORMAT}).",
            code="run-format",
        )  # fmt: skip
    return recipe


def write_history(run: Path, history: Sequence[dict[str, Any]]) -> None:
    """Write one row an epoch."""
    with (run / HISTORY).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _HISTORY_COLUMNS)
        writer.writeheader()
        writer.writerows({column: row[column] for column in _HISTORY_COLUMNS} for row in history)
