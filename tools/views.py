"""Random views of images, made for a whole batch at once: crops, turns, colours, blur, noise, and mixtures."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from wara.embedded import MEAN, STD


def draw_views(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw one view of every image, strongly changed: what stays is what a teacher can still describe.

    Args:
        images: (B, 3, H, W), uint8.
        size: rows and columns of the views in pixels.
        generator: where all randomness comes from.

    Returns:
        (B, 3, size, size), float32 in 0..1.
    """
    views = _cropped(images, size, generator)
    views = _mixed(views, generator)
    views = _coloured(views, generator)
    views = _blurred(views, generator)
    noise = torch.randn(views.shape, generator=generator) * _some(len(views), 0.3, generator) * 0.08
    return (views + noise * _uniform(len(views), 0, 1, generator)).clamp_(0, 1)


def normalised(views: Tensor) -> Tensor:
    """Return views as the networks take them."""
    mean, std = (torch.tensor(values, device=views.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (views - mean) / std


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return (low + (high - low) * torch.rand(count, generator=generator)).view(-1, 1, 1, 1)


def _some(count: int, share: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=generator) < share).float().view(-1, 1, 1, 1)


def _cropped(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Crop a random part, 8 to 100 % of the area, turned and mirrored; borders are mirrored too."""
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    side = uniform(0.08, 1.0).sqrt()
    aspect = torch.exp(uniform(-math.log(4 / 3), math.log(4 / 3)) / 2)
    wide, high = side * aspect, side / aspect
    turn = torch.where(uniform(0, 1) < 0.5, uniform(-math.pi, math.pi), uniform(-0.2, 0.2))
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    shift_x = uniform(-1, 1) * (1 - wide).clamp(min=0)
    shift_y = uniform(-1, 1) * (1 - high).clamp(min=0)
    cos, sin = turn.cos(), turn.sin()
    rows = torch.stack([cos * wide * flip, -sin * high, shift_x, sin * wide * flip, cos * high, shift_y], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3), [count, 3, size, size], align_corners=False)
    return F.grid_sample(images.float() / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _mixed(views: Tensor, generator: torch.Generator) -> Tensor:
    """Lay a part of another view into some, and blend others: pictures that no data set has."""
    count, size = len(views), views.shape[-1]
    other = views[torch.randperm(count, generator=generator)]
    weight = _some(count, 0.2, generator) * _uniform(count, 0.1, 0.5, generator)
    blended = views * (1 - weight) + other * weight
    centre, reach = (
        torch.rand(2, count, 1, generator=generator),
        0.1 + 0.3 * torch.rand(2, count, 1, generator=generator),
    )
    axis = ((torch.arange(size) + 0.5) / size).view(1, 1, size)
    inside = ((axis - centre).abs() < reach).float()
    box = (inside[0].unsqueeze(2) * inside[1].unsqueeze(1)).unsqueeze(1) * _some(count, 0.25, generator)
    again = views[torch.randperm(count, generator=generator)]
    return blended * (1 - box) + again * box


def _coloured(views: Tensor, generator: torch.Generator) -> Tensor:
    """Change colours: mixed channels, grey, inverted, brightness, contrast and gamma."""
    count = len(views)
    matrix = torch.eye(3) + 0.25 * torch.randn(count, 3, 3, generator=generator) * _some(count, 0.5, generator)[:, 0]
    swap = torch.stack([torch.eye(3)[torch.randperm(3, generator=generator)] for _ in range(count)])
    swapped = _some(count, 0.2, generator)[:, 0]
    matrix = matrix @ (swap * swapped + torch.eye(3) * (1 - swapped))
    matrix = matrix / matrix.sum(dim=2, keepdim=True).clamp(min=0.3)
    views = torch.einsum("bij,bjhw->bihw", matrix, views).clamp_(0, 1)
    grey = _some(count, 0.2, generator)
    views = views * (1 - grey) + views.mean(dim=1, keepdim=True) * grey
    inverted = _some(count, 0.12, generator)
    views = views * (1 - inverted) + (1 - views) * inverted
    views = views.clamp(min=1e-3) ** torch.exp(_uniform(count, -0.6, 0.6, generator))
    mean = views.mean(dim=(1, 2, 3), keepdim=True)
    contrast, brightness = _uniform(count, 0.5, 1.5, generator), _uniform(count, -0.2, 0.2, generator)
    return ((views - mean) * contrast + mean + brightness).clamp_(0, 1)


def _blurred(views: Tensor, generator: torch.Generator) -> Tensor:
    """Blur one in four, each with a width of its own."""
    chosen = torch.nonzero(torch.rand(len(views), generator=generator) < 0.25)[:, 0]
    if len(chosen) == 0:
        return views
    width = 0.3 + 1.7 * torch.rand(len(chosen), 1, generator=generator)
    taps = torch.exp(-0.5 * (torch.arange(-4, 5).float() / width) ** 2)
    taps = (taps / taps.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    part, size = views[chosen], views.shape[-1]
    flat = F.pad(part.reshape(1, -1, size, size), (4, 4, 4, 4), mode="reflect")
    flat = F.conv2d(flat, taps.view(-1, 1, 1, 9), groups=flat.shape[1])
    flat = F.conv2d(flat, taps.view(-1, 1, 9, 1), groups=flat.shape[1])
    views[chosen] = flat.view_as(part)
    return views
