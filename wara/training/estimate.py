"""What a few steps of a training take, and how much memory: measured before it starts (times from it: `forecast`).

``python -m wara.training.estimate`` reads an order as JSON from its standard input and prints the measurement as JSON;
a process of its own, so that its memory is that of the work and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import psutil  # type: ignore[import-untyped]
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wara.backbones import load_backbone
from wara.errors import InputError
from wara.training.class_token import answering, class_token_only
from wara.training.device import peak_memory_mb, resolve_device, set_fused_attention
from wara.training.forecast import WarmUp
from wara.training.frozen import cut
from wara.training.lean import lean
from wara.training.methods import build, parameter_groups
from wara.training.recipe import Recipe
from wara.training.shares import learn, number_of, parts_of

Run = Callable[[Tensor], Tensor]

_WARM_UP, _MOST_STEPS, _SECONDS = 1, 8, 6.0


def measure(recipe: Recipe, num_classes: int, *, started: float | None = None) -> WarmUp:
    """Run a few training steps and one evaluation on noise, and say what they took.

    Args:
        recipe: the options; the backbone, method, batch and image size, device and precision count.
        num_classes: outputs of the head.
        started: when the process was started (seconds since 1970); None counts from now.

    Raises:
        InputError: what training would refuse, and a batch that does not fit into memory.
    """
    began = time.time() if started is None else started
    device = resolve_device(recipe.device)
    available = available_memory_mb(device)
    backbone = load_backbone(recipe.backbone, num_classes, image_size=recipe.image_size)
    model = build(backbone, recipe).to(device)
    optimiser = torch.optim.AdamW(parameter_groups(model, backbone, recipe), fused=device.type == "cuda")
    images = torch.randn(recipe.batch_size, 3, backbone.size, backbone.size, device=device)
    targets = torch.arange(recipe.batch_size, device=device) % num_classes
    halves = cut(model) if recipe.views else None
    start = time.time() - began
    with _memory_in_words(recipe), lean(model, device, recipe.precision):
        once, run, seen = 0.0, cast(Run, model), images
        if halves is not None:
            (once, seen), run = _timed(halves.first, model, images, recipe), halves.rest
        steps = list(_steps(model, run, optimiser, seen, targets, recipe))
        image, _ = _timed(model, model, images, recipe)
    return WarmUp(tuple(steps), image, start, peak_memory_mb(device), available, device.type, once)


def _timed(run: Run, model: nn.Module, images: Tensor, recipe: Recipe) -> tuple[float, Tensor]:
    """Return the seconds an image of running a part of a model without training it, and what it gives."""
    model.eval()
    set_fused_attention(model, images.device, training=False)
    with torch.no_grad(), answering(model, images.device, recipe.precision):
        run(images)
        _wait(images.device)
        before = time.perf_counter()
        found = run(images)
        _wait(images.device)
    return (time.perf_counter() - before) / len(images), found.float()


def _steps(
    model: nn.Module,
    run: Run,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
) -> Iterator[float]:
    model.train()
    set_fused_attention(model, images.device, training=True)
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    shares = number_of(model, images.device)
    parts = parts_of(model, images.device, len(images), shares)

    def loss_of(some: Tensor, wanted: Tensor) -> Tensor:
        with answering(model, images.device, recipe.precision):
            logits = run(some)
        return F.cross_entropy(logits.float(), wanted)

    began = time.perf_counter()
    for number in range(_WARM_UP + _MOST_STEPS):
        before = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with class_token_only(model):
            learn(loss_of, parameters, images, targets, shares, parts)
        optimiser.step()
        _wait(images.device)
        if number >= _WARM_UP:
            yield time.perf_counter() - before
        if number > _WARM_UP and time.perf_counter() - began > _SECONDS:
            return


def available_memory_mb(device: torch.device) -> float | None:
    """Return the free memory in MiB: the GPU's, or the machine's within the limit of a container."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0]) / 2**20
    free = float(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        # A container's limit (cgroup v2); "max" where there is none.
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        free = min(free, float(max(0, limit - used)))
    return free / 2**20


@contextlib.contextmanager
def _memory_in_words(recipe: Recipe) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        raise InputError(
            "This training does not fit into the memory of the device",
            seen=f"{recipe.batch_size} images at a time",
            remedy=f"Choose fewer images at a time, e.g. {max(1, recipe.batch_size // 2)}, or a smaller network.",
            code="out-of-memory",
        ) from error


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> int:
    """Measure the order on standard input, ``{"recipe": {...}, "num_classes": 2}``, and print what came of it."""
    order: dict[str, Any] = json.loads(sys.stdin.read())
    try:
        recipe = Recipe(**order["recipe"])
        found = {"warm_up": asdict(measure(recipe, order["num_classes"], started=psutil.Process().create_time()))}
    except InputError as error:
        found = {"problem": {"what": error.what, "seen": str(error.seen), "remedy": error.remedy, "code": error.code}}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
