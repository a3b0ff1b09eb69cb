"""Fixed matrices of a module that never carry more rounding than their dtype has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class ExactMatrices(nn.Module):
    """A module whose buffers are constants, known in float64.

    A module cast to bf16 and back, or to float64, must not carry rounded constants, so they are filled again from their
    float64 values after every cast or move. They are not saved: whoever makes the module makes them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._casts: dict[tuple[str, torch.dtype], Tensor] = {}

    def _exact(self) -> dict[str, Tensor]:
        """Return the constants by name, in float64."""
        raise NotImplementedError

    def _keep(self, dtype: torch.dtype, device: torch.device | None = None) -> None:
        for name, matrix in self._exact().items():
            self.register_buffer(name, matrix.to(device=device, dtype=dtype), persistent=False)

    def matrix(self, name: str, dtype: torch.dtype) -> Tensor:
        """Return a constant in a dtype. Each is rounded once and kept, but for graphs, which must not hold on to it."""
        held: Tensor = self._buffers[name]  # type: ignore[assignment]
        if held.dtype == dtype or torch.compiler.is_compiling():
            return held.to(dtype)
        if (name, dtype) not in self._casts:
            with torch.inference_mode(False):  # a step of training may be the next to use it
                self._casts[name, dtype] = held.to(dtype)
        return self._casts[name, dtype]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._casts.clear()
        for name, matrix in self._exact().items():
            held = self.get_buffer(name)
            if not held.is_meta:
                setattr(self, name, matrix.to(device=held.device, dtype=held.dtype))
        return self
