"""The frozen first part of a model: run once for an image and view, its tokens kept on the disk and read every epoch.

Where training changes only the last blocks, what the blocks before them make of an image is the same in every epoch, as
long as the image is: training images are then seen in a fixed number of views (`Recipe.views`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from wara.data.batches import Batches
from wara.data.disk import plain_disk_errors
from wara.training.class_token import answering, base_of
from wara.training.device import set_fused_attention

# A disk is never filled for the sake of speed.
_LARGEST_SHARE_OF_FREE = 0.5


@dataclass(frozen=True)
class Halves:
    """A model cut in two: ``rest(first(images))`` are its logits.

    Attributes:
        first: images (b, 3, S, S) -> tokens (b, N, d); nothing in it is trained.
        rest: tokens (b, N, d) -> logits (b, k).
    """

    first: Callable[[Tensor], Tensor]
    rest: Callable[[Tensor], Tensor]


def cut(model: nn.Module) -> Halves | None:
    """Cut a model in front of the first block in which something is trained; None where that cannot be done.

    Args:
        model: a plain vision transformer of timm, or a PEFT model of one; models of other kinds are not cut.
    """
    base: Any = base_of(model)
    if type(base) is not VisionTransformer or not isinstance(base.patch_drop, nn.Identity):
        return None
    trained = [any(p.requires_grad for p in block.parameters()) for block in base.blocks]
    place = trained.index(True) if True in trained else len(trained)
    behind = [base.blocks, base.norm, base.fc_norm, base.head, *([] if base.attn_pool is None else [base.attn_pool])]
    of_rest = {id(p) for module in behind for p in module.parameters()}
    if place == 0 or any(p.requires_grad for p in base.parameters() if id(p) not in of_rest):
        return None

    def first(images: Tensor) -> Tensor:
        return _through(base.blocks[:place], base.norm_pre(base._pos_embed(base.patch_embed(images))))

    def rest(tokens: Tensor) -> Tensor:
        logits: Tensor = base.forward_head(base.norm(_through(base.blocks[place:], tokens)))
        return logits

    return Halves(first, rest)


def _through(blocks: Any, tokens: Tensor) -> Tensor:
    for block in blocks:
        tokens = block(tokens)
    return tokens


class KeptBatches:
    """Batches of kept tokens instead of images; otherwise as the `Batches` that they were made of.

    Args:
        batches: the images.
        file: their tokens, float16, of one view after the other.
        shape: tokens and channels of an image, (N, d).
    """

    def __init__(self, batches: Batches, file: Path, shape: tuple[int, ...]) -> None:
        self._batches, self._shape = batches, shape
        self.targets, self.device, self.steps = batches.targets, batches.device, batches.steps
        self._bytes = 2 * int(np.prod(shape))
        self._file = file

    def __len__(self) -> int:
        """Number of images."""
        return len(self._batches)

    def training(self, epoch: int, *, begin: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (tokens (b, N, d) float32, targets (b,)), in the order of `Batches.training`."""
        view = self._batches.view_of(epoch)
        for chosen in self._batches.order(epoch)[begin:]:
            yield self._tokens(chosen.numpy() + view * len(self)), self.targets[chosen].to(self.device)

    def evaluation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (tokens, targets) in order, every image once."""
        for chosen in torch.split(torch.arange(len(self)), self._batches.batch_size):
            yield self._tokens(chosen.numpy()), self.targets[chosen].to(self.device)

    def _tokens(self, places: NDArray[np.int64]) -> Tensor:
        # Read, not mapped into memory: what was read of a mapping counts as memory of this process.
        found = np.empty((len(places), *self._shape), dtype=np.float16)
        with self._file.open("rb") as kept:
            for row, place in zip(found, places.tolist(), strict=True):
                kept.seek(place * self._bytes)
                kept.readinto(row.data)
        return torch.from_numpy(found).to(self.device).float()


@torch.no_grad()
def keep_tokens(
    model: nn.Module,
    halves: Halves,
    batches: Batches,
    file: Path,
    precision: str,
    *,
    views: int,
    on_images: Callable[[int], None],
) -> KeptBatches | None:
    """Run the frozen part over all images and keep its tokens; None where that takes too much of the disk.

    Args:
        model: the model that was cut.
        halves: its parts.
        batches: the images.
        file: where the tokens go; one that is there already, and whole, is used again.
        precision: of the forward passes.
        views: how many views of each image; 0 keeps the images as they are.
        on_images: told how many images were done; may raise to end it, which leaves no file.

    Raises:
        InputError: the disk is full or may not be written.
    """
    shown: list[int | None] = [*range(views)] if views else [None]
    training = model.training
    model.eval()
    set_fused_attention(model, batches.device, training=False)
    with answering(model, batches.device, precision):
        shape = tuple(halves.first(next(batches.seen(None))[:1]).shape[1:])
    size = len(shown) * len(batches) * 2 * int(np.prod(shape))
    whole = file.is_file() and file.stat().st_size == size
    if not whole and size > _LARGEST_SHARE_OF_FREE * shutil.disk_usage(file.parent).free:
        model.train(training)
        return None
    draft = file.with_name(file.name + ".part")
    try:
        with plain_disk_errors(file.parent):
            if not whole:
                with draft.open("wb") as kept:
                    for view in shown:
                        for images in batches.seen(view):
                            with answering(model, batches.device, precision):
                                tokens = halves.first(images)
                            kept.write(_as_float16(tokens).data)
                            on_images(len(images))
                draft.replace(file)
            return KeptBatches(batches, file, shape)
    finally:
        draft.unlink(missing_ok=True)
        model.train(training)


def _as_float16(tokens: Tensor) -> NDArray[np.float16]:
    """Three more bits than bfloat16 has; tokens of vision transformers stay far below its largest number, 65,504."""
    largest = float(torch.finfo(torch.float16).max)
    return np.ascontiguousarray(tokens.float().clamp(-largest, largest).half().cpu().numpy())
