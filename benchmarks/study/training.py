"""One cell of a study: build, train a fixed number of epochs, look at validation images once, perhaps test."""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.study.gradients import weight_gradients
from benchmarks.study.images import Images
from benchmarks.study.methods import build, parameter_groups
from benchmarks.study.plan import TEST, Cell
from benchmarks.study.results import encode_scores
from wara.backbones import Backbone, load_backbone
from wara.evaluation.metrics import auroc
from wara.training.class_token import answering
from wara.training.device import device_name, is_bfloat16, peak_memory_mb, set_fused_attention
from wara.training.fit_readout import fit_readout
from wara.training.lean import lean
from wara.training.loop import predict, warmup_cosine
from wara.training.methods import count_parameters, load_trained_state, trained_state

# What a training leaves in its line, and hands on to the test cell of the same training.
_OF_TRAINING = (
    "train_images", "first_loss", "last_loss", "seconds", "processor_seconds", "images_per_second", "peak_memory_mb",
    "trained", "adapter", "val_images", "val_auroc", "val_loss",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a cell runs.

    Attributes:
        images: its data set.
        spec: of the backbone, with its file's path.
        device: where to train.
        states: folder of trained tensors that test cells take over, or None.
    """

    images: Images
    spec: str
    device: torch.device
    states: Path | None


def run_cell(cell: Cell, place: Place, *, keep: bool = False, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a cell and return what was found, without the cell itself.

    Args:
        cell: what to run.
        place: where.
        keep: whether a tuning cell leaves its trained tensors for a test cell of the same training.
        before: what the tuning cell of the same training found; with its tensors it is not trained again.
    """
    torch.manual_seed(cell.seed)  # the head's first values depend on the seed alone
    backbone = load_backbone(place.spec, len(place.images.store.catalogue.classes),
                             image_size=cell.protocol.image_size)  # fmt: skip
    torch.manual_seed(cell.seed)
    model = build(cell, backbone, partial(_gradients, cell, backbone, place))
    model.to(place.device)
    kept = None if place.states is None else place.states / f"{cell.training}.safetensors"
    if before is not None and kept is not None and kept.is_file():
        load_trained_state(model, load_file(kept))
        _read_out(cell, model, backbone, place)
        found = {name: before[name] for name in _OF_TRAINING}
    else:
        _begin_peak(place.device)
        with lean(model, place.device, cell.protocol.precision):
            found = _trained(cell, model, backbone, place)
        _read_out(cell, model, backbone, place)
        found["peak_memory_mb"] = _rounded(peak_memory_mb(place.device), 1)
        val = place.images.batches("val", cell, backbone, place.device)
        probabilities, loss = predict(model, val, cell.protocol.precision)
        found["val_auroc"] = _rounded(auroc(probabilities, val.targets.numpy()), 6)
        found["val_loss"], found["val_images"] = _rounded(loss, 5), len(val)
        if keep and kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            draft = kept.with_suffix(".part")
            save_file({name: tensor.contiguous() for name, tensor in trained_state(model).items()}, draft)
            draft.rename(kept)
    found["device"] = device_name(place.device)
    found["backbone"] = backbone.fingerprint[:16]
    found["precision"] = "bfloat16" if _is_bfloat16(cell, place.device) else "float32"
    if cell.kind == TEST:
        test = place.images.batches("test", cell, backbone, place.device)
        probabilities, _ = predict(model, test, cell.protocol.precision)
        found["test_auroc"] = _rounded(auroc(probabilities, test.targets.numpy()), 6)
        found["test_scores"] = encode_scores(probabilities)
    return found


def _gradients(cell: Cell, backbone: Backbone, place: Place) -> dict[str, torch.Tensor]:
    backbone.model.to(place.device)
    train = place.images.batches("train", cell, backbone, place.device)
    return weight_gradients(backbone, train, cell.protocol.precision)


def _trained(cell: Cell, model: nn.Module, backbone: Backbone, place: Place) -> dict[str, Any]:
    train = place.images.batches("train", cell, backbone, place.device)
    groups = parameter_groups(model, backbone, cell)
    parameters = [parameter for group in groups for parameter in group["params"]]
    optimiser = torch.optim.AdamW(groups, fused=place.device.type == "cuda")
    total = cell.protocol.epochs_of(cell.size) * train.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warmup_cosine(cell.protocol.warmup, total))
    losses: list[float] = []
    everything, began, worked = 0, time.perf_counter(), time.process_time()
    model.train()
    set_fused_attention(model, place.device, training=True)
    for epoch in range(1, cell.protocol.epochs_of(cell.size) + 1):
        torch.manual_seed(cell.seed * 100_003 + epoch)  # dropout
        loss_sum, seen = torch.zeros((), device=place.device), 0
        for images, targets in train.training(epoch):
            optimiser.zero_grad(set_to_none=True)
            with answering(model, place.device, cell.protocol.precision):
                logits = model(images)
            loss = F.cross_entropy(logits.float(), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, cell.protocol.clip)
            optimiser.step()
            schedule.step()
            loss_sum += loss.detach() * len(targets)
            seen += len(targets)
        losses.append(float(loss_sum) / seen)
        everything += seen
        if not math.isfinite(losses[-1]):
            break
    seconds = time.perf_counter() - began
    processor = time.process_time() - worked
    trained, adapter = count_parameters(model, backbone)
    return {
        "train_images": len(train), "first_loss": _rounded(losses[0], 5), "last_loss": _rounded(losses[-1], 5),
        "seconds": round(seconds, 2), "processor_seconds": round(processor, 2),
        "images_per_second": round(everything / max(seconds, 1e-9), 2),
        "trained": trained, "adapter": adapter,
    }  # fmt: skip


def _read_out(cell: Cell, model: nn.Module, backbone: Backbone, place: Place) -> None:
    """Fit the model's readout, where the method has one, to its training images."""
    fit_readout(model, place.images.batches("train", cell, backbone, place.device), cell.protocol.precision,
                balanced=False)  # fmt: skip


def _begin_peak(device: torch.device) -> None:
    """Begin to count peak memory anew, so that cells of one process do not see each other's."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # glibc's: give back what earlier cells held
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: the peak starts from now


def _is_bfloat16(cell: Cell, device: torch.device) -> bool:
    return is_bfloat16(device, cell.protocol.precision)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
