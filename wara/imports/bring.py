"""Bringing in a model that was trained elsewhere: each file is understood, checked against the others and made anew."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wara.analysis import study
from wara.analysis.class_scales_figure import read_class_scales
from wara.analysis.reading import read_subband_energy
from wara.analysis.style import to_png
from wara.backbones import Backbone, load_backbone
from wara.data.sources import open_source
from wara.errors import InputError
from wara.evaluation.card import render_card
from wara.evaluation.figures import draw_confusion, draw_history
from wara.evaluation.review import review, use_point
from wara.home import remember_weights
from wara.imports import tables
from wara.imports.archive import ENERGY, POINT, REPORT, SCALES, RunArchive, unfit
from wara.imports.documents import Measured, Report, StoredBackbone, StoredRecipe, like, read_document, read_options
from wara.imports.weights import restored
from wara.inference import Predictor, spec_of
from wara.predictions import ReadFile
from wara.training import outputs
from wara.training.figures import write_curves
from wara.training.recipe import Recipe

# What a file that is no run's makes the readers of runs stumble over.
_STUMBLES = (KeyError, IndexError, TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError)
_AT_ONCE = 8
# What neither chance nor the choice of images changes, and must therefore come out here as it was sent.
_EXACT_METRICS = (
    *(f"{side}.{part}" for side in ("test", "val") for part in ("classes", "confusion", "n_images", "n_groups",
      "per_class_n", "patients.rule", "patients.n_images")),
    "operating_point.positive", "operating_point.threshold", "prediction_sets.asked", "prediction_sets.method",
)  # fmt: skip
_EXACT_ANALYSES = ("format", "bands", "layers", "classes", "wavelet", "levels", "grid", "patch_size", "method",
                   "scales.name", "scales.size", "scales.bands")  # fmt: skip


@dataclass(frozen=True)
class Brought:
    """A model that was brought in.

    Attributes:
        name: of the folder that it came in, perhaps empty.
        spec: of the backbone that it was checked with.
        recipe: what recipe.json holds now.
        metrics: what metrics.json holds now.
        passed_over: names of files that were not taken.
    """

    name: str
    spec: str
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    passed_over: list[str]


def bring_in(
    path: Path, out: Path, *, specs: Iterable[str] = (), device: str = "auto", today: datetime.date | None = None
) -> Brought:
    """Check a RUN folder, or a zip of one, that came from elsewhere, and write it anew.

    Nothing is copied: weights go through safetensors into a model that is built here, JSON and tables are written
    again from what was read, card and figures are made anew. At last the new folder is loaded and answers an image.

    Args:
        path: zip or folder.
        out: the new RUN folder, must not exist. After a refusal what is in it is of no use and is to be deleted.
        specs: of backbones that may be the model's, beside the one that its recipe names.
        device: on which the model is tried.
        today: the date that card and recipe say it was brought in on; None takes this day.

    Raises:
        InputError: what is wrong with it, or which backbone is missing on this machine.
    """
    out.mkdir(parents=True)
    with RunArchive(open_source(path)) as archive:
        stored = archive.json(outputs.RECIPE)
        known = read_document(StoredRecipe, stored, outputs.RECIPE)
        if len(set(known.classes)) != len(known.classes):
            raise unfit(outputs.RECIPE, "two classes have the same name")
        recipe = read_options(stored, known.backbone.name)
        spec, backbone = _backbone(known.backbone, len(known.classes), recipe, specs)
        model = restored(archive, recipe, backbone, out / outputs.ADAPTER).requires_grad_(False).eval()
        written = _recipe(known, recipe, backbone, today or datetime.datetime.now(datetime.UTC).date())
        outputs.write_json(out / outputs.RECIPE, written)
        with _understood(outputs.PREDICTIONS):
            sides = tables.copy_predictions(archive, out, known.classes)
        with _understood(outputs.SPLIT):
            tables.copy_split(archive, out, known.classes)
        history = tables.copy_history(archive, out)
        with _understood(outputs.METRICS):
            metrics = _metrics(archive, out, known.classes, recipe, sides, _width(backbone))
        outputs.write_json(out / outputs.METRICS, metrics)
        figures = out / outputs.FIGURES
        figures.mkdir()
        with _understood(outputs.METRICS):
            (figures / "history.png").write_bytes(to_png(draw_history(history)))
            (figures / "confusion.png").write_bytes(to_png(draw_confusion(metrics["test"], known.classes)))
            write_curves(figures, sides["test"], tuple(known.classes), recipe.bootstrap, recipe.seed)
        _analyses(archive, figures, model, backbone, tuple(known.classes))
        report = read_document(Report, archive.json(REPORT), REPORT).model_dump()
        with _understood(REPORT):
            outputs.write_json(figures / "report.json", report)
            outputs.write_card(out, render_card(written, metrics, report))
        if POINT in archive:
            _use_point(archive, out)
        brought = Brought(archive.name, spec, written, metrics, archive.passed_over)
    _try(out, spec, device)
    return brought


@contextmanager
def _understood(name: str) -> Iterator[None]:
    """Refuse a file that the readers of runs stumble over."""
    try:
        yield
    except InputError:
        raise
    except _STUMBLES as error:
        raise unfit(name, "it cannot be understood") from error


def _backbone(stored: StoredBackbone, classes: int, recipe: Recipe, specs: Iterable[str]) -> tuple[str, Backbone]:
    """Return the backbone whose tensors are those that the model was trained on, with its spec."""
    for spec in dict.fromkeys([spec_of(stored.model_dump()), *specs]):
        if not spec:
            continue
        try:
            backbone = load_backbone(spec, classes, image_size=recipe.image_size)
        except InputError:  # its weights are not here, or are of another architecture; perhaps the next ones are
            continue
        if backbone.fingerprint == stored.sha256:
            if backbone.source == "file":
                remember_weights(backbone.fingerprint, Path(spec.partition(":")[2]))
            return spec, backbone
    file = f", file {stored.file}" if stored.file else ""
    raise InputError(
        "The backbone that this model was trained on is not on this machine",
        seen=f"{stored.name}{file}, tensors {stored.sha256[:12]}",
        remedy="Add its weights file (on the page Train, or with WARA_BACKBONES), then bring the model in again.",
        code="backbone-needed",
    )


def _recipe(known: StoredRecipe, recipe: Recipe, backbone: Backbone, today: datetime.date) -> dict[str, Any]:
    """Return recipe.json: what was understood, and of the backbone what is here."""
    return {
        "format": outputs.FORMAT,
        **recipe.to_dict(),
        "backbone": {
            "name": backbone.name, "source": backbone.source, "file": backbone.file, "sha256": backbone.fingerprint,
            "pretrained": backbone.pretrained, "patch_size": backbone.patch_size,
        },
        "classes": known.classes,
        "image": {"size": backbone.size, "mean": list(backbone.mean), "std": list(backbone.std), "fit": recipe.fit},
        "data": known.data.model_dump(),
        "decisions": [],
        "device_name": known.device_name,
        "accumulate": known.accumulate,
        "packages": known.packages,
        "imported": today.isoformat(),
    }  # fmt: skip


def _metrics(
    archive: RunArchive, out: Path, classes: list[str], recipe: Recipe, sides: tables.Sides, width: int
) -> dict[str, Any]:
    """Return metrics.json as it was sent, where it has the form of, and counts as, what the predictions give here."""
    answers, novelty = tables.copy_answers(archive, out, len(classes), width)
    own = tables.measured(sides, classes, answers, novelty, recipe, width)
    sent = archive.json(outputs.METRICS)
    told = read_document(Measured, sent, outputs.METRICS).model_dump()
    found: dict[str, Any] = like(sent, own, outputs.METRICS, exact=_EXACT_METRICS)
    return found | told


def _analyses(
    archive: RunArchive, figures: Path, model: nn.Module, backbone: Backbone, classes: tuple[str, ...]
) -> None:
    """Write the analyses: the spectrum as it comes out here; what needs the run's own images as it was sent.

    What was sent must have the form that random images give.
    """
    own = study.measure(model, _noise(backbone, len(classes), 1), classes)
    if own is None:
        return
    energy = like(archive.json(ENERGY), own[study.ENERGY], ENERGY, exact=_EXACT_ANALYSES)
    with _understood(ENERGY):
        for of in ("update", "tokens"):
            read_subband_energy(energy, of=of, cls=None)
        study.write(figures, own | {study.ENERGY: energy})
    if SCALES not in archive:
        return
    template = study.measure_class_scales(model, _noise(backbone, len(classes), 2), classes, per_class=2)
    if template is None:
        raise unfit(SCALES, "a model of this kind has none")
    scales = like(archive.json(SCALES), template, SCALES, exact=_EXACT_ANALYSES)
    with _understood(SCALES):
        read_class_scales(scales)
        study.write_class_scales(figures, scales)


def _width(backbone: Backbone) -> int:
    """Return how many numbers the head takes of an image."""
    head = backbone.model.get_submodule(backbone.head)
    return int(next(head.parameters()).shape[-1])


def _noise(backbone: Backbone, classes: int, each: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield random images (b, 3, S, S) with their classes, `each` of every class."""
    targets = torch.arange(classes).repeat(each)
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(targets), _AT_ONCE):
        part = targets[start : start + _AT_ONCE]
        yield torch.randn(len(part), 3, backbone.size, backbone.size, generator=generator), part


def _use_point(archive: RunArchive, out: Path) -> None:
    """Choose the operating point again that a person had chosen: by the same rule on the same predictions."""
    sent = archive.json(POINT)
    with _understood(POINT):
        criterion, target = sent["criterion"], sent["target"]
        use_point(out, str(criterion) if target is None else f"{criterion}={float(target)!r}")


def _try(run: Path, spec: str, device: str) -> None:
    """Load the new folder as it will be loaded from now on, and have it answer an image."""
    predictor = Predictor.load(run, device=device, backbone=spec)
    size = predictor.backbone.size
    square = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    with _understood(outputs.ADAPTER):
        [answer] = predictor.answer([ReadFile("check", (square,))])
        total = sum((answer.probabilities or {}).values())
        if not abs(total - 1) < 1e-3:
            raise unfit(outputs.ADAPTER, "its answer to an image is not made of probabilities")
        review(run)
