"""Adapters placed by gradients: the gradients are autograd's, and what is placed by them starts as the backbone."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import peft
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from benchmarks.study.gradients import fitted_head, weight_gradients
from benchmarks.study.placing import place
from wara.backbones import Backbone, load_backbone
from wara.tuner import TinyWaraConfig, WaraConfig


def backbone() -> Backbone:
    torch.manual_seed(0)
    return load_backbone("vit_tiny_untrained", 2, image_size=64)


class Stored:
    """Batches of images that lie in memory."""

    def __init__(self, count: int = 6) -> None:
        self.images = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        self.targets, self.device = torch.arange(count) % 2, torch.device("cpu")

    def __len__(self) -> int:
        return len(self.targets)

    def evaluation(self) -> Any:
        yield from zip(self.images.split(4), self.targets.split(4), strict=True)


def found(some: Backbone) -> dict[str, torch.Tensor]:
    batches: Any = Stored()
    return weight_gradients(some, batches, "float32")


def test_gradients_are_those_of_one_batch_under_the_fitted_head_and_leave_the_backbone_alone() -> None:
    some, batches = backbone(), Stored()
    before = {name: value.clone() for name, value in some.model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in some.model.parameters()]
    gradients = found(some)
    assert all(torch.equal(value, before[name]) for name, value in some.model.state_dict().items())
    assert [parameter.requires_grad for parameter in some.model.parameters()] == flags
    assert all(parameter.grad is None for parameter in some.model.parameters())
    model: Any = copy.deepcopy(some.model).requires_grad_(True)
    with torch.no_grad():
        features = model.forward_head(model.forward_features(batches.images), pre_logits=True)
        weight, bias = fitted_head(features.numpy(), batches.targets.numpy(), 2)
    head = model.get_submodule(some.head)
    head.weight.data, head.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
    F.cross_entropy(model(batches.images), batches.targets).backward()
    assert set(gradients) >= {"blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2"}
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, model.get_submodule(name).weight.grad, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_fitted_head_is_a_logistic_regression_on_features_as_they_are(classes: int) -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.normal(3, 2, (30, 4)), np.arange(30) % classes
    weight, bias = fitted_head(features, targets, classes)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    expected = LogisticRegression(C=0.01, max_iter=1000).fit(scaled, targets).predict_proba(scaled)
    logits = torch.from_numpy(features @ weight.T + bias)
    assert np.allclose(logits.softmax(dim=1).numpy(), expected, atol=1e-3)


def test_a_class_without_images_gets_no_chance() -> None:
    weight, bias = fitted_head(np.random.default_rng(0).normal(size=(8, 3)), np.arange(8) % 2 * 2, 3)
    assert (weight[1] == 0).all()
    assert bias[1] == -10


def tiny(some: Backbone, rank: int, u: int) -> Any:
    return peft.get_peft_model(some.model, TinyWaraConfig(r=rank, u=u, gains="none", modules_to_save=[some.head]))


def test_rows_of_a_are_the_gradients_first_directions_as_long_as_before() -> None:
    some = backbone()
    gradients = found(some)
    model = peft.get_peft_model(some.model, WaraConfig(r=3))
    layer: Any = model.get_submodule("base_model.model.blocks.0.attn.qkv")
    length = layer.wara_A["default"].norm(dim=1).mean()
    place(model, "rows", gradients)
    right = torch.linalg.svd(gradients["blocks.0.attn.qkv"], full_matrices=False)[2][:3]
    assert torch.allclose(layer.wara_A["default"].abs(), right.abs() * length, atol=1e-5)


def test_a_basis_of_the_gradient_holds_its_largest_part() -> None:
    some = backbone()
    gradients = found(some)
    model = tiny(some, 3, 9)
    place(model, "basis", gradients)
    layer: Any = model.get_submodule("base_model.model.blocks.0.attn.qkv")
    gradient = gradients["blocks.0.attn.qkv"]
    core = layer.wara_B["default"].T @ gradient @ layer.wara_A["default"].T
    assert torch.allclose(core, torch.diag(torch.linalg.svdvals(gradient)[:3]), atol=1e-5)


@pytest.mark.parametrize("way", ["entries", "entries-anywhere"])
def test_entries_stand_where_the_gradient_in_the_weights_basis_is_largest(way: str) -> None:
    some = backbone()
    gradients = found(some)
    model = tiny(some, 6, 2)
    place(model, way, gradients)
    sizes = {}
    for name, layer in model.named_modules():
        if hasattr(layer, "wara_P"):
            unit = layer.wara_P["default"]
            core = layer.wara_B["default"].T @ gradients[name.removeprefix("base_model.model.")]
            core = (core @ layer.wara_A["default"].T).abs()
            chosen = (unit * core).sum((1, 2))
            assert len(chosen) == len(layer.wara_v["default"])
            assert way == "entries-anywhere" or torch.equal(chosen, core.flatten().topk(2).values)
            sizes[name] = (chosen, core.flatten())
    if way == "entries-anywhere":
        every = torch.cat([core for _, core in sizes.values()]).topk(2 * len(sizes)).values
        assert torch.equal(torch.cat([chosen for chosen, _ in sizes.values()]).sort(descending=True).values, every)


def test_a_way_that_does_not_fit_the_method_is_refused() -> None:
    model: Any = SimpleNamespace(named_modules=lambda: iter([]))
    with pytest.raises(ValueError, match="place='columns'"):
        place(model, "columns", {})
    some = backbone()
    with pytest.raises(ValueError, match="WaraLinear"):
        place(peft.get_peft_model(some.model, WaraConfig(r=3)), "basis", dict.fromkeys(_names(some), torch.zeros(2, 2)))


def _names(some: Backbone) -> list[str]:
    return [name for name, _ in some.model.named_modules()] + [
        name.removesuffix(".base_layer") for name, _ in some.model.named_modules()
    ]
