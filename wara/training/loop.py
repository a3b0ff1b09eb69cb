"""The training loop: AdamW, warm-up and cosine, clipping, validation every epoch, checkpoints, early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wara.data.batches import Batches
from wara.errors import InputError
from wara.evaluation.metrics import auroc
from wara.training.checkpoint import Checkpoint, Part
from wara.training.class_token import answering, class_token_only
from wara.training.device import set_fused_attention
from wara.training.frozen import KeptBatches
from wara.training.methods import load_trained_state, trained_state
from wara.training.recipe import Recipe
from wara.training.shares import at_once, cut, learn, number_of

Emit = Callable[[dict[str, Any]], None]
Stop = Callable[[], bool]
Feed = Batches | KeptBatches
_PROGRESS_SECONDS = 0.25
# A validation image costs a forward pass, a training image that and more; only the time left is estimated from this.
_EVALUATION_COST = 0.35


class Stopped(Exception):
    """The training was asked to stop, and did so behind a step; resuming goes on with the next one."""


@dataclass
class Fit:
    """What training left.

    Attributes:
        history: one row an epoch, as in the ``epoch`` events.
        best_epoch: number (from 1) of the epoch whose weights are kept.
        best_state: the trained tensors of that epoch.
        trained_images: images seen in training steps.
        training_seconds: time in training steps, without validation.
        earlier_seconds: time that processes before this one spent on the run, when it was resumed.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    trained_images: int = 0
    training_seconds: float = 0.0
    earlier_seconds: float = 0.0


