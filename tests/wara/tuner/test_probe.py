"""Where tokens stand is seen: windows, stages, orders; and what stands on no grid is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import pytest
import timm
import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

from tests.wara.support import MakeVit
from tests.wara.tuner.methods import outlines, require_equal, snapshot
from tests.wara.tuner.written import passing, stirred, written_update
from wara.tuner import AdapterError, SubbandTransform, WaraConfig, adapted_layers
from wara.tuner.probe import Place, grids_of_layers, places_of_layers

models = timm.models


def _made(make: Callable[..., nn.Module], size: int | None = None, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model = make(num_classes=2, **options).eval()
    if size is not None:
        model.pretrained_cfg = {"input_size": (3, size, size)}
    return model


def _swin(**options: Any) -> nn.Module:
    settings: dict[str, Any] = {"embed_dim": 12, "depths": (2, 1), "num_heads": (2, 2), "window_size": 4}
    return _made(models.SwinTransformer, img_size=32, patch_size=4, **{**settings, **options})


def _swin_v2() -> nn.Module:
    return _made(
        models.SwinTransformerV2, img_size=32, patch_size=4, embed_dim=12, depths=(2, 1), num_heads=(2, 2),
        window_size=4,
    )  # fmt: skip


def _gcvit() -> nn.Module:
    return _made(
        models.GlobalContextVit, 64, img_size=64, window_size=((4, 4), (4, 4), (4, 4), (2, 2)), depths=(2, 1, 1, 1),
        num_heads=(1, 1, 1, 1), embed_dim=8,
    )  # fmt: skip


def _maxvit() -> nn.Module:
    cfg = models.maxxvit.MaxxVitCfg(
        embed_dim=(8, 16), depths=(1, 1), block_type=("M", "M"), stem_width=8,
        transformer_cfg=models.maxxvit.MaxxVitTransformerCfg(dim_head=8, window_size=(4, 4)),
    )  # fmt: skip
    return _made(lambda **o: models.maxxvit.MaxxVit(cfg, img_size=32, **o), 32)


def _samvit() -> nn.Module:
    return _made(
        models.VisionTransformerSAM, img_size=32, patch_size=4, embed_dim=12, depth=2, num_heads=2, window_size=4,
        global_attn_indexes=(1,), use_rel_pos=True, neck_chans=8,
    )  # fmt: skip


def _twins() -> nn.Module:
    return _made(
        models.twins.Twins, 64, img_size=64, patch_size=4, embed_dims=(8, 8, 16, 16), num_heads=(1, 1, 2, 2),
        depths=(2, 1, 1, 1), wss=(4, 4, 2, 2),
    )  # fmt: skip


WINDOWS: list[tuple[str, Callable[[], nn.Module], list[tuple[int, int]]]] = [
    ("swin", _swin, [(4, 4)] * 3),  # the second block's windows are shifted by half
    ("swin-oblong-window", lambda: _swin(window_size=(2, 4)), [(2, 4)] * 3),
    ("swin-v2", _swin_v2, [(4, 4)] * 3),
    ("gcvit", _gcvit, [(4, 4)] * 4 + [(2, 2)]),
    ("maxvit", _maxvit, [(4, 4)] * 4),  # windows, and every second token of the image as a window
    ("samvit", _samvit, [(4, 4), (8, 8)]),
]


@pytest.mark.parametrize(("name", "make", "grids"), WINDOWS, ids=[row[0] for row in WINDOWS])
def test_the_grid_of_windows_is_the_windows_and_the_adapter_the_written_form_in_each(
    name: str, make: Callable[[], nn.Module], grids: list[tuple[int, int]]
) -> None:
    base = make()
    model = stirred(peft.get_peft_model(base, WaraConfig(r=3, levels=1, wavelet="db2", target_modules=["qkv"])))
    layers = adapted_layers(model)
    size = 64 if name == "gcvit" else 32
    images = torch.randn(2, 3, size, size, dtype=torch.float64)

    with passing(model) as seen, torch.no_grad():
        model(images)
        assert [(layer.grid, layer.num_prefix_tokens) for layer in layers.values()] == [(grid, 0) for grid in grids]
        for layer in layers.values():
            for x, update in seen[layer.name]:
                windows = x.reshape(-1, layer.grid[0] * layer.grid[1], x.shape[-1])
                expected = written_update(layer.module, windows, layer.grid, 0)  # type: ignore[arg-type]
                torch.testing.assert_close(update.reshape(expected.shape), expected, atol=1e-10, rtol=1e-9)


def test_planes_of_a_swin_outside_windows_stand_on_the_grid_of_their_stage() -> None:
    model = _swin()
    names = ["layers.0.blocks.0.mlp.fc1", "layers.1.downsample.reduction", "layers.1.blocks.0.mlp.fc1"]

    places = places_of_layers(model, names)

    assert [place.grid[:2] for place in places.values() if isinstance(place, Place)] == [(8, 8), (4, 4), (4, 4)]


def test_stages_of_a_twins_are_found_by_windows_and_by_the_images_aspect() -> None:
    grids = grids_of_layers(_twins(), ["blocks.0.0.attn.qkv", "blocks.0.1.attn.q", "blocks.0.1.attn.kv"])

    assert list(grids.values()) == [(4, 4, 0), (16, 16, 0), (2, 2, 0)]


class Ordered(nn.Module):
    """A transformer of one layer that puts its tokens into another order."""

    def __init__(self, order: Tensor, stated: bool = True, size: tuple[int, int] = (32, 32)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = PatchEmbed(img_size=size, patch_size=4, embed_dim=8)
        if stated:
            self.patch_embed = self.embed
        else:
            self.pretrained_cfg = {"input_size": (3, *size)}
        self.order = order
        self.qkv = nn.Linear(8, 24)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.qkv(self.embed(images)[:, self.order])
        return tokens


PLACES = torch.arange(64).reshape(8, 8)
SNAKE = PLACES.clone()
SNAKE[1::2] = SNAKE[1::2].flip(1)
ORDERS = {
    "by-columns": PLACES.T,
    "from-the-end": PLACES.flip(0, 1),
    "rows-from-the-end": PLACES.flip(0),
    "columns-from-the-end": PLACES.flip(1),
    "snake": SNAKE,
    "blocks-of-2": PLACES.reshape(4, 2, 4, 2).transpose(1, 2),
    "blocks-of-4": PLACES.reshape(2, 4, 2, 4).transpose(1, 2),
    "permuted": torch.randperm(64, generator=torch.Generator().manual_seed(1)),
}


@pytest.mark.parametrize("stated", [True, False], ids=["stated", "not-stated"])
@pytest.mark.parametrize("order", list(ORDERS))
def test_tokens_in_another_order_are_refused_and_nothing_is_changed(order: str, stated: bool) -> None:
    model = Ordered(ORDERS[order].flatten(), stated)
    before, layout = snapshot(model), outlines(model)

    with pytest.raises(AdapterError, match=r"Layer 'qkv': its 64 tokens do not stand row by row on a grid of 8 x 8"):
        peft.get_peft_model(model, WaraConfig(r=2))

    require_equal(snapshot(model), before)
    assert outlines(model) == layout


@pytest.mark.parametrize("stated", [True, False], ids=["stated", "not-stated"])
@pytest.mark.parametrize("size", [(32, 32), (32, 64), (28, 20), (56, 56)], ids=str)
def test_tokens_row_by_row_are_taken(stated: bool, size: tuple[int, int]) -> None:
    grid = size[0] // 4, size[1] // 4
    model = Ordered(torch.arange(grid[0] * grid[1]), stated, size)

    assert grids_of_layers(model, ["qkv"]) == {"qkv": (*grid, 0)}


@pytest.mark.parametrize("seed", range(6))
def test_permutations_are_seen_whatever_the_weights(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = Ordered(torch.randperm(64, generator=generator))
    nn.init.normal_(model.embed.proj.weight, generator=generator)

    (place,) = places_of_layers(model, ["qkv"]).values()

    assert isinstance(place, AdapterError)


class Varied(nn.Module):
    """A layer that is given tokens in a way that a function says."""

    def __init__(self, use: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(img_size=32, patch_size=4, embed_dim=8)
        self.num_prefix_tokens = 1
        self.cls = nn.Parameter(torch.ones(1, 1, 8))
        self.qkv, self.use = nn.Linear(8, 24), use

    def forward(self, images: Tensor) -> Tensor:
        return self.use(self.qkv, torch.cat([self.cls.expand(len(images), -1, -1), self.patch_embed(images)], dim=1))


REFUSALS: list[tuple[str, Callable[[Any, Tensor], Tensor], str]] = [
    ("several-numbers", lambda layer, x: layer(x).sum() + layer(x[:, :10]), "it is run on 10 and 65 tokens in one"),
    ("one-token", lambda layer, x: layer(x[:, 0]), "it is given one token an image, not a grid"),
    ("one-token-kept", lambda layer, x: layer(x[:, :1]), "A token grid of 1 x 1 is too small for a wavelet transform"),
    ("prefix-last", lambda layer, x: layer(x.roll(-1, dims=1)), "65 tokens do not stand row by row .* after 1 in"),
    ("a-part", lambda layer, x: layer(x[:, 1:40]), "39 tokens|nothing says on which grid"),
    ("another-call", lambda layer, x: layer(x) + layer(x.flip(1)), "65 tokens do not stand row by row"),
    ("never-run", lambda layer, x: x, "the model never runs it"),
    ("weight-only", lambda layer, x: x @ layer.weight.T, r"never runs it \(Varied reads its weight itself\)"),
    ("even", lambda layer, x: layer(x.mean(dim=1, keepdim=True).expand_as(x)), "do not stand row by row"),
]


@pytest.mark.parametrize(("name", "use", "said"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_a_layer_whose_tokens_stand_on_no_grid_is_refused_by_name(
    name: str, use: Callable[[nn.Module, Tensor], Tensor], said: str
) -> None:
    with pytest.raises(AdapterError, match=f"Layer 'qkv': .*({said})"):
        peft.get_peft_model(Varied(use), WaraConfig(r=2))


@pytest.mark.parametrize(
    ("use", "prefix_tokens"),
    [(lambda layer, x: layer(x), 1), (lambda layer, x: layer(x[:, 1:]), 0)],
    ids=["with-prefix", "patches-only"],
)
def test_the_stated_grid_is_taken_with_or_without_its_prefix(
    use: Callable[[nn.Module, Tensor], Tensor], prefix_tokens: int
) -> None:
    assert grids_of_layers(Varied(use), ["qkv"]) == {"qkv": (8, 8, prefix_tokens)}


class ReadsItsWeight(nn.Module):
    """Attention that multiplies by the weight of its first layer, and runs the last."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = nn.functional.linear(tokens, self.qkv.weight, self.qkv.bias).chunk(3, dim=-1)
        attended: Tensor = self.proj(nn.functional.scaled_dot_product_attention(query, key, value))
        return attended


