"""A batch in shares, each computed by a thread of its own with its own cores, instead of all cores at every operation.

Threads that compute one operation together wait for each other at its end, and operations of a small vision transformer
take a millisecond or less. In shares they meet once a step.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch
from timm.layers.drop import DropPath
from timm.layers.patch_dropout import PatchDropout
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from wara.training.class_token import base_of

T = TypeVar("T")
# More would queue for the interpreter, of which there is one; each then takes several cores.
MOST = 4
_FEWEST_IMAGES = 4
# Multiplications in one square product of a share (tokens x width x width) from which on its operations are long enough
# that more images at once are no faster: half of them cost a network of 384 channels 2 %, a quarter 13 %; one of 768
# is as fast with 4 images as with 16.
_LONG_ENOUGH = 2.0e8


def number_of(model: nn.Module, device: torch.device) -> int:
    """Return into how many shares batches are cut: 1 where that is no use, or would not give the same.

    Chance that a model draws itself, as in dropout, comes from one source in one order, and statistics over a batch are
    those of all of it.

    Args:
        model: the model, in training or evaluation mode.
        device: where it is.
    """
    if device.type != "cpu" or _stays_whole(model):
        return 1
    return min(MOST, torch.get_num_threads())


def _stays_whole(model: nn.Module) -> bool:
    return model.training and any(_needs_whole_batches(module) for module in model.modules())


def _needs_whole_batches(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, DropPath):
        return bool(module.drop_prob)
    return isinstance(module, PatchDropout | nn.modules.batchnorm._BatchNorm)


def parts_of(model: nn.Module, device: torch.device, images: int, number: int) -> int:
    """Return into how many parts, one after the other, a batch is cut to need less memory: as many as cost no time.

    1 on a graphics card, whose operations are never long enough, for networks other than plain vision transformers, and
    where `number_of` has its own reasons for a whole batch.

    Args:
        model: the model, perhaps with adapters.
        device: where it is.
        images: of a batch.
        number: of shares, from `number_of`, into which each part is cut.
    """
    base: Any = base_of(model)
    if device.type != "cpu" or type(base) is not VisionTransformer or _stays_whole(model):
        return 1
    of_an_image: float = base.patch_embed.num_patches * base.embed_dim**2
    of_a_share = max(_FEWEST_IMAGES, math.ceil(_LONG_ENOUGH / of_an_image))
    return max(1, images // (number * of_a_share))


def at_once(function: Callable[..., T], shares: Sequence[tuple[Tensor, ...]]) -> list[T]:
    """Call a function with each share's tensors, one thread a share, and return what it gives, in order.

    Grad mode and autocast are a thread's own: the function sets both. The cores are divided among the shares.

    Raises:
        Exception: what the function raised for the first share that failed, when all have ended.
    """
    if len(shares) == 1:
        return [function(*shares[0])]
    pool = _pool(len(shares), max(1, torch.get_num_threads() // len(shares)))
    running: list[Future[T]] = [pool.submit(function, *share) for share in shares]
    wait(running)
    return [future.result() for future in running]


def by_one_core(function: Callable[[], T]) -> T:
    """Call a function in a thread that computes with one core, and return what it gives."""
    return _pool(1, 1).submit(function).result()


@functools.cache
def _pool(threads: int, cores: int) -> ThreadPoolExecutor:
    # torch keeps the number of cores by thread. A thread that asks for the first time takes what was set last by any.
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "share", initializer=_take, initargs=(cores,))
    all_there = threading.Barrier(threads)
    wait([pool.submit(all_there.wait) for _ in range(threads)])
    torch.set_num_threads(before)
    return pool


def _take(cores: int) -> None:
    torch.set_num_threads(cores)
    torch.get_num_threads()


def cut(number: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Return at most so many shares of tensors that have images first; few images make fewer shares.

    Args:
        number: from `number_of`.
        tensors: (b, ...) each.
    """
    number = max(1, min(number, len(tensors[0]) // _FEWEST_IMAGES))
    return list(zip(*(tensor.tensor_split(number) for tensor in tensors), strict=True))


def learn(
    loss_of: Callable[[Tensor, Tensor], Tensor],
    parameters: Sequence[nn.Parameter],
    images: Tensor,
    targets: Tensor,
    number: int,
    parts: int = 1,
) -> Tensor:
    """Add the gradients of a loss to the parameters', and return the loss.

    Shares add up in their order: the same batch gives the same bits, whichever thread is done first.

    Args:
        loss_of: images and targets of a share -> what it adds to the loss of the batch, under an autocast of its own.
        parameters: what is trained.
        images: (b, ...).
        targets: (b,).
        number: of shares, from `number_of`.
        parts: computed one after the other, each in so many shares, from `parts_of`.
    """

    def gradients(some: Tensor, wanted: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        with torch.enable_grad():
            loss = loss_of(some, wanted)
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    losses = []
    for some, wanted in zip(images.chunk(parts), targets.chunk(parts), strict=True):
        for loss, of_share in at_once(gradients, cut(number, some, wanted)):
            losses.append(loss)
            for parameter, gradient in zip(parameters, of_share, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return torch.stack(losses).sum()
