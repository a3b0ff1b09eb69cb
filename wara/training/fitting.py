"""A run's training: its batches, the frozen part run once where that can be, and the loop over both."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from wara.backbones import Backbone
from wara.data.batches import Batches
from wara.training import outputs
from wara.training.checkpoint import Checkpoint
from wara.training.frozen import Halves, KeptBatches, cut, keep_tokens
from wara.training.lean import lean
from wara.training.loop import Emit, Feed, Fit, Stop, Stopped, fit
from wara.training.methods import parameter_groups
from wara.training.recipe import Recipe
from wara.training.study_data import StudyData

_PROGRESS_SECONDS = 0.25


def fit_study(
    model: nn.Module,
    backbone: Backbone,
    study: StudyData,
    recipe: Recipe,
    small: Recipe,
    out: Path,
    scratch: Path,
    *,
    device: torch.device,
    emit: Emit,
    resume: bool,
    accumulate: int,
    stop: Stop | None,
    began: float,
) -> Fit:
    """Train a model on a study's training images and leave the best epoch's weights in it.

    Args:
        model: from `wara.training.methods.build`.
        backbone: what it was made of.
        study: the images.
        recipe: the options.
        small: the same with the batch size of one part, for validation.
        out: the RUN folder.
        scratch: folder for what only the training needs.
        device: where to train.
        emit: takes the events.
        resume: go on from the checkpoint, where there is one.
        accumulate: parts that a batch is computed in.
        stop: asked after every step, and every batch of the frozen part, whether to end here.
        began: when this process began with the run, in seconds of `time.perf_counter`.

    Raises:
        Stopped: `stop` said so.
    """
    with lean(model, device, recipe.precision):
        images = study.batches(study.rows("train"), backbone, recipe, device, changed=True)
        plain = study.batches(study.rows("val"), backbone, small, device)
        train: Feed = images
        val: Feed = plain
        run = None
        halves = cut(model) if recipe.views else None
        if halves is not None:
            kept = _kept(model, halves, images, plain, recipe, scratch, emit, stop)
            if kept is not None:
                (train, val), run = kept, halves.rest
        emit({"type": "phase", "phase": "training", "message": "Training"})
        return fit(
            model,
            parameter_groups(model, backbone, recipe),
            train,
            val,
            recipe,
            len(study.catalogue.classes),
            emit=emit,
            checkpoint=Checkpoint(out / outputs.CHECKPOINT),
            run=run,
            resume=resume,
            accumulate=accumulate,
            stop=stop,
            began=began,
        )


def _kept(
    model: nn.Module,
    halves: Halves,
    train: Batches,
    val: Batches,
    recipe: Recipe,
    scratch: Path,
    emit: Emit,
    stop: Stop | None,
) -> tuple[KeptBatches, KeptBatches] | None:
    """Return both sides as tokens of the frozen part, or None where images have to do."""
    emit({
        "type": "phase", "phase": "preparing",
        "message": "Looking at every image once with the part of the network that does not change",
    })  # fmt: skip
    looked = looking(emit, recipe.views * len(train) + len(val), stop, "preparing")
    scratch.mkdir(parents=True, exist_ok=True)
    sides = []
    for name, batches, views in (("train", train, recipe.views), ("val", val, 0)):
        side = keep_tokens(
            model, halves, batches, scratch / f"{name}.tokens", recipe.precision, views=views, on_images=looked
        )
        if side is None:
            return None
        sides.append(side)
    return sides[0], sides[1]


def looking(emit: Emit, total: int, stop: Stop | None, phase: str) -> Callable[[int], None]:
    """Return what takes the number of images that were looked at, tells of the progress, and ends it where asked to.

    Args:
        emit: takes the events.
        total: images to look at.
        stop: asked every time whether to end here.
        phase: name of what is done.
    """
    began, last, done = time.perf_counter(), 0.0, 0

    def looked(images: int) -> None:
        nonlocal last, done
        done += images
        if stop is not None and stop():
            raise Stopped
        now = time.perf_counter()
        if now - last < _PROGRESS_SECONDS and done < total:
            return
        last = now
        rate = done / max(now - began, 1e-9)
        emit({
            "type": "progress", "phase": phase, "done": done, "total": total,
            "seconds_left": (total - done) / rate, "images_per_second": rate,
        })  # fmt: skip

    return looked
