"""One training run, from a folder of images to a RUN folder: read, split, fit, test once, analyse, write."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from wara.backbones import Backbone, load_backbone
from wara.data.catalogue import read_catalogue
from wara.data.checked import read_checked, restamped
from wara.data.checks import require_trainable
from wara.data.decisions import apply_decisions, read_decisions, write_decisions
from wara.data.ingest import ingest
from wara.data.mapping import MAPPING_FILE, Mapping, kept_mapping, write_mapping
from wara.data.report import data_report
from wara.data.sources import open_source
from wara.data.split import make_split
from wara.data.split_file import write_split_csv
from wara.errors import InputError
from wara.evaluation.card import render_card
from wara.evaluation.predictions import write_predictions
from wara.heap import give_back
from wara.home import remember_weights
from wara.training import outputs
from wara.training.device import device_name, peak_memory_mb, resolve_device
from wara.training.figures import write_curves, write_figures
from wara.training.fit_readout import fit_readout, most_images
from wara.training.fitting import fit_study, looking
from wara.training.loop import Emit, Stop
from wara.training.methods import build, count_parameters, save
from wara.training.readout import is_settled
from wara.training.recipe import Recipe
from wara.training.run_folder import clean, held, in_plain_words, own_cache, prepare_folder, require_same
from wara.training.shares import number_of, parts_of
from wara.training.study_data import SPLITS, StudyData
from wara.training.testing import Side, Tested, measure_model, training_rows
from wara.tuner.readout import readout_of


def train(
    data: Path,
    out: Path,
    recipe: Recipe,
    *,
    labels: Path | None = None,
    mapping: Mapping | None = None,
    resume: bool = False,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    cache: Path | None = None,
    decisions: Path | None = None,
    checked: Path | None = None,
    accumulate: int = 1,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Fine-tune a backbone on a data set and write the RUN folder.

    Args:
        data: folder or zip of images.
        out: the RUN folder; must be new or empty unless `resume`.
        recipe: the options.
        labels: table with the columns file and label, and perhaps patient and split.
        mapping: where labels, patients and sides come from, when it is otherwise; kept in the folder as mapping.json,
            from which `resume` takes it by itself.
        resume: go on from the checkpoint that the folder holds.
        on_event: takes the events of the run (``phase``, ``progress``, ``epoch``, ``warning``, ``done``).
        cache: folder in which decoded pixels are kept for further runs; None keeps them in `out` until it is done.
        decisions: file of decisions about findings (see `wara.data.decisions`); they are applied before the split, and
            kept with the run.
        checked: a stored catalogue of the data (see `wara.data.checked`), which is then not listed once more.
        accumulate: times as many parts as usual that each batch is computed in (`wara.training.shares.parts_of`), where
            memory ran out; `resume` may use another.
        stop: asked after every step whether to end here; `resume` goes on from that step.

    Returns:
        What metrics.json holds.

    Raises:
        InputError: data, options or the folder cannot be used; nothing is left half done that `resume` cannot finish.
        Stopped: `stop` said so.
    """
    emit: Emit = on_event or (lambda event: None)
    recipe.validate()
    began = time.perf_counter()
    device = resolve_device(recipe.device)
    parts = accumulate
    hold = contextlib.ExitStack()
    try:
        finished = prepare_folder(out, resume, recipe)
        hold.enter_context(held(out))
        if finished is not None:
            clean(out)
            emit({"type": "done", "metrics": finished})
            return finished
        _seed(recipe.seed, device)
        mapping = mapping or (kept_mapping(out) if resume else None)
        study, backbone = _read(data, out, recipe, labels, mapping, cache, decisions, checked, emit)
        recipe = recipe.for_images(len(study.rows("train")))
        emit({"type": "phase", "phase": "preparing", "message": "Preparing the model"})
        torch.manual_seed(recipe.seed)
        model = build(backbone, recipe).to(device)
        parts *= parts_of(model, device, recipe.batch_size, number_of(model, device))
        report = data_report(study.catalogue, study.split, decisions=study.decisions)
        for warning in report.get("warnings", []):
            emit({"type": "warning", "message": warning})
        _write_recipe(out, recipe, backbone, study, device, resume, parts)
        if mapping is not None:
            write_mapping(out / MAPPING_FILE, mapping)
        if study.decisions:
            write_decisions(out / outputs.DECISIONS, study.decisions)
        write_split_csv(out / outputs.SPLIT, study.catalogue, study.split)
        small = dataclasses.replace(recipe, batch_size=math.ceil(recipe.batch_size / accumulate))
        settled = is_settled(model) and not recipe.views
        if settled:
            _fit_readout(model, study, backbone, recipe, small, device, emit, stop)
        fitted = fit_study(
            model, backbone, study, recipe, small, out, own_cache(out), device=device, emit=emit, resume=resume,
            accumulate=parts, stop=stop, began=began,
        )  # fmt: skip
        outputs.write_history(out, fitted.history)
        if not settled:
            _fit_readout(model, study, backbone, recipe, small, device, emit, stop)
        give_back()
        emit({"type": "phase", "phase": "testing", "message": "Testing on images that training never saw"})
        tested = _test(model, study, backbone, small, device)
        trained, adapter = count_parameters(model, backbone)
        save(model, recipe, out / outputs.ADAPTER)
        give_back()
        emit({"type": "phase", "phase": "analysing", "message": "Drawing what the fine-tuning used"})
        batches = study.batches(study.rows("test"), backbone, small, device)
        write_predictions(out / outputs.PREDICTIONS, study.catalogue.classes, list(tested.predictions.values()))
        tested.answers.save(out / outputs.CALIBRATION)
        if tested.novelty is not None:
            tested.novelty.save(out / outputs.NOVELTY)
        metrics = tested.metrics | {
            "trainable_parameters": trained,
            "adapter_parameters": adapter,
            "images_per_second": fitted.trained_images / max(fitted.training_seconds, 1e-9),
            "epochs_run": len(fitted.history),
            "best_epoch": fitted.best_epoch,
        }
        stored = outputs.read_recipe(out)
        write_figures(
            out / outputs.FIGURES, model, batches, study.catalogue.classes, recipe.precision, metrics, fitted.history,
            tested.predictions["test"].patients,
        )
        write_curves(
            out / outputs.FIGURES, tested.predictions["test"], study.catalogue.classes, recipe.bootstrap, recipe.seed
        )
        metrics["peak_memory_mb"] = peak_memory_mb(device)  # of the whole job, its figures included
        metrics["seconds"] = fitted.earlier_seconds + time.perf_counter() - began
        outputs.write_json(out / outputs.FIGURES / "report.json", report)
        outputs.write_card(out, render_card(stored, metrics, report))
        outputs.write_json(out / outputs.METRICS, metrics)
    except (OSError, SafetensorError) as error:
        raise in_plain_words(error, out) from error
    except torch.OutOfMemoryError as error:
        raise InputError(
            "The device has not enough memory for this training",
            seen=f"{math.ceil(recipe.batch_size / parts)} images at once",
            remedy="Halve the batch size, or choose a smaller backbone.", code="out-of-memory",
        ) from error  # fmt: skip
    finally:
        hold.close()
    clean(out)
    emit({"type": "done", "metrics": metrics})
    return metrics