def test_attention_that_reads_its_weight_is_refused_with_a_layer_that_is_run() -> None:
    model = Ordered(torch.arange(64))
    model.qkv = nn.Sequential()
    model.qkv.attn = ReadsItsWeight()
    before, layout = snapshot(model), outlines(model)

    with pytest.raises(
        AdapterError,
        match=r"^Layer 'qkv\.attn\.qkv': the model never runs it \(ReadsItsWeight reads its weight itself\), so an "
        r"adapter there would change nothing\. Give target_modules with a layer that is run, e\.g\. \['attn\.proj'\]\.",
    ):
        peft.get_peft_model(model, WaraConfig(r=2, target_modules=["attn.qkv"]))
    require_equal(snapshot(model), before)
    assert outlines(model) == layout

    adapted = peft.get_peft_model(model, WaraConfig(r=2, target_modules=["attn.proj"]))  # the remedy works
    assert {layer.grid for layer in adapted_layers(adapted).values()} == {(8, 8)}


def test_a_swin_that_reads_its_weight_runs_it_instead_and_gives_the_same_outputs() -> None:
    model = _swin_v2()
    images = torch.randn(2, 3, 32, 32)
    expected = model(images)

    adapted = peft.get_peft_model(model, WaraConfig(r=2)).eval()

    assert torch.equal(adapted(images), expected)
    assert {layer.grid for layer in adapted_layers(adapted).values()} == {(4, 4)}


