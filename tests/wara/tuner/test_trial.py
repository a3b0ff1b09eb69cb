"""A trial run sees the tokens of every layer and leaves the model as it was."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from torch import Tensor, nn

from tests.wara.support import MakeVit
from tests.wara.tuner.methods import outlines, require_equal, snapshot
from wara.tuner import AdapterError, WaraConfig, adapted_layers
from wara.tuner.trial import BARS, run_trial


class Restless(nn.Module):
    """Has all that a forward pass may change: running statistics, counters, random numbers; and can fail."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails
        self.patch_embed = PatchEmbed(img_size=32, patch_size=4, embed_dim=8)
        self.norm = nn.BatchNorm1d(64)
        self.drop = nn.Dropout(0.5)
        self.qkv = nn.Linear(8, 24)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed(images)
        tokens = self.drop(self.norm(tokens)) + 0 * torch.rand(1)  # random numbers in evaluation, too
        result: Tensor = self.qkv(tokens)
        if self.fails:
            raise RuntimeError("the head is missing")
        return result


def flags(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails: bool) -> None:
    model = Restless(fails).train()
    model.drop.eval()  # a mixed state, as a user may want it
    before, layout, modes = snapshot(model), outlines(model), flags(model)
    random_numbers = torch.get_rng_state()

    if fails:
        with pytest.raises(AdapterError, match=r"Restless could not be tried .*RuntimeError: the head is missing"):
            run_trial(model, ["qkv"])
    else:
        assert run_trial(model, ["qkv"]).seen["qkv"].shapes == {(64, 8)}

    require_equal(snapshot(model), before)
    assert outlines(model) == layout
    assert flags(model) == modes
    assert torch.equal(torch.get_rng_state(), random_numbers)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_putting_an_adapter_in_leaves_modes_and_buffers_as_they_were() -> None:
    model = Restless().train()
    model.drop.eval()
    before = {name: value for name, value in snapshot(model).items() if name.startswith("norm")}

    peft.get_peft_model(model, WaraConfig(r=2))

    assert model.norm.training and not model.drop.training
    require_equal({f"norm.{name}": value for name, value in snapshot(model.norm).items()}, before)


class Plain(nn.Module):
    """Attention written out: a product, softmax as one of three functions, a product."""

    def __init__(self, softmax: Any) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(img_size=32, patch_size=4, embed_dim=8)
        self.softmax = softmax
        self.first, self.second = nn.Linear(8, 24), nn.Linear(8, 24)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed(images)
        for layer in (self.first, self.second):
            query, key, value = layer(tokens).chunk(3, dim=-1)
            tokens = self.softmax(query @ key.transpose(-1, -2)) @ value
        return tokens


@pytest.mark.parametrize(
    "softmax",
    [lambda x: x.softmax(dim=-1), lambda x: torch.softmax(x, -1), lambda x: F.softmax(x, dim=-1)],
    ids=["method", "torch", "functional"],
)
def test_tokens_see_only_themselves_in_attention_that_is_written_out(softmax: Any) -> None:
    assert_only_bars_change(Plain(softmax), "second")


def test_tokens_see_only_themselves_in_fused_attention(make_vit: MakeVit) -> None:
    assert_only_bars_change(make_vit(class_token=False, global_pool="avg"), "blocks.1.attn.qkv")


def assert_only_bars_change(model: nn.Module, name: str) -> None:
    tokens = run_trial(model, [name]).seen[name]
    (change,) = tokens.changes
    assert change is not None and change.shape == (len(BARS), 64)
    for (axis, middle), of_tokens in zip(BARS, change, strict=True):
        of_lines = of_tokens.reshape(8, 8).amax(dim=1 - axis)
        touched = of_lines > 1e-4 * float(of_lines.max())
        assert 1 <= int(touched.sum()) <= 2  # a bar of four pixels lies on one line of patches, or two
        assert touched[int(middle * 8)]


