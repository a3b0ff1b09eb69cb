"""From what a few steps took to how long a training will take and whether it fits; the arithmetic alone (no torch)."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from wara.training.recipe import PRESETS, Recipe, steps_a_pass

# What a training needs beside the steps that were measured: a checkpoint's copy, decoded images on their way.
_MEMORY_MARGIN = 1.1


@dataclass(frozen=True)
class WarmUp:
    """What a few steps of a training took.

    Attributes:
        step_s: seconds of a training step, of a batch each.
        image_s: seconds of classifying an image.
        once_s: seconds an image of the part that runs once a view; 0 where all of the model runs in every epoch.
        start_s: seconds until the first step: starting the process, loading the network.
        memory_mb: the largest memory in MiB, or None where the system does not tell.
        available_mb: memory that was free before the start, in MiB: the GPU's where it runs on one.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """

    step_s: tuple[float, ...]
    image_s: float
    start_s: float
    memory_mb: float | None
    available_mb: float | None
    device: str
    once_s: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """What a training will take.

    Attributes:
        preset: which.
        low_s, high_s: seconds between which it should end: ``low_s`` if it stops early as soon as it may and every
            step is as fast as the fastest quarter, ``high_s`` if it takes all its passes at the slowest quarter.
        epochs: passes over the images, at most.
    """

    preset: str
    low_s: float
    high_s: float
    epochs: int


def estimate(warm_up: WarmUp, recipe: Recipe, images: dict[str, int]) -> list[Estimate]:
    """Return what a training will take with each preset; fields of the recipe that differ from its preset stay.

    Args:
        warm_up: what was measured.
        recipe: the options.
        images: number of images on the sides ``train``, ``val`` and ``test``.
    """
    fast, slow = _quarters(warm_up.step_s)
    steps = steps_a_pass(images.get("train", 0), recipe.batch_size)
    judged = images.get("val", 0) * max(0.0, warm_up.image_s - warm_up.once_s)
    last = (images.get("val", 0) + images.get("test", 0)) * warm_up.image_s + warm_up.start_s
    last += (recipe.views * images.get("train", 0) + images.get("val", 0)) * warm_up.once_s
    found = []
    for preset, values in PRESETS.items():
        own = {name: getattr(recipe, name) for name in values if getattr(recipe, name) != PRESETS[recipe.preset][name]}
        fitted = replace(recipe, **{**values, **own}).for_images(images.get("train", 0))
        epochs, fewest = fitted.epochs, min(fitted.epochs, fitted.patience + 1)
        found.append(
            Estimate(preset, fewest * (steps * fast + judged) + last, epochs * (steps * slow + judged) + last, epochs)
        )
    return found


def fits(warm_up: WarmUp) -> bool | None:
    """Tell whether the training fits into the memory that was free; None where that is not known."""
    if warm_up.memory_mb is None or warm_up.available_mb is None:
        return None
    return warm_up.memory_mb * _MEMORY_MARGIN <= warm_up.available_mb


def _quarters(seconds: tuple[float, ...]) -> tuple[float, float]:
    if len(seconds) < 2:
        return seconds[0], seconds[0]
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, high