def test_a_given_grid_does_not_put_an_adapter_into_a_layer_that_is_not_run() -> None:
    with pytest.raises(AdapterError, match=r"Layer 'qkv': the model never runs it"):
        peft.get_peft_model(Varied(lambda layer, x: x @ layer.weight.T), WaraConfig(r=2, grid=(8, 8)))


def test_packed_patches_of_any_aspect_are_refused_and_taken_with_a_grid() -> None:
    def naflex() -> nn.Module:
        torch.manual_seed(0)
        return timm.create_model(
            "naflexvit_base_patch16_gap", embed_dim=24, depth=1, num_heads=2, num_classes=2, patch_size=4
        ).eval()

    with pytest.raises(AdapterError, match=r"NaFlexVit packs patches of images of any aspect.* Give grid=\(rows, col"):
        peft.get_peft_model(naflex(), WaraConfig(r=2))

    model = peft.get_peft_model(naflex(), WaraConfig(r=2, grid=(4, 8), num_prefix_tokens=4))
    assert model(torch.randn(1, 3, 16, 32)).shape == (1, 2)


def test_an_outline_without_weights_takes_an_adapter_on_the_stated_grid(make_vit: MakeVit) -> None:
    with torch.device("meta"):
        outline = timm.models.VisionTransformer(
            img_size=(32, 64), patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=3, reg_tokens=2
        )
        model = peft.get_peft_model(outline, WaraConfig(r=2))

    assert {(layer.grid, layer.num_prefix_tokens) for layer in adapted_layers(model).values()} == {((8, 16), 3)}


