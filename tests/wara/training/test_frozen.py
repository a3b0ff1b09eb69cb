"""The frozen part of a model run once: the same function cut in two, and the same training from kept tokens."""

from __future__ import annotations

import copy
import json
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import timm
import torch
from torch import nn

from tests.wara.support import draw_folder, small_recipe, stop_at
from wara import WaraConfig
from wara.data.batches import Batches
from wara.data.catalogue import read_catalogue
from wara.data.ingest import ingest
from wara.data.pixels import PixelStore
from wara.data.sources import open_source
from wara.errors import InputError
from wara.training import frozen
from wara.training.class_token import class_token_only
from wara.training.frozen import cut, keep_tokens
from wara.training.loop import Stopped
from wara.training.run import train

SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 3}
LAST = WaraConfig(r=2, target_modules=["blocks.2.attn.qkv"], modules_to_save=["head"], init_weights=False)


def vit(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.models.vision_transformer.VisionTransformer(**{**SIZES, **options}).eval()


def head_alone(**options: Any) -> nn.Module:
    model = vit(**options).requires_grad_(False)
    model.head.requires_grad_(True)
    return model


def adapted(**options: Any) -> nn.Module:
    return peft.get_peft_model(vit(**options), copy.deepcopy(LAST))


@pytest.mark.parametrize("make", [head_alone, adapted])
@pytest.mark.parametrize(
    "options",
    [{}, {"reg_tokens": 2, "pre_norm": True}, {"global_pool": "avg"}, {"class_token": False, "global_pool": "map"}],
)
def test_the_two_parts_one_after_the_other_are_the_model(
    make: Callable[..., nn.Module], options: dict[str, Any]
) -> None:
    model, images = make(**options), torch.randn(2, 3, 32, 32)
    halves = cut(model)
    assert halves is not None
    with torch.no_grad():
        assert torch.equal(halves.rest(halves.first(images)), model(images))


def test_of_a_model_whose_head_alone_is_trained_one_token_is_left_to_keep() -> None:
    model, images = head_alone(), torch.randn(2, 3, 32, 32)
    halves = cut(model)
    assert halves is not None
    with class_token_only(model), torch.no_grad():
        tokens = halves.first(images)
        torch.testing.assert_close(halves.rest(tokens), model(images))
    assert tokens.shape == (2, 1, 24)


@pytest.mark.parametrize(
    "model",
    [
        lambda: peft.get_peft_model(vit(), WaraConfig(r=2, modules_to_save=["head"])),
        vit,
        lambda: head_alone(patch_drop_rate=0.5),
        lambda: timm.create_model("test_efficientnet", num_classes=3).requires_grad_(False),
    ],
    ids=["all blocks adapted", "all is trained", "patches left out by chance", "no vision transformer"],
)
def test_where_nothing_is_frozen_first_or_the_kind_is_unknown_a_model_is_not_cut(
    model: Callable[[], nn.Module],
) -> None:
    assert cut(model()) is None


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PixelStore:
    root = tmp_path_factory.mktemp("frozen")
    folder = draw_folder(root / "set", images_per_class=5)
    with open_source(folder) as source:
        _, found = ingest(source, read_catalogue(source), size=32, store=root / "x.pixels")
    assert found is not None
    return found


def batches_of(store: PixelStore, **options: Any) -> Batches:
    rows = range(len(store))
    settings: dict[str, Any] = {"batch_size": 4, "seed": 7, "augment": "light", "views": 2, **options}
    return Batches(
        store, rows, [row % 3 for row in rows], mean=(0.5,) * 3, std=(0.2,) * 3, device=torch.device("cpu"), **settings
    )


def test_kept_tokens_are_those_of_the_images_in_the_same_order(store: PixelStore, tmp_path: Path) -> None:
    model, batches, counted = adapted(), batches_of(store), []
    halves = cut(model)
    assert halves is not None
    kept = keep_tokens(
        model, halves, batches, tmp_path / "t", "float32", views=2, on_images=lambda images: counted.append(images)
    )
    assert kept is not None and sum(counted) == 2 * len(store) and len(kept) == len(store)
    for epoch in (1, 2, 3):
        pairs = zip(kept.training(epoch, begin=1), batches.training(epoch, begin=1), strict=True)
        for (tokens, targets), (images, expected) in pairs:
            assert torch.equal(targets, expected)
            with torch.no_grad():
                torch.testing.assert_close(tokens, halves.first(images), rtol=1e-3, atol=1e-3)


def test_a_whole_file_is_used_again_and_one_that_was_broken_off_is_not_left(store: PixelStore, tmp_path: Path) -> None:
    model, batches = adapted(), batches_of(store)
    halves = cut(model)
    assert halves is not None

    def keep(on_images: Callable[[int], None]) -> Any:
        return keep_tokens(model, halves, batches, tmp_path / "t", "float32", views=2, on_images=on_images)

    def broken_off(images: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        keep(broken_off)
    assert list(tmp_path.iterdir()) == []
    first = keep(lambda images: None)
    again = keep(broken_off)  # nothing is computed, so nobody is told
    one, other = (list(kept.evaluation()) for kept in (first, again))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(one, other, strict=True))


def test_a_disk_is_not_filled_for_it(store: PixelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, usage = adapted(), namedtuple("usage", "total used free")
    halves = cut(model)
    assert halves is not None
    monkeypatch.setattr(frozen.shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 1000))
    kept = keep_tokens(model, halves, batches_of(store), tmp_path / "t", "float32", views=2, on_images=lambda n: None)
    assert kept is None and list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(store: PixelStore, tmp_path: Path) -> None:
    model = adapted()
    halves = cut(model)
    assert halves is not None
    (tmp_path / "t.part").mkdir()  # cannot be opened for writing
    with pytest.raises((InputError, IsADirectoryError)):
        keep_tokens(model, halves, batches_of(store), tmp_path / "t", "float32", views=1, on_images=lambda n: None)


def test_training_from_kept_tokens_is_training_on_the_images(
    image_folder: Path, pixel_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(epochs=3, last_blocks=1, views=2, precision="float32")
    kept = train(image_folder, tmp_path / "kept", recipe, cache=pixel_cache)
    monkeypatch.setattr(frozen, "_LARGEST_SHARE_OF_FREE", 0.0)
    fresh = train(image_folder, tmp_path / "fresh", recipe, cache=pixel_cache)
    for run in ("kept", "fresh"):
        assert not (tmp_path / run / ".pixels").exists()
    rows = [np.genfromtxt(tmp_path / run / "history.csv", delimiter=",", names=True) for run in ("kept", "fresh")]
    np.testing.assert_allclose(rows[0]["train_loss"], rows[1]["train_loss"], rtol=2e-3)
    assert kept["trainable_parameters"] == fresh["trainable_parameters"]


def test_only_the_last_blocks_are_adapted(image_folder: Path, pixel_cache: Path, tmp_path: Path) -> None:
    counts = {}
    for blocks in (1, 2, None, 50):
        recipe = small_recipe(epochs=1, last_blocks=blocks)
        counts[blocks] = train(image_folder, tmp_path / str(blocks), recipe, cache=pixel_cache)["adapter_parameters"]
    assert counts[None] == counts[50] > counts[2] == 2 * counts[1]


def test_a_run_of_kept_tokens_stopped_anywhere_goes_on_to_the_same_bits(
    image_folder: Path, pixel_cache: Path, tmp_path: Path
) -> None:
    recipe = small_recipe(epochs=3, last_blocks=1, views=2, dropout=0.1, batch_size=4)
    train(image_folder, tmp_path / "whole", recipe, cache=pixel_cache)
    for steps in (1, 4, 12):  # while looking at training images, at validation images or training, in a later epoch
        run = tmp_path / str(steps)
        with pytest.raises(Stopped):
            train(image_folder, run, recipe, cache=pixel_cache, stop=stop_at(steps))
        train(image_folder, run, recipe, cache=pixel_cache, resume=True)
        for name in ("predictions.csv", "adapter/adapter_model.safetensors"):
            assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), (steps, name)


def test_a_run_that_was_begun_before_there_were_views_goes_on(
    image_folder: Path, pixel_cache: Path, tmp_path: Path
) -> None:
    recipe, run = small_recipe(batch_size=4), tmp_path / "run"
    with pytest.raises(Stopped):
        train(image_folder, run, recipe, cache=pixel_cache, stop=lambda: True)
    stored = json.loads((run / "recipe.json").read_text())
    for name in ("views", "last_blocks"):
        del stored[name]
    (run / "recipe.json").write_text(json.dumps(stored))
    assert train(image_folder, run, recipe, cache=pixel_cache, resume=True)["epochs_run"] == 2
