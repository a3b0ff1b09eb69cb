"""The files of a RUN folder that came from elsewhere: which are taken, how large they may be, what is passed over."""

from __future__ import annotations

import json
import math
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Self

from wara.data.sources import FileSource, Source
from wara.data.words import number
from wara.errors import InputError
from wara.training import outputs
from wara.training.readout import FILE as READOUT_FILE

MEBIBYTE = 1 << 20
POINT, FULL, PEFT_CONFIG, PEFT_WEIGHTS = (
    "operating_point.json",
    f"{outputs.ADAPTER}/weights.safetensors",
    f"{outputs.ADAPTER}/adapter_config.json",
    f"{outputs.ADAPTER}/adapter_model.safetensors",
)
READOUT = f"{outputs.ADAPTER}/{READOUT_FILE}"
ENERGY, SCALES, REPORT = (
    f"{outputs.FIGURES}/{name}.json" for name in ("subband_energy", "class_scales", "report")
)  # fmt: skip
# What is read of a RUN folder, with the most bytes of each; everything else is left where it is. The card, its page
# and the figures are not among them: they are made anew, so that nothing of a stranger's becomes HTML or a picture.
TAKEN = {
    outputs.RECIPE: MEBIBYTE, outputs.METRICS: 16 * MEBIBYTE, outputs.HISTORY: 16 * MEBIBYTE,
    outputs.PREDICTIONS: 512 * MEBIBYTE, outputs.SPLIT: 512 * MEBIBYTE, outputs.CALIBRATION: MEBIBYTE, POINT: MEBIBYTE,
    outputs.NOVELTY: 256 * MEBIBYTE, PEFT_CONFIG: MEBIBYTE, PEFT_WEIGHTS: 1024 * MEBIBYTE, FULL: 1024 * MEBIBYTE,
    READOUT: 256 * MEBIBYTE,
    ENERGY: 16 * MEBIBYTE, SCALES: 16 * MEBIBYTE, REPORT: 16 * MEBIBYTE,
}  # fmt: skip
# Made anew from the files above.
_MADE_ANEW = (outputs.CARD, "card.html")
# Weights of PyTorch's own kind, which are programs as much as numbers.
_CODE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz")
_MOST_FILES, _MOST_TEXT, _MOST_DEPTH = 10_000, 10_000, 30
_SEND = "Bring in the zip that Download gave on the page Models of the other machine, as it is."


class RunArchive:
    """A zip or folder with one RUN folder in it, looked over before anything is read.

    Args:
        source: the files.

    Raises:
        InputError: no RUN folder or several, weights of another kind than safetensors, two names that are one on some
            machines, more files than a run has, or one that is too large.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        names = source.names()
        if isinstance(source, FileSource):
            raise _no_run(source.path.name)
        if len(names) > _MOST_FILES:
            raise InputError(
                "There are more files than a trained model has", seen=number(len(names), "file"), remedy=_SEND,
                code="import-too-many",
            )  # fmt: skip
        self._base = _base(names, source.path.name)
        _require_distinct(names)
        own = [name[len(self._base) :] for name in names if name.startswith(self._base)]
        for name in names:
            if name.lower().endswith(_CODE):
                raise InputError(
                    "The model holds weights in a form that can carry program code", seen=name[-200:],
                    remedy="Only safetensors files are taken. " + _SEND, code="import-code",
                )  # fmt: skip
        self.names = frozenset(own) & TAKEN.keys()
        made = {name for name in own if name in _MADE_ANEW or _is_figure(name)}
        #: Names of files that are not taken, and not made anew either.
        self.passed_over = sorted(
            [name for name in names if not name.startswith(self._base)]
            + [name for name in own if name not in TAKEN and name not in made]
        )
        for name in self.names:
            size = source.size(self._base + name)
            if size > TAKEN[name]:
                raise InputError(
                    "A file of the model is larger than it can be",
                    seen=f"{name}: {size / MEBIBYTE:,.1f} MB, at most {TAKEN[name] // MEBIBYTE:,} MB",
                    remedy=_SEND, code="import-too-large",
                )  # fmt: skip

    @property
    def name(self) -> str:
        """The name of the folder that holds the run, empty where there is none."""
        return PurePosixPath(self._source.prefix + self._base).name

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            InputError: it is not there, or damaged.
        """
        if name not in self.names:
            raise InputError(
                "The model is not whole: a file is missing", seen=name, remedy=_SEND, code="import-incomplete"
            )
        return self._source.read(self._base + name)

    def json(self, name: str) -> Any:
        """Return what a JSON file holds: finite numbers, text that can be shown, nested no deeper than is sensible.

        Raises:
            InputError: it is missing or is no such JSON.
        """
        data = self.read(name)
        try:
            value = json.loads(data.decode("utf-8"))
            _require_plain(value, _MOST_DEPTH)
        except (ValueError, RecursionError) as error:
            raise unfit(name, "it is no plain JSON") from error
        return value


def unfit(name: str, why: str) -> InputError:
    """Return the refusal of a file whose content is not what a run of this program holds."""
    return InputError(
        f"A file of the model does not hold what it should: {why[:300]}", seen=name, remedy=_SEND, code="import-unfit"
    )


def _base(names: list[str], shown: str) -> str:
    """Return the folder of the one run, with its slash, or empty."""
    found = [name for name in names if PurePosixPath(name).name == outputs.RECIPE]
    if not found:
        raise _no_run(shown)
    if len(found) > 1:
        raise InputError(
            "There are several trained models in it", seen=", ".join(found[:5])[:300],
            remedy="Bring in one model at a time. " + _SEND, code="import-several",
        )  # fmt: skip
    return found[0].removesuffix(outputs.RECIPE)


def _no_run(seen: str) -> InputError:
    return InputError(
        "This is no trained model: it holds no recipe.json", seen=seen[-200:], remedy=_SEND, code="import-no-run"
    )


def _require_distinct(names: list[str]) -> None:
    """Refuse names that differ in capitals alone: on some disks the second would be written over the first."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise InputError(
                "Two files of the model have the same name but for capitals", seen=f"{other}, {name}"[:300],
                remedy=_SEND, code="import-duplicate",
            )  # fmt: skip


def _is_figure(name: str) -> bool:
    path = PurePosixPath(name)
    return str(path.parent) == outputs.FIGURES and path.suffix in (".png", ".json")


def _require_plain(value: Any, depth: int) -> None:
    if depth == 0:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        for key, entry in value.items():
            _require_plain(key, depth)
            _require_plain(entry, depth - 1)
    elif isinstance(value, list):
        for entry in value:
            _require_plain(entry, depth - 1)
    elif isinstance(value, str):
        value.encode()  # raises for half of a surrogate pair
        if len(value) > _MOST_TEXT or "\0" in value:
            raise ValueError("no plain text")
    elif (isinstance(value, float) and not math.isfinite(value)) or (isinstance(value, int) and abs(value) > 1 << 63):
        raise ValueError("no number that can be used")