def test_matrices_are_the_same_after_an_outline_was_made(make_vit: MakeVit) -> None:
    with torch.device("meta"):
        SubbandTransform((6, 10), "db3", 1)
    images = torch.randn(1, 3, 24, 40)

    model = peft.get_peft_model(make_vit(img_size=(24, 40)), WaraConfig(r=2, wavelet="db3", levels=1)).eval()

    assert torch.isfinite(model(images)).all()
    assert not any(buffer.is_meta for buffer in model.buffers())


def test_an_outline_of_windows_takes_an_adapter_as_well() -> None:
    model = _swin().to("meta")

    names = [f"layers.{stage}.blocks.0.attn.qkv" for stage in range(2)]
    assert list(grids_of_layers(model, names).values()) == [(4, 4, 0)] * 2


def test_a_hybrid_stands_on_the_grid_of_its_feature_map(make_vit: MakeVit) -> None:
    convolutions = nn.Sequential(*(nn.Conv2d(8 if i else 3, 8, 3, stride=2, padding=1) for i in range(3)))
    convolutions.num_features = 8  # type: ignore[assignment]

    def embed(img_size: Any, in_chans: int, embed_dim: int, **_: Any) -> nn.Module:
        return timm.layers.HybridEmbed(
            convolutions, img_size=img_size, patch_size=1, feature_size=(8, 8), feature_ratio=8, in_chans=in_chans,
            embed_dim=embed_dim,
        )  # fmt: skip

    model = make_vit(img_size=64, patch_size=1, embed_layer=embed)

    assert grids_of_layers(model, ["blocks.0.attn.qkv"]) == {"blocks.0.attn.qkv": (8, 8, 1)}
