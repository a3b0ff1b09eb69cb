"""Where a model's patch tokens stand: the grid, and the tokens in front of it."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from wara.tuner.errors import AdapterError


class TokenGrid(NamedTuple):
    """Rows and columns of the patch tokens, and the number of class and register tokens in front of them."""

    height: int
    width: int
    num_prefix_tokens: int

    @property
    def num_tokens(self) -> int:
        """All tokens: prefix and patches."""
        return self.num_prefix_tokens + self.height * self.width


def embedding_of(model: nn.Module) -> nn.Module | None:
    """Return the module that says what the model's patch grid is, the one that holds ``patch_embed.grid_size``."""
    for module in model.modules():
        if getattr(getattr(module, "patch_embed", None), "grid_size", None) is not None:
            return module
    return None


def declared_grid(model: nn.Module) -> TokenGrid | None:
    """Return the token grid that a model states by ``patch_embed.grid_size`` and ``num_prefix_tokens``, if any."""
    holder = embedding_of(model)
    if holder is None:
        return None
    height, width = holder.patch_embed.grid_size  # type: ignore[union-attr, misc]
    return TokenGrid(int(height), int(width), int(getattr(holder, "num_prefix_tokens", None) or 0))


def token_grid(
    model: nn.Module, grid: tuple[int, int] | None = None, num_prefix_tokens: int | None = None
) -> TokenGrid:
    """Read the token grid from a timm vision transformer, or from another model that states it the same way.

    Args:
        model: a model with ``patch_embed.grid_size`` and ``num_prefix_tokens``, as timm's have; wrappers around it
            (PEFT's) are seen through.
        grid: rows and columns to use instead of the model's.
        num_prefix_tokens: number of prefix tokens to use instead of the model's.

    Raises:
        AdapterError: the model does not say what its token grid is.
    """
    declared = declared_grid(model)
    if declared is None and grid is None:
        raise AdapterError(
            f"The model {type(model).__name__} has no patch_embed.grid_size, so its token grid is not known. "
            "Use a vision transformer of timm, or give grid=(rows, columns) and num_prefix_tokens in the config."
        )
    height, width = grid or declared[:2]  # type: ignore[index]
    if num_prefix_tokens is None:
        num_prefix_tokens = declared.num_prefix_tokens if declared else 0
    return TokenGrid(height, width, num_prefix_tokens)