def fit(
    model: nn.Module,
    groups: list[dict[str, Any]],
    train: Feed,
    val: Feed,
    recipe: Recipe,
    num_classes: int,
    *,
    emit: Emit,
    checkpoint: Checkpoint,
    run: Callable[[Tensor], Tensor] | None = None,
    resume: bool = False,
    accumulate: int = 1,
    stop: Stop | None = None,
    began: float | None = None,
) -> Fit:
    """Train the parameters in `groups` and leave the best epoch's weights in the model.

    Args:
        model: the model; only `groups` are changed.
        groups: AdamW's parameter groups with their largest step sizes.
        train: training batches.
        val: validation batches; the epoch with the best AUROC on them is kept.
        recipe: the options.
        num_classes: number of classes.
        emit: takes ``progress`` and ``epoch`` events.
        checkpoint: written after every epoch, every minute or so within a long one, and before stopping.
        run: what makes logits of a batch, where that is not the whole model (`wara.training.frozen`).
        resume: whether to go on from the checkpoint, where there is one.
        accumulate: parts that a batch is computed in, one after the other, to need less memory; the gradients add up to
            those of the whole batch.
        stop: asked after every step.
        began: when this process began with the run, in seconds of `time.perf_counter`; None for now. What it takes from
            then on, reading included, counts as spent before where the run is resumed.

    Raises:
        Stopped: `stop` said so; the checkpoint holds everything up to the last step.
    """
    device, run = train.device, run or model
    optimiser = torch.optim.AdamW(groups, fused=device.type == "cuda")
    total_steps = recipe.epochs * train.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warmup_cosine(recipe.warmup, total_steps))
    weights = class_weights(train.targets, num_classes).to(device) if recipe.class_balanced else None
    parameters = [p for group in groups for p in group["params"]]
    fitted, start_epoch, part = Fit(), 1, Part.none(device)
    state = checkpoint.read() if resume else None
    if state is not None:
        load_trained_state(model, state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        fitted = Fit(**state["fit"])
        start_epoch = len(fitted.history) + 1
        part = Part.read(state, device)
    run_began = time.perf_counter() if began is None else began
    progress = _Progress(emit, recipe.epochs, len(train), len(val), start_epoch, part.seen)

    def loss_of(batch: Tensor, some: Tensor, wanted: Tensor) -> Tensor:
        """Return what some images add to the mean loss over a batch, of which all targets are given."""
        with answering(model, device, recipe.precision):
            logits = run(some)
        loss = F.cross_entropy(logits.float(), wanted, weights, label_smoothing=recipe.label_smoothing)
        return loss if len(wanted) == len(batch) else loss * _share(wanted, batch, weights)

    def keep() -> None:
        spent = fitted.earlier_seconds + time.perf_counter() - run_began
        checkpoint.write(
            {
                "model": trained_state(model),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "fit": vars(fitted) | {"earlier_seconds": spent},
                "part": part.to_state(device),
            }
        )

    def look() -> None:
        """End here when that is asked for."""
        if stop is not None and stop():
            keep()
            raise Stopped

    def validated(images: int) -> None:
        progress.validated(images)
        look()

    for epoch in range(start_epoch, recipe.epochs + 1):
        if _stopped_early(fitted, recipe.patience):
            break
        began = time.perf_counter() - part.seconds
        if not part.enter():
            torch.manual_seed(recipe.seed * 100_003 + epoch)  # dropout, the same whether or not the run was resumed
        model.train()
        set_fused_attention(model, device, training=True)
        shares = number_of(model, device)
        for images, targets in train.training(epoch, begin=part.step):
            optimiser.zero_grad(set_to_none=True)
            with class_token_only(model):
                loss = learn(partial(loss_of, targets), parameters, images, targets, shares, accumulate)
            part.loss_sum += loss * len(targets)
            torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimiser.step()
            schedule.step()
            part.advance(len(targets), time.perf_counter() - began)
            progress.trained(len(targets))
            look()
            if checkpoint.is_due():
                keep()
        _require_finite(float(part.loss_sum), epoch, recipe)
        trained_seconds = time.perf_counter() - began
        probabilities, val_loss = predict(model, val, recipe.precision, run=run, on_images=validated, in_order=False)
        _require_finite(val_loss, epoch, recipe)
        row = {
            "epoch": epoch,
            "train_loss": float(part.loss_sum) / max(part.seen, 1),
            "val_loss": val_loss,
            "val_auroc": auroc(probabilities, val.targets.numpy()),
            "learning_rate": float(schedule.get_last_lr()[0]),
            "seconds": time.perf_counter() - began,
        }
        row["best"] = _is_best(row, fitted.history)
        fitted.history.append(row)
        fitted.trained_images += part.seen
        fitted.training_seconds += trained_seconds
        if row["best"]:
            fitted.best_epoch, fitted.best_state = epoch, trained_state(model)
        part = Part.none(device)
        keep()
        emit({"type": "epoch", "epochs": recipe.epochs, **row})
    load_trained_state(model, fitted.best_state)
    return fitted


@torch.no_grad()
def predict(
    model: nn.Module,
    batches: Feed,
    precision: str,
    *,
    run: Callable[[Tensor], Tensor] | None = None,
    on_images: Callable[[int], None] | None = None,
    in_order: bool = True,
) -> tuple[NDArray[np.float64], float]:
    """Return class probabilities (n, k) and the mean cross-entropy over all images; `run` as in `fit`.

    With `in_order` hooks in the model see all images in order; without, batches may be computed in shares.
    """
    was_training = model.training
    model.eval()
    set_fused_attention(model, batches.device, training=False)
    probabilities, loss_sum = [], 0.0

    @torch.no_grad()
    def logits_of(some: Tensor) -> Tensor:
        with answering(model, batches.device, precision):
            found: Tensor = (run or model)(some)
        return found.float()

    shares = 1 if in_order else number_of(model, batches.device)
    for images, targets in batches.evaluation():
        with class_token_only(model):
            logits = torch.cat(at_once(logits_of, cut(shares, images)))
        loss_sum += float(F.cross_entropy(logits, targets, reduction="sum"))
        probabilities.append(logits.softmax(dim=1).cpu())
        if on_images is not None:
            on_images(len(targets))
    model.train(was_training)
    return torch.cat(probabilities).double().numpy(), loss_sum / max(len(batches), 1)


def class_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Return a weight a class, inverse to its frequency, with mean 1 over the images."""
    counts = torch.bincount(targets, minlength=num_classes).float().clamp(min=1)
    return len(targets) / (num_classes * counts)


def _share(some: Tensor, all_of: Tensor, weights: Tensor | None) -> Tensor | float:
    """Return what the mean over some targets (m,) weighs in the mean over all of a batch (b,)."""
    if weights is None:
        return len(some) / len(all_of)
    return weights[some].sum() / weights[all_of].sum()


def _require_finite(loss: float, epoch: int, recipe: Recipe) -> None:
    if not math.isfinite(loss):
        raise InputError(
            "Training diverged: the loss is not a number any more",
            seen=f"step size {recipe.learning_rate:g}, epoch {epoch}",
            remedy="Start again with a learning rate a third as large.",
            code="training-diverged",
        )


def warmup_cosine(warmup: float, total_steps: int) -> Callable[[int], float]:
    """Return the share of the largest step size by step: rising over a share of all steps, then falling to 0."""
    rising = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / max(1, total_steps - rising)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return factor


def _is_best(row: dict[str, Any], history: list[dict[str, Any]]) -> bool:
    """Whether an epoch is better than all before: by AUROC, and by loss where AUROCs are equal or undefined."""

    def key(r: dict[str, Any]) -> tuple[float, float]:
        value = -math.inf if r["val_auroc"] is None else r["val_auroc"]
        return value, -r["val_loss"]

    return all(key(row) > key(earlier) for earlier in history)


def _stopped_early(fitted: Fit, patience: int) -> bool:
    return bool(fitted.history) and len(fitted.history) - fitted.best_epoch >= patience


class _Progress:
    """Counts images over all epochs and tells how far it is, at most four times a second."""

    def __init__(
        self, emit: Emit, epochs: int, train_images: int, val_images: int, start_epoch: int, seen: int
    ) -> None:
        self._emit, self._total = emit, epochs * train_images
        self._done = (start_epoch - 1) * train_images + seen
        self._work_left = (epochs - start_epoch + 1) * (train_images + _EVALUATION_COST * val_images) - seen
        self._work_done = 0.0
        self._began = time.perf_counter()
        self._trained, self._last = 0, 0.0

    def trained(self, images: int) -> None:
        self._done += images
        self._trained += images
        self._advance(images)

    def validated(self, images: int) -> None:
        self._advance(_EVALUATION_COST * images)

    def _advance(self, work: float) -> None:
        self._work_done += work
        now = time.perf_counter()
        if now - self._last < _PROGRESS_SECONDS:
            return
        self._last = now
        rate = self._work_done / (now - self._began)
        self._emit(
            {
                "type": "progress",
                "phase": "training",
                "done": min(self._done, self._total),
                "total": self._total,
                "seconds_left": (self._work_left - self._work_done) / rate,
                "images_per_second": rate,
            }
        )
