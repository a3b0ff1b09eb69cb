"""The operating point that a finished run is used with, where a person chose another than training did.

It lies beside the run's own answers as `operating_point.json`, so that what training wrote and measured stays as it is.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from wara.errors import InputError
from wara.evaluation import card_page
from wara.evaluation.answers import Answers
from wara.evaluation.markdown import Fields, interval, percent, text
from wara.evaluation.operating import OperatingPoint

FILE = "operating_point.json"
FORMAT = 1
HEADING = "## Operating point in use"
_BEFORE = re.compile(r"^(?=## .*\bbias and risks$)", re.IGNORECASE | re.MULTILINE)
# The section with the empty line after it, up to the next one or to the end.
_SECTION = re.compile(rf"^{re.escape(HEADING)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)


def read_point(run: Path) -> OperatingPoint | None:
    """Return the operating point that was chosen after training, None where there is none.

    Raises:
        InputError: the file is damaged or of another version; code ``"run-damaged"``.
    """
    path = run / FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("format") != FORMAT:
            raise ValueError("format")
        return OperatingPoint(float(value["threshold"]), str(value["criterion"]), value["target"])
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "The operating point that was chosen for this run cannot be read", seen=path.name,
            remedy="Choose it again, or delete this file to go back to the one of the training.", code="run-damaged",
        ) from error  # fmt: skip


def answers_in_use(run: Path) -> Answers:
    """Return what turns a run's probabilities into answers: as training learned it, with the point chosen since.

    Raises:
        InputError: a file is damaged; code ``"run-damaged"``.
    """
    answers, point = Answers.load(run / "calibration.json"), read_point(run)
    return answers if point is None else replace(answers, operating_point=point)


def store_point(run: Path, point: OperatingPoint, positive: str, measured: Fields) -> None:
    """Use an operating point from now on, and say so in the run's card.

    Args:
        run: the RUN folder.
        point: chosen on the run's validation images.
        positive: name of the second class.
        measured: result of :func:`wara.evaluation.operating.measure` for the test images.
    """
    _write(run / FILE, json.dumps({"format": FORMAT, **point.to_dict()}, indent=2, allow_nan=False) + "\n")
    section = (
        f"{HEADING}\n\n"
        "Chosen after training, in place of the one above. The figures of the other sections are those of the "
        f"training's own. {text(point.sentence(positive))} On test images: sensitivity "
        f"{interval(measured['sensitivity'])}, specificity {interval(measured['specificity'])}; of those called "
        f"{text(positive)} {percent(measured['positive_predictive_value'])} were, of the others "
        f"{percent(measured['negative_predictive_value'])} were not. Whoever tries several points and takes the one "
        "with the best test figures will find it worse on new images.\n"
    )
    _say(run, section)


def forget_point(run: Path) -> None:
    """Go back to the operating point of the training; nothing happens where none was chosen since."""
    (run / FILE).unlink(missing_ok=True)
    _say(run, "")


def _say(run: Path, section: str) -> None:
    """Replace the card's section on the point in use; an empty one takes it out."""
    path = run / "card.md"
    if not path.is_file():
        return
    card = _SECTION.sub("", path.read_text(encoding="utf-8")).rstrip() + "\n"
    if section and _BEFORE.search(card):
        before, after = _BEFORE.split(card, maxsplit=1)
        card = f"{before}{section}\n{after}"
    elif section:
        card = f"{card}\n{section}"
    _write(path, card)
    page = run / card_page.FILE
    if page.is_file():
        _write(page, card_page.card_page(card, card_page.figures_of(run / "figures")))


def _write(path: Path, content: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(content, encoding="utf-8")
    part.replace(path)
