"""Batches: every image once, the same order for the same seed, and an augmentation that keeps sides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from wara.data.batches import Batches, augment_light, draw_chances
from wara.data.catalogue import read_catalogue
from wara.data.ingest import ingest
from wara.data.pixels import PixelStore
from wara.data.sources import open_source

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module", params=["L", "RGB"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PixelStore:
    root = tmp_path_factory.mktemp("batches")
    for number in range(10):
        folder = root / "set" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new(request.param, (16, 16), number * 20 if request.param == "L" else (number * 20, 0, 9)).save(
            folder / f"{number}.png"
        )
    with open_source(root / "set") as source:
        _, found = ingest(source, read_catalogue(source), size=16, store=root / "x.pixels")
    assert found is not None
    return found


@pytest.fixture
def batches(store: PixelStore) -> Callable[..., Batches]:
    def make(**options: object) -> Batches:
        settings = {"mean": MEAN, "std": STD, "device": torch.device("cpu"), "batch_size": 4, "seed": 7, **options}
        return Batches(store, range(10), [row % 2 for row in range(10)], **settings)

    return make


def test_evaluation_gives_every_image_once_in_order_and_normalised(
    batches: Callable[..., Batches], store: PixelStore
) -> None:
    images = torch.cat([images for images, _ in batches().evaluation()])
    targets = torch.cat([targets for _, targets in batches().evaluation()])

    pixels = torch.from_numpy(store.rows(np.arange(10))).float() / 255
    expected = (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=1e-5)
    assert targets.tolist() == [0, 1] * 5


def test_training_shuffles_by_seed_and_epoch_alone(batches: Callable[..., Batches]) -> None:
    def order(seed: int, epoch: int) -> list[float]:
        return torch.cat(
            [x.mean(dim=(1, 2, 3)) for x, _ in batches(seed=seed, augment="light").training(epoch)]
        ).tolist()

    assert order(7, 1) == order(7, 1)
    assert order(7, 1) != order(7, 2)
    assert order(7, 1) != order(8, 1)


def test_a_last_batch_of_one_image_is_left_out_of_training_only(batches: Callable[..., Batches]) -> None:
    three = batches(batch_size=3)
    assert [len(y) for _, y in three.training(1)] == [3, 3, 3]
    assert three.steps == 3
    assert [len(y) for _, y in three.evaluation()] == [3, 3, 3, 1]
    assert [len(y) for _, y in batches().training(1)] == [4, 4, 2]


def test_targets_follow_their_images(batches: Callable[..., Batches], store: PixelStore) -> None:
    brightness = store.rows(np.arange(10))[:, 0, 0, 0].tolist()
    for images, targets in batches(augment="none").training(3):
        red = ((images[:, 0, 0, 0] * STD[0] + MEAN[0]) * 255).round().int().tolist()
        assert targets.tolist() == [brightness.index(value) % 2 for value in red]


@pytest.mark.parametrize("augment", ["none", "light"])
def test_a_pass_taken_up_in_the_middle_goes_on_with_the_same_batches(
    batches: Callable[..., Batches], augment: str
) -> None:
    whole = list(batches(augment=augment).training(2))
    rest = list(batches(augment=augment).training(2, begin=1))
    assert len(rest) == len(whole) - 1
    for (images, targets), (same_images, same_targets) in zip(whole[1:], rest, strict=True):
        assert torch.equal(images, same_images) and torch.equal(targets, same_targets)
    assert list(batches().training(2, begin=3)) == []


def test_augmentation_is_small_and_does_not_mirror() -> None:
    pixels = torch.zeros(64, 1, 32, 32, dtype=torch.uint8)
    pixels[:, :, 12:20, 2:12] = 200  # a bright mark on the left
    images = augment_light(pixels, draw_chances(len(pixels), torch.Generator().manual_seed(0)))

    left, right = images[..., :16].mean(dim=(1, 2, 3)), images[..., 16:].mean(dim=(1, 2, 3))
    assert bool((left > right).all())
    assert not torch.equal(images[0], images[1])
    assert 0 <= float(images.min()) <= float(images.max()) <= 255


def test_views_come_in_turn_and_an_image_looks_the_same_whenever_its_view_does(batches: Callable[..., Batches]) -> None:
    made = batches(augment="light", views=2)

    def by_row(epoch: int) -> torch.Tensor:
        images = torch.cat([x for x, _ in made.training(epoch)])
        places = torch.cat(made.order(epoch))
        return images[places.argsort()]

    assert not torch.equal(torch.cat(made.order(1)), torch.cat(made.order(3)))
    assert torch.equal(by_row(1), by_row(3)) and torch.equal(by_row(2), by_row(4))
    assert not torch.allclose(by_row(1), by_row(2))
    for view in (0, 1):
        torch.testing.assert_close(torch.cat(list(made.seen(view))), by_row(view + 1))


def test_views_of_images_that_are_not_changed_are_the_images(batches: Callable[..., Batches]) -> None:
    made = batches(augment="none", views=2)
    assert torch.equal(torch.cat(list(made.seen(1))), torch.cat([x for x, _ in made.evaluation()]))
