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


def token_grid(
    model: nn.Module, grid: tuple[int, int] | None = None, num_prefix_tokens: int | None = None
) -> TokenGrid:
    """Read the token grid from a timm vision transformer, or from another model that says it the same way.

    Args:
        model: a model with ``patch_embed.grid_size`` and ``num_prefix_tokens``, as timm's have; wrappers around it
            (PEFT's) are seen through.
        grid: rows and columns to use instead of the model's.
        num_prefix_tokens: number of prefix tokens to use instead of the model's.

    Raises:
        AdapterError: the model does not say what its token grid is.
    """
    for module in model.modules():
        size = getattr(getattr(module, "patch_embed", None), "grid_size", None)
        if size is None:
            continue
        grid = grid or (int(size[0]), int(size[1]))
        if num_prefix_tokens is None:
            num_prefix_tokens = int(getattr(module, "num_prefix_tokens", 0))
        break
    if grid is None:
        raise AdapterError(
            f"The model {type(model).__name__} has no patch_embed.grid_size, so its token grid is not known. "
            "Use a vision transformer of timm, or give grid=(rows, columns) and num_prefix_tokens in the config."
        )
    return TokenGrid(grid[0], grid[1], num_prefix_tokens or 0)
