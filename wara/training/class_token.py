"""The last block of a vision transformer without the work that cannot reach the answer.

A head that reads the class token alone leaves the last block's other outputs unused: only their keys and values count.
Attention with one query, and one token through the projection and the perceptron, give the same answer and the same
gradients; of a model of seven blocks a ninth of all work is saved, of one of twelve a fifteenth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import peft
import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from wara.training.device import autocast
from wara.tuner.layer import SubbandLayer


@contextlib.contextmanager
def answering(model: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """Run a model for its answer alone inside a ``with`` block: at a precision, without what cannot reach the answer.

    Args:
        model: a timm model, or a PEFT model of one.
        device: where it is.
        precision: ``"auto"``, ``"float32"`` or ``"bfloat16"``.
    """
    with autocast(device, precision), class_token_only(model):
        yield


@contextlib.contextmanager
def class_token_only(model: nn.Module) -> Iterator[None]:
    """Let the last block of a model give the class token alone, (B, 1, d), inside a ``with`` block.

    Models of other kinds, and those whose head reads other tokens too, run as they are. Inside, ``forward_features``
    and the last block give one token; the last ``attn`` and what is in it are passed by, but for its linear layers, and
    but where its projection has an adapter that looks at the grid.

    Args:
        model: a timm model, or a PEFT model of one.
    """
    block = _last_block(model)
    if block is None:
        yield
        return
    block.forward = _ClassTokenForward(block)
    try:
        yield
    finally:
        del block.forward


def base_of(model: nn.Module) -> nn.Module:
    """Return the timm model inside a PEFT model, or the model itself."""
    return cast(nn.Module, cast(Any, model).get_base_model()) if isinstance(model, peft.PeftModel) else model


def _last_block(model: nn.Module) -> Any:
    base: Any = base_of(model)
    # Exactly these classes: what a subclass computes is not known here.
    if type(base) is not VisionTransformer or base.global_pool != "token" or base.attn_pool is not None:
        return None
    block: Any = base.blocks[-1]
    if type(block) is not Block or type(block.attn) is not Attention or block.attn.gate is not None:
        return None
    # An adapter in the perceptron looks at the grid of tokens.
    if any(isinstance(module, SubbandLayer) for module in block.mlp.modules()):
        return None
    return None if "forward" in vars(block) else block


class _ClassTokenForward:
    """`Block.forward` for the first token: (B, N, d) -> (B, 1, d)."""

    def __init__(self, block: Block) -> None:
        self._block = block

    def __call__(self, x: Tensor) -> Tensor:
        block = self._block
        x = x[:, :1] + block.drop_path1(block.ls1(self._attention(block.norm1(x))))
        output: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return output

    def _attention(self, x: Tensor) -> Tensor:
        attention: Any = self._block.attn
        if isinstance(attention.proj, SubbandLayer):
            every: Tensor = attention(x)  # the adapter there looks at the grid of what was gathered
            return every[:, :1]
        images, tokens, _ = x.shape
        # All tokens go through qkv: an adapter there may look at the grid.
        qkv = attention.qkv(x).reshape(images, tokens, 3, attention.num_heads, attention.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = attention.q_norm(q[:, :, :1]), attention.k_norm(k)
        weights = attention.attn_drop(((q * attention.scale) @ k.transpose(-2, -1)).softmax(dim=-1))
        seen = (weights @ v).transpose(1, 2).reshape(images, 1, attention.attn_dim)
        output: Tensor = attention.proj_drop(attention.proj(attention.norm(seen)))
        return output
