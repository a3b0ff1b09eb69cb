"""Where a model looked for a class, by gradient-weighted attention, to stand beside the adapter's own maps.

Source: Chefer, Gur and Wolf 2021, *Generic Attention-model Explainability*, arXiv:2103.15679, self-attention: with A
the attention of a block and f the score, ``Abar = mean over heads of max(A * df/dA, 0)`` and ``R <- R + Abar R``,
from the identity on. Rollout (Abnar and Zuidema 2020, arXiv:2005.00928) is the same without
gradients, and blind to the class.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from wara.errors import InputError
from wara.tuner import token_grid


def attention_relevance(model: nn.Module, images: Tensor, target: Tensor, against: Tensor) -> Tensor:
    """Return how much each patch counted for a class, by gradient-weighted attention: (B, H, W), 0 or more.

    Read from the class token's row, or averaged over the rows of all patches where the model has no class token.

    Args:
        model: a ViT-like model; fused attention is off meanwhile, since it never makes the attention matrix.
        images: (B, 3, height, width), as the model takes them.
        target: (B,) class of each image.
        against: (B,) class whose score is subtracted, -1 for none.

    Raises:
        InputError: the model's attention is not one matrix over all tokens of the picture (windows, stages, none).
    """
    grid = token_grid(model)
    device = images.device.type
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        with _attention_of(model) as seen:
            logits = model(images.clone().requires_grad_()).float()
        if not seen or any(a.dim() != 4 or a.shape[-2:] != (grid.num_tokens, grid.num_tokens) for a in seen):
            shape = f"attention of shape {tuple(seen[0].shape[1:])}" if seen else "no attention matrix"
            raise InputError(
                "This model's attention does not reach over the whole picture, so no map can be made of it",
                seen=shape, remedy="Use a model on a ViT, DeiT or DINOv2 backbone.", code="attention-no-map",
            )  # fmt: skip
        other = logits.gather(1, against.clamp(min=0)[:, None])[:, 0] * (against >= 0)
        score = (logits.gather(1, target[:, None])[:, 0] - other).sum()
        gradients = torch.autograd.grad(score, seen)
    reached = torch.eye(grid.num_tokens, device=images.device).expand(len(images), -1, -1)
    for attention, gradient in zip(seen, gradients, strict=True):
        weighted = (attention.detach() * gradient).clamp(min=0).mean(dim=1)
        reached = reached + weighted @ reached
    prefix = grid.num_prefix_tokens
    rows = reached[:, 0] if _reads_class_token(model, prefix) else reached[:, prefix:].mean(dim=1)
    if not _reads_class_token(model, prefix):
        # The identity that the sum starts from gives every patch the same 1 / N of itself.
        rows = rows - 1 / (grid.height * grid.width)
    return rows[:, prefix:].reshape(-1, grid.height, grid.width).clamp(min=0).float().cpu()


def _reads_class_token(model: nn.Module, prefix: int) -> bool:
    pooling = next((m.global_pool for m in model.modules() if isinstance(getattr(m, "global_pool", None), str)), "")
    return prefix > 0 and pooling in ("", "token")


@contextmanager
def _attention_of(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the attention matrices (B, heads, T, T) of a pass, in order; timm drops out just after softmax."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            seen.append(output)

    blocks = [m for m in model.modules() if isinstance(getattr(m, "attn_drop", None), nn.Module)]
    fused = [(block, block.fused_attn) for block in blocks if hasattr(block, "fused_attn")]
    handles = [block.attn_drop.register_forward_hook(keep) for block in blocks]  # type: ignore[union-attr]
    try:
        for block, _ in fused:
            setattr(block, "fused_attn", False)  # noqa: B010  # timm's plain attribute
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        for block, was in fused:
            setattr(block, "fused_attn", was)  # noqa: B010
