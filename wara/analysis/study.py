"""Both analyses of a model in one pass over images, and their files: the data as JSON, the figures as PNG."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wara.analysis.figures import class_ratios, draw_classes, draw_singular_spectrum, draw_subband_energy
from wara.analysis.singular_spectrum import singular_spectrum
from wara.analysis.style import to_png
from wara.analysis.subband_energy import SubbandEnergy
from wara.tuner import adapted_layers

ENERGY, SPECTRUM = "subband_energy", "singular_spectrum"


def measure(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    classes: tuple[str, ...],
    *,
    context: AbstractContextManager[object] | None = None,
) -> dict[str, dict[str, Any]] | None:
    """Return the data of both analyses by name, or None for a model without adapted layers.

    Args:
        model: a trained model.
        batches: (images (b, 3, S, S), class indices (b,)), streamed.
        classes: names of the classes.
        context: the precision in which the model runs.
    """
    if not adapted_layers(model):
        return None
    with SubbandEnergy(model, classes) as energy, context or nullcontext():
        for images, targets in batches:
            energy.add(images, targets)
    return {ENERGY: energy.result(), SPECTRUM: singular_spectrum(model)}


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
    figures = {
        f"{ENERGY}.png": draw_subband_energy(energy),
        f"{ENERGY}_tokens.png": draw_subband_energy(energy, of="tokens"),
        f"{SPECTRUM}.png": draw_singular_spectrum(spectrum, compare=compare),
    }
    if len(class_ratios(energy)) > 1:
        figures[f"{ENERGY}_classes.png"] = draw_classes(energy)
    for index, name in enumerate(energy["classes"], start=1):
        # Numbered, since a class may be called anything; the figure's title says its name.
        figures[f"{ENERGY}_class_{index}.png"] = draw_subband_energy(energy, cls=name)
    for file, figure in figures.items():
        path = folder / file
        path.write_bytes(to_png(figure))
        files.append(path)
    return files