def _seed(seed: int, device: torch.device) -> None:
    torch.manual_seed(seed)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True


def _read(
    data: Path,
    out: Path,
    recipe: Recipe,
    labels: Path | None,
    mapping: Mapping | None,
    cache: Path | None,
    decided: Path | None,
    checked: Path | None,
    emit: Emit,
) -> tuple[StudyData, Backbone]:
    emit({"type": "phase", "phase": "reading", "message": "Reading the images"})
    decisions = [] if decided is None else read_decisions(decided)
    with open_source(data) as source:
        if checked is None:
            catalogue = read_catalogue(source, labels, mapping)
        else:
            catalogue = restamped(read_checked(checked), source)
        require_trainable(catalogue)
        # Before the images are decoded, so that a wrong option or file is said at once and not minutes later.
        backbone = load_backbone(recipe.backbone, len(catalogue.classes), image_size=recipe.image_size)
        build(backbone, recipe)
        folder = cache or own_cache(out)
        folder.mkdir(parents=True, exist_ok=True)
        path = (
            folder / f"{catalogue.fingerprint[:24]}-{backbone.size}-{recipe.fit}-{recipe.frames}-{recipe.window}.pixels"
        )
        catalogue, store = ingest(
            source, catalogue, size=backbone.size, fit=recipe.fit, view=recipe.view, store=path,
            on_progress=_reading(emit),
        )  # fmt: skip
    assert store is not None
    catalogue = apply_decisions(catalogue, decisions)
    require_trainable(catalogue)
    split = make_split(catalogue, recipe.seed)
    torch.manual_seed(recipe.seed)  # the head's first values depend on the seed alone
    backbone = load_backbone(recipe.backbone, len(catalogue.classes), image_size=recipe.image_size)
    return StudyData(catalogue, store, split, decisions), backbone


