"""Every grid: the layer computes the written form on it, and follows images of another size."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import peft
import pytest
import timm
import torch
from torch import Tensor, nn

from tests.wara.support import MakeVit
from tests.wara.tuner.written import passing, stirred, written_update
from wara.tuner import AdapterError, TinyWaraConfig, WaraConfig, adapted_layers
from wara.tuner.layer import SubbandLayer, WaraLinear
from wara.tuner.tokens import GridWatch, ImageWatch, TokenTransform


def adapted(base: nn.Module, **options: Any) -> nn.Module:
    return stirred(peft.get_peft_model(base, WaraConfig(**{"r": 3, "init_weights": False, **options})))


def drawn(height: int, width: int, number: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, 3, height, width, generator=generator, dtype=torch.float64)


def require_written(model: nn.Module, images: Tensor, grid: tuple[int, int], prefix_tokens: int) -> Tensor:
    """Run images; what every adapter adds must be the written form on the grid. Return the model's output."""
    with passing(model) as seen, torch.no_grad():
        output: Tensor = model(images)
        layers = adapted_layers(model)
        assert seen.keys() == layers.keys()
        for name, calls in seen.items():
            for x, update in calls:
                expected = written_update(layers[name].module, x, grid, prefix_tokens)  # type: ignore[arg-type]
                torch.testing.assert_close(update, expected, atol=1e-10, rtol=1e-9)
    return output


