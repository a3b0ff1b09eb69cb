"""Drawn images and views are decided by their seeds, of the right kind, and differ from each other."""

from __future__ import annotations

import numpy as np
import torch

from tools.synthetic_images import draw
from tools.views import draw_views, normalised


def test_a_seed_decides_a_drawn_image() -> None:
    first = draw(3, 64)

    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert np.array_equal(first, draw(3, 64))
    assert not np.array_equal(first, draw(4, 64))


def test_drawn_images_are_pictures_of_many_kinds() -> None:
    images = np.stack([draw(seed, 48) for seed in range(60)]).astype(np.float64)

    assert np.median(images.std(axis=(1, 2, 3))) > 20  # something is to be seen
    fine = np.abs(np.diff(images, axis=1)).mean(axis=(1, 2, 3)) / (images.std(axis=(1, 2, 3)) + 1)
    assert fine.max() > 4 * fine.min()  # from soft to grainy
    grey = [np.ptp(image, axis=2).max() == 0 for image in images]
    assert 5 < sum(grey) < 50


def test_views_have_the_size_asked_for_and_are_decided_by_the_generator() -> None:
    images = torch.from_numpy(np.stack([draw(seed, 64) for seed in range(8)])).permute(0, 3, 1, 2)

    first, again, other = (draw_views(images, 48, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))

    assert first.shape == (8, 3, 48, 48) and first.dtype == torch.float32
    assert torch.isfinite(first).all() and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_views_are_normalised_as_the_networks_take_them() -> None:
    views = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(2, 3, 4, 4)

    torch.testing.assert_close(normalised(views), torch.zeros(2, 3, 4, 4))
    torch.testing.assert_close(normalised(views + 0.229)[:, 0], torch.ones(2, 4, 4))