def _reading(emit: Emit) -> Callable[[int, int], None]:
    began = time.perf_counter()
    last = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last < 0.25 and done < total:
            return
        last = now
        rate = done / max(now - began, 1e-9)
        left = (total - done) / rate if done else None
        emit({
            "type": "progress", "phase": "reading", "done": done, "total": total, "seconds_left": left,
            "images_per_second": rate,
        })  # fmt: skip

    return progress


def _test(model: nn.Module, study: StudyData, backbone: Backbone, recipe: Recipe, device: torch.device) -> Tested:
    rows = {side: study.rows(side) for side in SPLITS}
    rows["train"] = training_rows(rows["train"], recipe.seed)
    sides = {
        side: Side(
            study.batches(chosen, backbone, recipe, device), study.items(chosen)
        )
        for side, chosen in rows.items()
    }  # fmt: skip
    return measure_model(model, backbone, sides, study.catalogue.classes, recipe)


def _fit_readout(
    model: nn.Module, study: StudyData, backbone: Backbone, recipe: Recipe, small: Recipe, device: torch.device,
    emit: Emit, stop: Stop | None,
) -> None:  # fmt: skip
    if readout_of(model) is None:
        return
    emit({"type": "phase", "phase": "preparing", "message": "Reading the scales of detail of the training images"})
    rows = training_rows(study.rows("train"), recipe.seed, most_images(model))
    looked = looking(emit, len(rows), stop, "preparing")
    batches = study.batches(rows, backbone, small, device)
    fit_readout(model, batches, recipe.precision, balanced=recipe.class_balanced, on_images=looked)


def _write_recipe(
    out: Path, recipe: Recipe, backbone: Backbone, study: StudyData, device: torch.device, resume: bool, accumulate: int
) -> None:
    catalogue = study.catalogue
    if backbone.source == "file":
        remember_weights(backbone.fingerprint, Path(recipe.backbone.partition(":")[2]))
    stored = {
        "format": outputs.FORMAT,
        **recipe.to_dict(),
        "backbone": {
            "name": backbone.name, "source": backbone.source, "file": backbone.file, "sha256": backbone.fingerprint,
            "pretrained": backbone.pretrained, "patch_size": backbone.patch_size,
        },
        "classes": list(catalogue.classes),
        "image": {"size": backbone.size, "mean": list(backbone.mean), "std": list(backbone.std), "fit": recipe.fit},
        "data": {
            # By content: a copied folder is the same data.
            "fingerprint": catalogue.digest, "images": len(catalogue.items),
            "classes": {name: sum(i.label == name for i in catalogue.items) for name in catalogue.classes},
            "splits": {side: study.split.count(side) for side in SPLITS},
            "passed_over": len(catalogue.passed_over),
        },
        "decisions": [decision.summary() for decision in study.decisions],
        "device_name": device_name(device),
        "accumulate": accumulate,
        "packages": outputs.package_versions(),
    }  # fmt: skip
    if resume and (out / outputs.RECIPE).is_file():
        require_same(outputs.read_recipe(out), stored)
    outputs.write_json(out / outputs.RECIPE, stored)
