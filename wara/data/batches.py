"""Batches from a pixel store: shuffled and augmented for training, plain for evaluation; whole batches at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wara.data.pixels import PixelStore

# Light augmentation: an X-ray turned by more than this, or an image much darker than this, is not what a clinic sends.
_TURN_DEGREES = 10.0
_ZOOM = 0.1
_SHIFT = 0.05
_BRIGHTNESS = 0.15
_CONTRAST = 0.15


class Batches:
    """Images of some rows of a pixel store, normalised for a backbone.

    Args:
        store: the decoded pixels.
        rows: rows of the store.
        targets: class index of each row.
        mean, std: per channel, of pixels in 0..1.
        device: where the batches go.
        batch_size: images a batch.
        seed: seed of order and augmentation; with the epoch's number it fixes both, so that a resumed run sees the
            same images as one that never stopped.
        augment: ``"light"`` or ``"none"``.
        views: in how many ways each training image is changed, one after the other; 0 changes it anew in every epoch.
    """

    def __init__(
        self,
        store: PixelStore,
        rows: Sequence[int],
        targets: Sequence[int],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        batch_size: int,
        seed: int = 0,
        augment: str = "none",
        views: int = 0,
    ) -> None:
        self.store = store
        self.rows = np.asarray(rows, dtype=np.int64)
        self.targets = torch.as_tensor(np.asarray(targets), dtype=torch.long)
        self.device, self.batch_size, self.seed, self.augment = device, batch_size, seed, augment
        self.views = views
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1) * 255
        self._scale = 1 / (torch.tensor(std, device=device).view(1, 3, 1, 1) * 255)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    @property
    def steps(self) -> int:
        """Number of training batches an epoch (a last batch of one image is left out, see `training`)."""
        full, rest = divmod(len(self), self.batch_size)
        return full + (rest > 1 or full == 0)

    def training(self, epoch: int, *, begin: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images (b, 3, S, S) float32, targets (b,)) in a fresh order.

        A last batch of a single image is left out: its gradient would weigh as much as a whole batch's.

        Args:
            epoch: number of the pass, from 1.
            begin: steps that were done before; their batches are passed over, and the others come as they would have.
        """
        generator = self._generator(epoch)
        of_view = self._chances_of_view(self.view_of(epoch)) if self.views else None
        for step, chosen in enumerate(self._order(generator)):
            if of_view is not None:
                chances: Tensor | None = of_view[:, chosen]
            elif self.augment == "light" and not self.views:
                chances = draw_chances(len(chosen), generator)
            else:
                chances = None
            if step >= begin:
                yield self._training_images(chosen, chances), self.targets[chosen].to(self.device)

    def order(self, epoch: int) -> list[Tensor]:
        """Return what each step of an epoch trains on: places among the rows, (b,) each."""
        return list(self._order(self._generator(epoch)))

    def view_of(self, epoch: int) -> int:
        """Return the number of the view, from 0, in which an epoch shows the images."""
        return (epoch - 1) % self.views

    def seen(self, view: int | None) -> Iterator[Tensor]:
        """Yield the images (b, 3, S, S) in order, every one once, as a view shows them; None shows them as they are."""
        chances = None if view is None else self._chances_of_view(view)
        for start in range(0, len(self), self.batch_size):
            chosen = torch.arange(start, min(start + self.batch_size, len(self)))
            yield self._training_images(chosen, None if chances is None else chances[:, chosen])

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 100_003 + epoch)

    def _order(self, generator: torch.Generator) -> Iterator[Tensor]:
        order = torch.randperm(len(self), generator=generator)
        for step in range(self.steps):
            yield order[step * self.batch_size : (step + 1) * self.batch_size]

    def _chances_of_view(self, view: int) -> Tensor | None:
        if self.augment != "light":
            return None
        # Negative numbers are other generators than those of the epochs.
        return draw_chances(len(self), torch.Generator().manual_seed(-(self.seed * 100_003 + view + 1)))

    def _training_images(self, chosen: Tensor, chances: Tensor | None) -> Tensor:
        pixels = self._pixels(chosen)
        return self._normalised(pixels if chances is None else augment_light(pixels, chances))

    def evaluation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, targets) in order, every image once."""
        start = 0
        for images in self.seen(None):
            yield images, self.targets[start : start + len(images)].to(self.device)
            start += len(images)

    def _pixels(self, chosen: Tensor) -> Tensor:
        """Return uint8 pixels (b, c, S, S) as stored, c = 1 or 3, sorted reads from the memory map."""
        return torch.from_numpy(self.store.planes(self.rows[chosen.numpy()]))

    def _normalised(self, pixels: Tensor) -> Tensor:
        images = pixels.to(self.device, non_blocking=True).float()
        return (images - self._mean) * self._scale  # one channel broadcasts to three


def draw_chances(count: int, generator: torch.Generator) -> Tensor:
    """Return the chances (6, count), each in 0..1, by which `augment_light` changes so many images."""
    return torch.stack([torch.rand(count, generator=generator) for _ in range(6)])


def augment_light(pixels: Tensor, chances: Tensor) -> Tensor:
    """Turn, zoom and shift each image a little, and change its brightness and contrast; sides are kept.

    Args:
        pixels: (b, c, S, S), 0..255.
        chances: (6, b) from `draw_chances`, the source of all randomness.

    Returns:
        (b, c, S, S) float32, 0..255.
    """
    images = pixels.float()
    drawn = iter(chances.unbind())

    def spread(width: float) -> Tensor:
        chance: Tensor = next(drawn)
        return (chance * 2 - 1) * width

    angle, zoom = spread(math.radians(_TURN_DEGREES)), 1 + spread(_ZOOM)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    matrix = torch.stack(
        [torch.stack([cos, -sin, spread(2 * _SHIFT)], dim=1), torch.stack([sin, cos, spread(2 * _SHIFT)], dim=1)], dim=1
    )
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    contrast, brightness = (1 + spread(_CONTRAST)).view(-1, 1, 1, 1), (spread(_BRIGHTNESS) * 255).view(-1, 1, 1, 1)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - middle) * contrast + middle + brightness).clamp_(0, 255)
