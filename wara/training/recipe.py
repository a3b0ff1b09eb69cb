"""What a training run does: one flat set of options, presets for them, and the checks of their values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pywt

from wara.errors import InputError
from wara.evaluation.choices import PATIENT_RULES, parse_criterion
from wara.imaging.view import FRAMES, MOST_WINDOWS, DicomView

METHODS = ("wara", "tiny-wara", "lora", "linear-probe", "full")
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"epochs": 5, "patience": 3, "min_steps": 150},
    "balanced": {"epochs": 15, "patience": 5, "min_steps": 450},
    "thorough": {"epochs": 40, "patience": 10, "min_steps": 1200},
}
# Step sizes of AdamW at batch 32, a method: (adapter or backbone, head).
_LEARNING_RATES: dict[str, tuple[float, float]] = {
    "wara": (2e-3, 1e-3),
    "tiny-wara": (3e-2, 1e-3),
    "lora": (2e-3, 1e-3),
    "linear-probe": (3e-3, 3e-3),
    "full": (3e-5, 1e-3),
}
_RANKS = {"tiny-wara": 16}
# Where a few numbers are worth most (docs/study.md). Many are worth as much in either place.
_TARGETS = {"tiny-wara": "proj"}
# A second answer from the subbands of the lower half: better AUROC, or within 0.003, wherever both were tried
# (docs/study.md), and faster. LoRA beside it stays what it is elsewhere.
_READOUTS = {"wara": "auto", "tiny-wara": "auto"}
_CHOICES: dict[str, tuple[str, ...]] = {
    "method": METHODS,
    "preset": tuple(PRESETS),
    "gains": ("none", "subband", "subband-rank"),
    "activation": ("none", "gelu", "soft-threshold"),
    "mode": ("symmetric", "zero", "reflect", "periodization"),
    "target": ("qkv", "proj"),
    "readout": ("none", "auto", "subbands"),
    "augment": ("none", "light"),
    "precision": ("auto", "float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "fit": ("pad", "crop", "stretch"),
    "frames": FRAMES,
    "patient_rule": PATIENT_RULES,
}

# Limits that no sensible run meets; beyond them a number is a slip of the finger. (name, lowest, highest)
_COUNTS = (
    ("epochs", 1, 10_000), ("patience", 1, 10_000), ("batch_size", 1, 4_096), ("rank", 1, 4_096), ("u", 1, 100_000),
    ("bootstrap", 1, 100_000), ("levels", 1, 16), ("image_size", 16, 2_048), ("seed", 0, 2**31 - 1),
    ("projection_seed", 0, 2**31 - 1), ("min_steps", 0, 1_000_000), ("window", 1, MOST_WINDOWS),
    ("last_blocks", 1, 1_000), ("views", 0, 1_000),
)  # fmt: skip
_NUMBERS = (
    ("learning_rate", 0, 10), ("head_learning_rate", 0, 10), ("clip", 0, 1e6), ("alpha", 0, 1e6),
    ("weight_decay", 0, 10), ("warmup", 0, 1), ("label_smoothing", 0, 0.5), ("dropout", 0, 0.9),
    ("coverage", 0, 0.999),
)  # fmt: skip
_ABOVE_ZERO = {"learning_rate", "head_learning_rate", "clip", "alpha", "coverage"}
_OPTIONAL = {"levels", "image_size", "alpha", "last_blocks"}


@dataclass(frozen=True)
class Recipe:
    """All options of a run. Stored whole in ``recipe.json``; the same recipe, data and machine give the same numbers.

    Attributes:
        backbone: spec of the backbone, see `wara.backbones`.
        method: ``"wara"``, ``"tiny-wara"``, ``"lora"``, ``"linear-probe"`` (head only) or ``"full"``.
        preset: the preset that the other values started from.
        epochs: passes over the training images, at most.
        patience: epochs without a better validation AUROC after which training stops.
        min_steps: few images make few steps an epoch; epochs (and patience with them) are raised until there are this
            many steps in all. 0 where epochs were set by hand.
        batch_size: images a step.
        learning_rate: largest step size of the adapter (of the backbone for ``full``).
        head_learning_rate: largest step size of the head.
        weight_decay: AdamW's, on matrices only.
        warmup: share of all steps over which the step size rises; afterwards it falls along a cosine.
        clip: largest norm of the gradient.
        label_smoothing: share of the target spread over the other classes.
        class_balanced: whether the loss weighs classes by the inverse of their frequency.
        augment: ``"light"`` (small shifts, turns, zooms, brightness; no flips, sides matter in medicine) or ``"none"``.
        views: in how many ways ``augment`` changes each image, one an epoch and then from the first again; 0 changes it
            anew in every epoch. With few views the blocks that are not trained run once a view, not once an epoch.
        last_blocks: adapters go into so many of the last blocks; None adapts all, or the upper half beside a readout.
        target: the layer of each attention that adapters go into: ``"qkv"`` (queries, keys and values) or ``"proj"``
            (what attention has gathered), the usual one for Tiny-WaRA.
        readout: ``"subbands"`` reads the energies of wavelet subbands of the tokens behind several lower blocks once
            and mixes the class scores that follow from them with the head's; ``"none"`` does not, ``"auto"`` does where
            the backbone's blocks stand on one grid of tokens. See `wara.tuner.readout`.
        rank: rank of the update (of the basis for Tiny-WaRA).
        alpha: the update is scaled by alpha / rank; None takes twice the rank (the rank for Tiny-WaRA).
        dropout: dropout on the adapter's input.
        wavelet, levels, mode, gains, activation: see `wara.WaraConfig`.
        u: learned numbers a layer of Tiny-WaRA.
        projection_seed: seed of Tiny-WaRA's projections.
        image_size: side of the square input in pixels; None takes the backbone's.
        fit: how an image becomes square: ``"pad"`` keeps all of it, ``"crop"`` the centre, ``"stretch"`` distorts.
        frames: which images are taken of a DICOM file of several: ``"first"``, ``"middle"`` or ``"all"``, each frame
            then an image of its own and all of them of one patient.
        window: number of the window that DICOM files are shown by, from 1; see `wara.imaging.DicomView`.
        seed: seed of split, order, augmentation and initialisation.
        device: ``"auto"`` takes CUDA, then MPS, then the CPU.
        precision: ``"auto"`` takes bfloat16 where the device has it.
        bootstrap: resamples behind each interval.
        operating_point: how the threshold of a two-class model is chosen on validation images: ``"youden"``,
            ``"sensitivity=0.95"``, ``"specificity=0.9"`` or ``"cost=5"`` (a missed positive weighs five false alarms).
        coverage: share of images whose prediction set is to hold the true class.
        patient_rule: how images of a patient are put together: ``"mean"`` or ``"worst"``, see
            `wara.evaluation.patients`.
    """

    backbone: str
    method: str = "wara"
    preset: str = "quick"
    epochs: int = 5
    patience: int = 3
    min_steps: int = 0
    batch_size: int = 32
    learning_rate: float = 2e-3
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    label_smoothing: float = 0.0
    class_balanced: bool = False
    augment: str = "light"
    views: int = 0
    last_blocks: int | None = None
    target: str = "qkv"
    readout: str = "none"
    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    wavelet: str = "haar"
    levels: int | None = None
    mode: str = "symmetric"
    gains: str = "subband"
    activation: str = "none"
    u: int = 64
    projection_seed: int = 42
    image_size: int | None = None
    fit: str = "pad"
    frames: str = "middle"
    window: int = 1
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    bootstrap: int = 1000
    operating_point: str = "youden"
    coverage: float = 0.9
    patient_rule: str = "mean"

    @classmethod
    def from_preset(cls, preset: str = "quick", *, backbone: str, method: str = "wara", **overrides: Any) -> Recipe:
        """Return a preset's recipe with some fields replaced.

        Raises:
            InputError: an unknown preset, method or field, or a value that cannot be used.
        """
        _require_choice("preset", preset)
        _require_choice("method", method)
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise InputError(
                "Unknown option", seen=", ".join(unknown), remedy=f"Options are {', '.join(sorted(known))}.",
                code="recipe-unknown-option",
            )  # fmt: skip
        rate, head_rate = _LEARNING_RATES[method]
        fields: dict[str, Any] = {
            "learning_rate": rate, "head_learning_rate": head_rate, "rank": _RANKS.get(method, 8),
            "target": _TARGETS.get(method, "qkv"), "readout": _READOUTS.get(method, "none"), **PRESETS[preset],
        }  # fmt: skip
        fields.update({key: value for key, value in overrides.items() if value is not None})
        if overrides.get("epochs") is not None and overrides.get("min_steps") is None:
            fields["min_steps"] = 0
        recipe = cls(backbone=backbone, method=method, preset=preset, **fields)
        recipe.validate()
        return recipe

    @property
    def scaling_alpha(self) -> float:
        """The alpha that the adapter gets."""
        if self.alpha is not None:
            return self.alpha
        return float(self.rank if self.method == "tiny-wara" else 2 * self.rank)

    def for_images(self, count: int) -> Recipe:
        """Return the recipe with as many epochs as `min_steps` asks for on `count` training images."""
        epochs = max(self.epochs, math.ceil(self.min_steps / steps_a_pass(count, self.batch_size)))
        return dataclasses.replace(self, epochs=epochs, patience=math.ceil(self.patience * epochs / self.epochs))

    @property
    def view(self) -> DicomView:
        """How DICOM files are looked at."""
        return DicomView(self.frames, self.window)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values."""
        return dataclasses.asdict(self)

    def validate(self) -> None:
        """Check every value on its own; what depends on the backbone is checked when the adapter is put in.

        Raises:
            InputError: the first value that cannot be used.
        """
        for name in _CHOICES:
            _require_choice(name, getattr(self, name))
        for name, low, high in _COUNTS:
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                _require_number(name, value, low=low, high=high, whole=True)
        for name, lowest, highest in _NUMBERS:
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                _require_number(name, value, low=lowest, high=highest, open_low=name in _ABOVE_ZERO)
        balanced: Any = self.class_balanced  # options come from JSON too, where anything can stand
        if not isinstance(balanced, bool):
            _wrong("class_balanced", balanced, "Use true or false.")
        parse_criterion(self.operating_point)
        if self.wavelet not in pywt.wavelist(kind="discrete"):
            _wrong("wavelet", self.wavelet, "Use a discrete wavelet, e.g. haar, db2, sym4 or bior2.2.")


def steps_a_pass(images: int, batch_size: int) -> int:
    """Return the steps of a pass, at least 1: a last batch of a single image is left out (`wara.data.batches`)."""
    full, rest = divmod(images, batch_size)
    return max(1, full + (rest > 1))


def _require_choice(name: str, value: Any) -> None:
    if value not in _CHOICES[name]:
        _wrong(name, value, f"Use one of {', '.join(_CHOICES[name])}.")


def _require_number(
    name: str, value: Any, *, low: float, high: float, whole: bool = False, open_low: bool = False
) -> None:
    counted = isinstance(value, int) and not isinstance(value, bool)
    number: float = value if counted or (isinstance(value, float) and not whole) else math.nan
    if (number > low if open_low else number >= low) and number <= high:
        return
    kind = "a whole number" if whole else "a number"
    _wrong(name, value, f"Use {kind} {'above' if open_low else 'of at least'} {low:,} and at most {high:,}.")


def _wrong(name: str, value: Any, remedy: str) -> None:
    raise InputError(
        f"The option {name.replace('_', ' ')} cannot be used",
        seen=str(value)[:60],
        remedy=remedy,
        code=f"recipe-{name.replace('_', '-')}",
    )
