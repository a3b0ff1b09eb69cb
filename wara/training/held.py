"""Weights held in bfloat16 beside a model that no longer changes, so that autocast casts none at every forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from wara.training.class_token import base_of


class HeldCasts:
    """What autocast makes of the weights of linear layers and convolutions, made once.

    The model keeps its own weights, for explanations and whatever else looks at it in float32. What is held takes half
    as much memory again. Answers are the same to the last bit: autocast rounds the same numbers in the same way.

    Args:
        model: trained to its end, or a PEFT model; later changes of its weights are not seen. Of other kinds than
            timm's plain vision transformer nothing is held: what they do with their weights is not known here.
    """

    def __init__(self, model: nn.Module) -> None:
        self._held: list[tuple[nn.Module, str, nn.Parameter, nn.Parameter]] = []
        if type(base_of(model)) is not VisionTransformer:
            return
        self._held = [
            (module, name, weight, nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False))
            for module in model.modules()
            if type(module) in (nn.Linear, nn.Conv2d)
            for name, weight in module.named_parameters(recurse=False)
            if weight.dtype == torch.float32
        ]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have them inside a ``with`` block, in which only passes under autocast to bfloat16 may run.

        No other thread may use the model meanwhile.
        """
        try:
            for module, name, _, cast in self._held:
                module._parameters[name] = cast  # setattr takes ten times as long, and a model has many
            yield
        finally:
            for module, name, weight, _ in self._held:
                module._parameters[name] = weight