def _distilled(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.models.deit.VisionTransformerDistilled(
        img_size=32, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=3, **options
    ).eval()


GRIDS: list[tuple[dict[str, Any], dict[str, Any], tuple[int, int], int]] = [
    ({"img_size": 224, "patch_size": 16}, {}, (14, 14), 1),
    ({"img_size": 224, "patch_size": 16}, {"wavelet": "db2", "levels": 3, "activation": "gelu"}, (14, 14), 1),
    ({"img_size": 28}, {"wavelet": "bior2.2", "levels": 2}, (7, 7), 1),
    ({"img_size": 28}, {"levels": 3, "activation": "soft-threshold"}, (7, 7), 1),
    ({"img_size": 64, "reg_tokens": 4}, {"wavelet": "sym4", "mode": "zero"}, (16, 16), 5),
    ({"img_size": 64, "reg_tokens": 4, "no_embed_class": True}, {"mode": "periodization"}, (16, 16), 5),
    ({"img_size": (32, 64)}, {"wavelet": "coif1", "gains": "subband-rank"}, (8, 16), 1),
    ({"img_size": (20, 36)}, {"wavelet": "db2", "mode": "zero"}, (5, 9), 1),
    ({"img_size": (8, 16)}, {"grid": (2, 4), "num_prefix_tokens": 1}, (2, 4), 1),
    ({"class_token": False, "global_pool": "avg"}, {"activation": "gelu"}, (8, 8), 0),
    ({"class_token": False, "reg_tokens": 2, "global_pool": "avg"}, {}, (8, 8), 2),
    ({"patch_size": 16}, {}, (2, 2), 1),
]


@pytest.mark.parametrize(
    ("of_model", "of_adapter", "grid", "prefix_tokens"), GRIDS, ids=lambda v: str(v) if isinstance(v, tuple) else ""
)
def test_the_adapter_is_the_written_form_on_the_grid_of_the_model(
    make_vit: MakeVit, of_model: dict[str, Any], of_adapter: dict[str, Any], grid: tuple[int, int], prefix_tokens: int
) -> None:
    base = make_vit(**of_model)
    size: Any = base.patch_embed.img_size  # type: ignore[union-attr]

    require_written(adapted(base, **of_adapter), drawn(*size, number=2), grid, prefix_tokens)


def test_a_grid_of_37_by_37_goes_through_thin_matrices(make_vit: MakeVit) -> None:
    model = adapted(make_vit(img_size=148, depth=1, reg_tokens=4), wavelet="db2", activation="soft-threshold")
    (layer,) = adapted_layers(model).values()

    assert layer.transform is not None and layer.transform.separable
    require_written(model, drawn(148, 148), (37, 37), 5)


def test_a_distillation_token_stands_in_front_of_the_grid_like_the_class_token() -> None:
    model = adapted(_distilled())

    require_written(model, drawn(32, 32), (8, 8), 2)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_images_of_another_size_and_aspect_are_told_apart(make_vit: MakeVit, wavelet: str) -> None:
    model = adapted(make_vit(dynamic_img_size=True), wavelet=wavelet)
    # 8 x 8, 4 x 16 and 16 x 4 have 64 tokens each: only the grid tells them apart.
    for height, width in ((32, 32), (16, 64), (64, 16), (28, 52), (32, 32)):
        require_written(model, drawn(height, width), (height // 4, width // 4), 1)


def test_a_wrong_grid_with_as_many_tokens_would_be_another_function(make_vit: MakeVit) -> None:
    model = adapted(make_vit(dynamic_img_size=True))
    layer = next(module for module in model.modules() if isinstance(module, WaraLinear))
    x = torch.randn(1, 65, 24, dtype=torch.float64)

    with torch.no_grad():
        square, oblong = written_update(layer, x, (8, 8), 1), written_update(layer, x, (4, 16), 1)

    assert float((square - oblong).abs().max()) > 0.1 * float(square.abs().max())


def test_gradients_follow_the_images_to_another_grid(make_vit: MakeVit) -> None:
    model = adapted(make_vit(dynamic_img_size=True)).train()
    layer: Any = next(module for module in model.modules() if isinstance(module, WaraLinear))
    model(drawn(16, 64))
    x = torch.randn(2, 65, 24, dtype=torch.float64)
    learned = [layer.wara_A["default"], layer.wara_B["default"], layer.wara_gain["default"]]

    found = torch.autograd.grad(layer.update(x, "default").square().sum(), learned)
    expected = torch.autograd.grad(written_update(layer, x, (4, 16), 1).square().sum(), learned)

    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)


def test_an_image_too_small_for_the_depth_is_refused_with_both_and_the_next_one_passes(make_vit: MakeVit) -> None:
    model = adapted(make_vit(dynamic_img_size=True), levels=3)
    expected = model(drawn(32, 32))

    with pytest.raises(AdapterError, match=r"cannot follow the images .* levels=3 does not fit a token grid of 2 x 16"):
        model(drawn(8, 64))

    assert torch.equal(model(drawn(32, 32)), expected)


def test_a_model_set_to_another_input_size_takes_its_adapter_along(make_vit: MakeVit) -> None:
    model = adapted(make_vit(), wavelet="db2")
    model.get_base_model().set_input_size((48, 64))  # type: ignore[operator]
    model.double()

    require_written(model, drawn(48, 64), (12, 16), 1)

    model.get_base_model().set_input_size((16, 64))  # type: ignore[operator]
    require_written(model.double(), drawn(16, 64), (4, 16), 1)


def test_a_cast_model_follows_images_to_another_size_in_its_new_dtype(make_vit: MakeVit) -> None:
    model = adapted(make_vit(dynamic_img_size=True))
    expected = model(drawn(16, 64))

    found = model.float()(drawn(16, 64).float())

    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_a_copy_watches_its_own_patch_embedding(make_vit: MakeVit, duplicate: Any) -> None:
    model = adapted(make_vit(dynamic_img_size=True))
    model(drawn(32, 32))
    twin = duplicate(model)

    for each in (model, twin):
        hooks = list(each.get_base_model().patch_embed._forward_hooks.values())
        (path,) = (module for module in each.modules() if isinstance(module, TokenTransform))
        assert [hook for hook in hooks if isinstance(hook, GridWatch)] == [path.watch]
    expected = require_written(twin, drawn(16, 64), (4, 16), 1)
    model(drawn(64, 16))  # must not change what the copy sees
    layer = next(module for module in twin.modules() if isinstance(module, SubbandLayer))
    assert layer.wara_transform["default"].at_present().grid[:2] == (4, 16)  # type: ignore[operator]
    assert torch.equal(twin(drawn(16, 64)), expected)


def test_two_adapters_and_all_layers_share_one_watch(make_vit: MakeVit) -> None:
    model = adapted(make_vit(dynamic_img_size=True), target_modules=["qkv", "attn.proj", "fc1"])
    model.add_adapter("other", WaraConfig(r=2, wavelet="db2"))

    assert sum(isinstance(h, GridWatch) for h in model.get_base_model().patch_embed._forward_hooks.values()) == 1
    require_written(model, drawn(16, 64), (4, 16), 1)


@pytest.mark.parametrize("leave", ["unload", "merge_and_unload"])
@pytest.mark.parametrize("kind", [WaraConfig, TinyWaraConfig])
def test_no_hook_is_left_after_the_adapter_is_out(make_vit: MakeVit, kind: Any, leave: str) -> None:
    model = peft.get_peft_model(make_vit(dynamic_img_size=True), kind(r=3))
    assert model.get_base_model().patch_embed._forward_hooks

    bare = getattr(model, leave)()

    assert not any(module._forward_hooks or module._forward_pre_hooks for module in bare.modules())


def _pyramid() -> nn.Module:
    """Stages of 16 x 16, 8 x 8, 4 x 4 and 2 x 2 tokens, which the model does not state."""
    torch.manual_seed(0)
    model = timm.models.PyramidVisionTransformerV2(
        depths=(1, 1, 1, 1), embed_dims=(8, 8, 16, 16), num_heads=(1, 1, 2, 2), sr_ratios=(1, 1, 1, 1), num_classes=2
    )
    model.pretrained_cfg = {"input_size": (3, 64, 64)}
    return model.eval()


def test_grids_of_stages_grow_with_the_images() -> None:
    model = adapted(_pyramid(), target_modules=["q"], levels=1)
    layers = adapted_layers(model)
    assert [layer.grid for layer in layers.values()] == [(16, 16), (8, 8), (4, 4), (2, 2)]

    for height, width in ((64, 64), (64, 256), (128, 128), (72, 100)):
        with passing(model) as seen, torch.no_grad():
            model(drawn(height, width))
        for stage, (name, layer) in enumerate(layers.items()):
            ((x, update),) = seen[name]
            grid = -(-height // (4 * 2**stage)), -(-width // (4 * 2**stage))
            assert x.shape[1] == grid[0] * grid[1]
            expected = written_update(layer.module, x, grid, 0).detach()  # type: ignore[arg-type]
            torch.testing.assert_close(update, expected, atol=1e-10, rtol=1e-9)


def test_a_copy_of_a_model_in_stages_watches_its_own_images() -> None:
    model = adapted(_pyramid(), target_modules=["q"], levels=1)
    twin = copy.deepcopy(model)
    for each in (model, twin):
        (watch,) = each.get_base_model()._forward_pre_hooks.values()
        assert isinstance(watch, ImageWatch)
        paths = [module for module in each.modules() if isinstance(module, TokenTransform)]
        assert paths and all(path.watch is watch for path in paths)

    bare = twin.unload()

    assert not any(module._forward_hooks or module._forward_pre_hooks for module in bare.modules())
    assert len(model.get_base_model()._forward_pre_hooks) == 1