def test_a_layer_that_is_run_twice_shows_both_calls() -> None:
    model = Plain(lambda x: x.softmax(dim=-1))
    model.second = model.first

    tokens = run_trial(model, ["first"]).seen["first"]

    assert tokens.shapes == {(64, 8)} and len(tokens.changes) == 2


def test_a_layer_that_is_not_run_is_missing(make_vit: MakeVit) -> None:
    model = make_vit()
    model.spare = nn.Linear(2, 2)

    assert set(run_trial(model, ["spare", "blocks.0.attn.qkv"]).seen) == {"blocks.0.attn.qkv"}


@pytest.mark.parametrize("channels", [1, 4])
def test_images_have_the_channels_that_the_model_takes(make_vit: MakeVit, channels: int) -> None:
    model = peft.get_peft_model(make_vit(in_chans=channels), WaraConfig(r=2))
    assert model(torch.randn(1, channels, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_is_tried_in_its_own_dtype(make_vit: MakeVit, dtype: torch.dtype) -> None:
    model = peft.get_peft_model(make_vit().to(dtype), WaraConfig(r=2))
    assert {layer.grid for layer in adapted_layers(model).values()} == {(8, 8)}


class Worded(nn.Module):
    """A model whose images alone are not enough."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(img_size=32, patch_size=4, embed_dim=8)
        self.qkv = nn.Linear(8, 24)

    def forward(self, images: Tensor, words: Tensor) -> Tensor:
        tokens: Tensor = self.qkv(self.patch_embed(images) + words)
        return tokens


def test_a_model_that_cannot_be_tried_is_refused_with_the_reason_and_takes_a_grid_that_is_given() -> None:
    with pytest.raises(
        AdapterError, match=r"Worded could not be tried on an image of 32 x 32 pixels .*words.* Give grid=\(rows"
    ):
        peft.get_peft_model(Worded(), WaraConfig(r=2))

    model = peft.get_peft_model(Worded(), WaraConfig(r=2, grid=(8, 8)))
    assert model(torch.randn(2, 3, 32, 32), torch.ones(8)).shape == (2, 64, 24)


def test_a_second_adapter_goes_in_beside_a_first_that_mixes_the_tokens(make_vit: MakeVit) -> None:
    model = peft.get_peft_model(make_vit(), WaraConfig(r=4))
    with torch.no_grad():
        for layer in adapted_layers(model).values():
            layer.module.wara_B["default"].normal_(std=5)  # after a training that changed much
            layer.module.wara_gain["default"].uniform_(-2, 2)
    images = torch.randn(1, 3, 32, 32)
    expected = model.eval()(images)

    model.add_adapter("other", WaraConfig(r=2))

    assert torch.equal(model(images), expected)
    with model.disable_adapter():
        model.add_adapter("third", WaraConfig(r=2))
        assert all(layer.module.disable_adapters for layer in adapted_layers(model).values())
        torch.testing.assert_close(model(images), make_vit()(images))
    assert torch.equal(model(images), expected)


class _Normed(nn.Module):
    """Convolutions with batch norms whose statistics are those of much larger values than a trial's, then tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.pretrained_cfg = {"input_size": (3, 64, 64)}
        blocks = [[nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU()] for _ in range(6)]
        self.stages = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), *(layer for block in blocks for layer in block))
        self.qkv = nn.Linear(8, 8)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean += 30.0
                module.running_var *= 1e6

    def forward(self, x: Tensor) -> Tensor:
        return self.qkv(self.stages(x).flatten(2).transpose(1, 2)).mean(dim=1)


def test_batch_norms_do_not_make_a_bar_fade_and_keep_their_statistics() -> None:
    torch.manual_seed(0)
    model = _Normed().eval()
    before = {name: value.clone() for name, value in model.named_buffers()}

    trial = run_trial(model, ["qkv"])

    (changes,) = trial.seen["qkv"].changes
    rows = changes[0].view(8, 8).mean(dim=1)  # a bar along the first rows
    assert rows[0] > 0.5 and rows[2:].max() < 1e-4 * rows[0]
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
