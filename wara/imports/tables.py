"""The tables of a RUN folder from elsewhere and what was learned on validation images: read, checked, written anew."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wara.answer_table import as_text
from wara.data.items import Item
from wara.data.split_file import read_split_csv, write_items_csv
from wara.errors import InputError
from wara.evaluation.answers import Answers
from wara.evaluation.assessment import assess
from wara.evaluation.novelty import Novelty
from wara.evaluation.predictions import Predictions, read_predictions, write_predictions
from wara.imports.archive import RunArchive, unfit
from wara.training import outputs
from wara.training.recipe import Recipe

Sides = dict[str, Predictions]
_SIDES = ("val", "test")
_MOST_CELL = 1024
_MOST_EPOCHS = 10_000
# Behind figures that are thrown away: only their form and what chance does not change is looked at.
_REPLICATES = 20


def copy_predictions(archive: RunArchive, out: Path, classes: Sequence[str]) -> Sides:
    """Write predictions.csv anew and return it by side.

    Raises:
        InputError: it is damaged, of other classes, or lacks a side.
    """
    path = out / outputs.PREDICTIONS
    path.write_bytes(archive.read(outputs.PREDICTIONS))
    found = read_predictions(path, classes)
    if set(found) != set(_SIDES):
        raise unfit(outputs.PREDICTIONS, f"its sides are {', '.join(map(_cell, found)) or 'none'}, not val and test")
    sides = {name: _plain(found[name]) for name in _SIDES}
    write_predictions(path, classes, list(sides.values()))
    return sides


def _plain(side: Predictions) -> Predictions:
    for rows in (side.probabilities, side.uncalibrated):
        if not np.isfinite(rows).all() or (rows < 0).any() or (np.abs(rows.sum(axis=1) - 1) > 1e-3).any():
            raise unfit(outputs.PREDICTIONS, "its numbers are no probabilities")
    return replace(
        side,
        files=[_cell(file) for file in side.files],
        patients=[None if who is None else _cell(who) for who in side.patients],
        traits={trait: [None if value is None else _cell(value) for value in values]
                for trait, values in side.traits.items()},
    )  # fmt: skip


def _cell(text: str) -> str:
    """Return a cell that stays text wherever it is opened."""
    return as_text("".join(letter for letter in text if letter.isprintable())[:_MOST_CELL])


def copy_split(archive: RunArchive, out: Path, classes: Sequence[str]) -> None:
    """Write split.csv anew.

    Raises:
        InputError: it is no split.csv, or of other classes.
    """
    path = out / outputs.SPLIT
    path.write_bytes(archive.read(outputs.SPLIT))
    try:
        items = read_split_csv(path)
    except InputError as error:  # its sentence names the whole path, and speaks of a run that is to go on
        raise unfit(outputs.SPLIT, "it is no table of file, label, patient and split") from error
    if any(item.label not in classes for item in items):
        raise unfit(outputs.SPLIT, "it names classes that the model does not have")
    who = [None if item.patient is None else _cell(item.patient) for item in items]
    plain = [Item(_cell(item.file), item.label, patient, item.split) for item, patient in zip(items, who, strict=True)]
    write_items_csv(path, plain, [item.split or "" for item in plain])


def copy_history(archive: RunArchive, out: Path) -> list[dict[str, Any]]:
    """Write history.csv anew and return its rows.

    Raises:
        InputError: it is no history of a training.
    """
    data = archive.read(outputs.HISTORY)
    try:
        text = data.decode("utf-8")
        rows = [_epoch(row) for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)]
        if not 0 < len(rows) <= _MOST_EPOCHS:
            raise ValueError("number of rows")
    except (UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError, AttributeError) as error:
        raise unfit(outputs.HISTORY, "it is no history of a training") from error
    outputs.write_history(out, rows)
    return rows


def _epoch(row: dict[str, str]) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        name: None if row[name] == "" else float(row[name])
        for name in ("train_loss", "val_loss", "val_auroc", "learning_rate", "seconds")
    }
    if any(value is not None and math.isinf(value) for value in numbers.values()):
        raise ValueError("infinite")
    return {"epoch": int(row["epoch"]), **numbers, "best": {"True": True, "False": False}[row["best"]]}


def copy_answers(archive: RunArchive, out: Path, classes: int, width: int) -> tuple[Answers, Novelty | None]:
    """Write calibration.json and novelty.safetensors anew and return what they hold.

    Args:
        archive: where they come from.
        out: the new RUN folder.
        classes: number of classes.
        width: numbers that the head takes of an image.

    Raises:
        InputError: one is damaged, or does not fit the model.
    """
    archive.json(outputs.CALIBRATION)  # refuses what is no plain JSON
    path = out / outputs.CALIBRATION
    path.write_bytes(archive.read(outputs.CALIBRATION))
    answers = Answers.load(path)
    if not _sensible(answers, classes):
        raise unfit(outputs.CALIBRATION, "its numbers are out of bounds")
    answers.save(path)
    if outputs.NOVELTY not in archive:
        return answers, None
    path = out / outputs.NOVELTY
    path.write_bytes(archive.read(outputs.NOVELTY))
    novelty = Novelty.load(path)
    assert novelty is not None
    means, whitening = novelty.means, novelty.whitening
    shaped = means.ndim == 2 and 0 < len(means) <= classes and whitening.shape == (means.shape[1],) * 2
    if not (shaped and means.shape[1] == width and np.isfinite(means).all() and np.isfinite(whitening).all()
            and 0 <= novelty.threshold < math.inf):  # fmt: skip
        raise unfit(outputs.NOVELTY, "its tensors do not fit the model")
    novelty.save(path)
    return answers, novelty


def _sensible(answers: Answers, classes: int) -> bool:
    point, sets, note = answers.operating_point, answers.conformal, answers.temperature.note
    good = 0 < answers.temperature.value < 1000 and (note is None or isinstance(note, str))
    if point is not None:
        good &= classes == 2 and _number(point.threshold) and 0 <= point.threshold <= 1
        good &= point.criterion in ("youden", "sensitivity", "specificity", "cost")
        good &= point.target is None or _number(point.target)
    if sets is not None:
        good &= _number(sets.coverage) and 0 < sets.coverage < 1 and sets.method in ("lac", "aps")
        good &= (sets.quantile is None or _number(sets.quantile)) and type(sets.n) is int and sets.n >= 0
    return good and (point is not None or classes > 2)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def measured(
    sides: Sides, classes: Sequence[str], answers: Answers, novelty: Novelty | None, recipe: Recipe, width: int
) -> dict[str, Any]:
    """Return the metrics of the answers as they come out here, from few resamples and without the images."""
    features = np.zeros((len(sides["test"].files), width))
    return assess(
        {name: sides[name] for name in ("test", "val")}, classes, answers, novelty, features,
        patient_rule=recipe.patient_rule, replicates=_REPLICATES, seed=recipe.seed,
    )  # fmt: skip
