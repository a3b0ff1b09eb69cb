"""The analyses of a model over images, and their files: the data as JSON, the figures as PNG."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from wara.analysis.class_scales import Batch, ClassScales
from wara.analysis.class_scales_figure import draw_class_scales
from wara.analysis.figures import class_ratios, draw_classes, draw_singular_spectrum, draw_subband_energy
from wara.analysis.randomisation import randomisation_test
from wara.analysis.singular_spectrum import singular_spectrum
from wara.analysis.style import to_png
from wara.analysis.subband_energy import SubbandEnergy
from wara.errors import InputError
from wara.training.device import autocast
from wara.training.lean import lean
from wara.training.shares import number_of
from wara.tuner import adapted_layers

ENERGY, SPECTRUM, CLASS_SCALES = "subband_energy", "singular_spectrum", "class_scales"
# Of the randomisation test: parts of the adapter that are shuffled one after the other, behind the head.
_CHECK_STAGES = 2


def measure(
    model: nn.Module,
    batches: Iterable[Batch],
    classes: tuple[str, ...],
    *,
    precision: str = "float32",
) -> dict[str, dict[str, Any]] | None:
    """Return the data of both analyses by name, or None for a model without adapted layers.

    Args:
        model: a trained model.
        batches: (images (b, 3, S, S), class indices (b,)), streamed; what else a batch holds is passed over.
        classes: names of the classes.
        precision: of the forward passes, ``"auto"``, ``"float32"`` or ``"bfloat16"``.
    """
    if not adapted_layers(model):
        return None
    device = next(model.parameters()).device

    def run(images: torch.Tensor) -> torch.Tensor:
        with autocast(device, precision):
            output: torch.Tensor = model(images)
        return output

    with SubbandEnergy(model, classes) as energy, lean(model, device, precision):
        shares = number_of(model, device)
        for images, targets, *_ in batches:
            energy.add(images, targets, run=run, shares=shares)
    return {ENERGY: energy.result(), SPECTRUM: singular_spectrum(model)}


def measure_class_scales(
    model: nn.Module, batches: Iterable[Batch], classes: tuple[str, ...], *, per_class: int, check: int = 0
) -> dict[str, Any] | None:
    """Return which scales each class used, or None for a model whose update has no place in a picture.

    Each image costs some forward and backward passes, so only the first of each class are taken.

    Args:
        model: a trained model with adapted layers.
        batches: images, class indices and perhaps patients, see `wara.analysis.class_scales.Batch`.
        classes: names of the classes.
        per_class: images a class at most.
        check: images for the randomisation test, whose figures then stand under ``check``; 0 leaves it out.
    """
    try:
        scales = ClassScales(model, classes, per_class=per_class)
    except InputError:
        return None
    kept: list[torch.Tensor] = []
    for batch in batches:
        scales.add(*batch)
        # A few of every batch, so that not all of them are of the first class.
        kept.append(batch[0][: max(1, check // 2)])
        if scales.full:
            break
    data = scales.result()
    if check and kept:
        images = torch.cat(kept)
        chosen = images[torch.linspace(0, len(images) - 1, min(check, len(images))).long()]
        data["check"] = randomisation_test(model, chosen, stages=_CHECK_STAGES)
    return data


def write_class_scales(folder: Path, data: dict[str, Any]) -> list[Path]:
    """Write what `measure_class_scales` returned into a folder, as JSON and as a figure, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{CLASS_SCALES}.json", folder / f"{CLASS_SCALES}.png"]
    files[0].write_text(json.dumps(data, allow_nan=False) + "\n", encoding="utf-8")
    files[1].write_bytes(to_png(draw_class_scales(data)))
    return files


def write(folder: Path, measured: dict[str, dict[str, Any]], *, compare: dict[str, Any] | None = None) -> list[Path]:
    """Write both analyses into a folder and return the files.

    Args:
        folder: made when it is missing.
        measured: what `measure` returned.
        compare: another run's singular spectrum, usually LoRA's on the same data, to draw beside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, data in measured.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(data, allow_nan=False) + "\n", encoding="utf-8")
        files.append(path)
    energy, spectrum = measured[ENERGY], measured[SPECTRUM]
    # Drawn one after the other: of a hundred classes all together would take a gigabyte.
    figures: dict[str, Callable[[], Figure]] = {
        f"{ENERGY}.png": partial(draw_subband_energy, energy),
        f"{ENERGY}_tokens.png": partial(draw_subband_energy, energy, of="tokens"),
        f"{SPECTRUM}.png": partial(draw_singular_spectrum, spectrum, compare=compare),
    }
    if len(class_ratios(energy)) > 1:
        figures[f"{ENERGY}_classes.png"] = partial(draw_classes, energy)
    for index, name in enumerate(energy["classes"], start=1):
        # Numbered, since a class may be called anything; the figure's title says its name.
        figures[f"{ENERGY}_class_{index}.png"] = partial(draw_subband_energy, energy, cls=name)
    for file, draw in figures.items():
        path = folder / file
        path.write_bytes(to_png(draw()))
        files.append(path)
    return files
