"""Where an adapter starts, or what its few numbers stand for, by the gradients of the frozen weights."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from wara.tuner.layer import WaraLinear
from wara.tuner.tiny import TinyWaraLinear

WAYS = ("rows", "entries", "entries-anywhere", "basis")
_NAME = "default"


def place(model: nn.Module, way: str, gradients: dict[str, Tensor]) -> None:
    """Place a PEFT model's adapters by gradients (out, in) of their layers' weights, by the layers' names.

    Args:
        model: with new adapters of LoRA, WaRA or Tiny-WaRA.
        way: ``"rows"``: A's rows are the gradient's first right singular vectors, as long as they were on average
            (after LoRA-GA, arXiv:2407.05000, without its B). Of Tiny-WaRA, whose bases then are singular vectors alone:
            ``"entries"``: the u numbers stand where the gradient in the weight's basis is largest; the same with all
            layers' numbers together, ``"entries-anywhere"``; ``"basis"``: the basis is the gradient's.
        gradients: by name in the backbone.

    Raises:
        ValueError: a way that is not known or does not fit the method.
    """
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "base_layer")}
    found = {name: (layer, _of(name, gradients)) for name, layer in layers.items() if _is_adapter(layer)}
    if way == "rows" and found:
        for layer, gradient in found.values():
            _rows(layer, gradient)
    elif way in WAYS and found and all(isinstance(layer, TinyWaraLinear) for layer, _ in found.values()):
        cores = [_based(layer, gradient, of_gradient=way == "basis") for layer, gradient in found.values()]
        if way != "basis":
            _entries([layer for layer, _ in found.values()], cores, anywhere=way == "entries-anywhere")
    else:
        raise ValueError(f"place={way!r} for {sorted({type(layer).__name__ for layer, _ in found.values()})}")


def _is_adapter(layer: Any) -> bool:
    return isinstance(layer, WaraLinear | TinyWaraLinear) or hasattr(layer, "lora_A")


def _of(name: str, gradients: dict[str, Tensor]) -> Tensor:
    return gradients[name.removeprefix("base_model.model.")]


@torch.no_grad()
def _rows(layer: Any, gradient: Tensor) -> None:
    down = layer.wara_A[_NAME] if isinstance(layer, WaraLinear) else layer.lora_A[_NAME].weight
    right = torch.linalg.svd(gradient, full_matrices=False)[2][: len(down)]
    down.copy_(right.to(down) * down.norm(dim=1).mean())


@torch.no_grad()
def _based(layer: TinyWaraLinear, gradient: Tensor, *, of_gradient: bool) -> Tensor:
    """Give the layer singular vectors as its bases, and return the gradient between them (r, r)."""
    rank = layer.r[_NAME]
    matrix = gradient if of_gradient else layer.get_base_layer().weight.detach().float()
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    layer.wara_B[_NAME], layer.wara_A[_NAME] = left[:, :rank].contiguous(), right[:rank].contiguous()
    return left[:, :rank].T @ gradient @ right[:rank].T


@torch.no_grad()
def _entries(layers: list[TinyWaraLinear], cores: list[Tensor], *, anywhere: bool) -> None:
    """Let each layer's numbers be the entries of R where its core (r, r) is largest."""
    own = [len(layer.vector(_NAME)) for layer in layers]
    if anywhere:
        sizes = [core.numel() for core in cores]
        chosen = torch.cat([core.flatten().abs() for core in cores]).topk(sum(own)).indices
        starts = torch.tensor([0, *sizes]).cumsum(0)
        places = [chosen[(chosen >= a) & (chosen < b)] - a for a, b in pairwise(starts)]
    else:
        places = [core.flatten().abs().topk(count).indices for core, count in zip(cores, own, strict=True)]
    for layer, core, where in zip(layers, cores, places, strict=True):
        rank = len(core)
        unit = torch.zeros(len(where), rank * rank)
        unit[torch.arange(len(where)), where.cpu()] = 1.0
        layer.wara_P[_NAME] = unit.reshape(-1, rank, rank)
        layer.wara_v[_NAME] = nn.Parameter(torch.zeros(len(where)))
