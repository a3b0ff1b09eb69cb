"""How a network's probabilities become an answer: calibrated, labelled, with a set of classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wara.errors import InputError
from wara.evaluation.bootstrap import Floats, Ints
from wara.evaluation.calibration import Temperature, apply_temperature, fit_temperature
from wara.evaluation.choices import DEFAULT
from wara.evaluation.conformal import Conformal, Masks, fit_conformal
from wara.evaluation.operating import OperatingPoint, choose, labels_at

FORMAT = 1
NO_SCALING = Temperature(1.0)


@dataclass(frozen=True)
class Answers:
    """What was learned on the validation images beside the model itself; `calibration.json` of a run.

    Attributes:
        temperature: by what logits are divided.
        operating_point: of a two-class model; None takes the most probable class.
        conformal: how prediction sets are made; None where there are none, as in older runs.
    """

    temperature: Temperature = NO_SCALING
    operating_point: OperatingPoint | None = None
    conformal: Conformal | None = None

    def calibrated(self, probabilities: npt.ArrayLike) -> Floats:
        """Return calibrated probabilities (n, k) of those of the network (n, k)."""
        return apply_temperature(probabilities, self.temperature.value)

    @property
    def threshold(self) -> float | None:
        """The probability from which an image is called of the second class, on the calibrated scale."""
        return None if self.operating_point is None else self.operating_point.threshold

    def labels(self, calibrated: Floats) -> Ints:
        """Return the class (n,) that each image is called."""
        return labels_at(calibrated, self.threshold)

    def sets(self, calibrated: Floats) -> Masks | None:
        """Return (n, k) which classes are in each image's set, or None where there are no sets."""
        return None if self.conformal is None else self.conformal.sets(calibrated)

    def save(self, path: Path) -> None:
        """Write the file."""
        point, sets = self.operating_point, self.conformal
        value = {
            "format": FORMAT,
            "temperature": self.temperature.value,
            "temperature_note": self.temperature.note,
            "operating_point": None if point is None else point.to_dict(),
            "conformal": None if sets is None else sets.to_dict(),
        }
        path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Read what `save` wrote; where there is no such file, as in older runs, the network's own probabilities hold.

        Raises:
            InputError: the file is damaged or of another version; code ``"run-damaged"``.
        """
        if not path.is_file():
            return cls()
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if value["format"] != FORMAT:
                raise ValueError("format")
            temperature = Temperature(float(value["temperature"]), value["temperature_note"])
            point, sets = value["operating_point"], value["conformal"]
            return cls(
                temperature,
                None if point is None else OperatingPoint(**point),
                None if sets is None else Conformal(**sets),
            )
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                "The calibration of this run cannot be read", seen=path.name, remedy="Copy the run folder again.",
                code="run-damaged",
            ) from error  # fmt: skip


def fit_answers(
    probabilities: npt.ArrayLike, targets: npt.ArrayLike, *, criterion: str = DEFAULT, coverage: float = 0.9
) -> Answers:
    """Learn temperature, operating point (two classes) and prediction sets on validation images.

    Args:
        probabilities: (n, k) of the network itself.
        targets: (n,) true classes.
        criterion: see :func:`wara.evaluation.choices.parse_criterion`.
        coverage: see :func:`wara.evaluation.conformal.fit_conformal`.

    Raises:
        InputError: a criterion or coverage that cannot be used.
    """
    temperature = fit_temperature(probabilities, targets)
    calibrated = apply_temperature(probabilities, temperature.value)
    two = np.asarray(calibrated).shape[1] == 2
    point = choose(calibrated[:, 1], targets, criterion) if two else None
    return Answers(temperature, point, fit_conformal(calibrated, targets, coverage))
