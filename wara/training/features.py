"""What the last layer of a model sees of each image: its input, caught while the model runs."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wara.backbones import Backbone
from wara.training.class_token import base_of


class HeadInputs:
    """Keeps the inputs of the classifier head of every forward pass inside a ``with`` block.

    Args:
        model: the model, with or without an adapter.
        backbone: says which module the head is.
    """

    def __init__(self, model: nn.Module, backbone: Backbone) -> None:
        self._head: nn.Module = base_of(model).get_submodule(backbone.head)
        self._caught = threading.local()
        self._hook: Any = None

    def __enter__(self) -> Self:
        """Begin to keep."""
        self._hook = self._head.register_forward_pre_hook(self._keep)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop keeping."""
        self._hook.remove()

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen = inputs[0].detach().float()
        while seen.dim() > 2:  # positions that the head pools itself
            seen = seen.mean(dim=1)
        self._caught.__dict__.setdefault("inputs", []).append(seen.cpu())

    def array(self) -> NDArray[np.float64]:
        """Return the inputs (n, d) of this thread's passes, in the order of the images."""
        caught: list[Tensor] = self._caught.__dict__.get("inputs", [])
        return torch.cat(caught).double().numpy() if caught else np.zeros((0, 0))
