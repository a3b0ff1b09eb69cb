"""Frozen layers and attention in bfloat16 on a CPU, without what autocast and autograd copy around them.

Autocast makes a bfloat16 copy of every weight in every step, although frozen ones never change, and one of a block's
normalised tokens for each layer that reads them. A linear layer's bias is copied into its output before the product is
added to it. Attention spends more on putting queries, keys and values into order, forth and back, than on some of its
products. Inside `lean` all of this is left out; numbers are rounded where autocast rounds them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.layers.norm import LayerNorm
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wara.training.class_token import base_of
from wara.training.device import is_bfloat16
from wara.training.patches import PixelPatches, is_plain
from wara.tuner.folded import FoldedLayer, is_foldable
from wara.tuner.layer import SubbandLayer


class ShortWays:
    """Short ways through a model's frozen linear layers and convolutions and its attention, made once.

    The model keeps its own weights; what is held in bfloat16 takes half as much memory again. What is done to frozen
    weights afterwards is not seen.

    Args:
        model: a timm model, or a PEFT model of one, on a CPU.
        pixels: mean and std by which its images are normalised, of pixels in 0..1; then pixels may take the place of
            images (see `wara.training.patches`) where ``takes_pixels`` says so.
        trained: whether training is over, so that adapters change no more either; then nothing can be learned inside.
    """

    def __init__(
        self, model: nn.Module, pixels: tuple[Sequence[float], Sequence[float]] | None = None, *, trained: bool = False
    ) -> None:
        found = ((module, _short_way(module)) for module in model.modules())
        ways = {module: way for module, way in found if way is not None}
        for module in model.modules():
            if type(module) is Block:
                norms = cast(list[nn.LayerNorm], [module.norm1, module.norm2])
                ways |= {norm: _PlainNorm(norm) for norm in norms if type(norm) in (nn.LayerNorm, LayerNorm)}
            elif trained and isinstance(module, SubbandLayer) and is_foldable(module):
                ways[module] = FoldedLayer(module, torch.bfloat16)
            elif type(module) is Mlp and _is_plain_mlp(module):
                first, second = (ways.get(layer) for layer in cast(list[nn.Module], [module.fc1, module.fc2]))
                if isinstance(first, _FrozenLinear) and isinstance(second, _FrozenLinear):
                    ways[module] = _FrozenMlp(module, first, second)
        base = base_of(model)
        self.takes_pixels = (
            pixels is not None and type(base) is VisionTransformer and is_plain(cast(nn.Module, base.patch_embed))
        )
        if pixels is not None and self.takes_pixels:
            embed = cast(PatchEmbed, base.patch_embed)
            ways[embed] = PixelPatches(embed, *pixels)
        self._ways = list(ways.items())

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model take them inside a ``with`` block, for passes under autocast to bfloat16. May be nested.

        No other thread may use the model meanwhile.
        """
        changed = []
        try:
            for module, way in self._ways:
                if "forward" not in vars(module):
                    vars(module)["forward"] = way  # setattr takes ten times as long, and a model has many
                    changed.append(module)
            yield
        finally:
            for module in changed:
                del vars(module)["forward"]


def lean(model: nn.Module, device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context in which a model takes its short ways, where it is on a CPU and runs in bfloat16.

    Args:
        model: a timm model, or a PEFT model of one.
        device: where it is.
        precision: ``"auto"``, ``"float32"`` or ``"bfloat16"``.
    """
    # On graphics cards casts and copies cost next to nothing, and memory is scarcer.
    if device.type == "cpu" and is_bfloat16(device, precision):
        return ShortWays(model).in_place()
    return contextlib.nullcontext()


def _short_way(module: nn.Module) -> Any:
    # Exactly these classes: what a subclass computes is not known here.
    frozen = not any(p.requires_grad for p in module.parameters(recurse=False))
    if type(module) is nn.Linear and frozen:
        return _FrozenLinear(module)
    if type(module) is nn.Conv2d and frozen and module.padding_mode == "zeros":
        return _FrozenConv(module)
    if type(module) is Attention and _is_plain_attention(module):
        return _PlainAttention(module)
    return None


def _is_plain_mlp(mlp: Mlp) -> bool:
    gelu = type(mlp.act) is nn.GELU and mlp.act.approximate == "none"
    return gelu and isinstance(mlp.norm, nn.Identity) and mlp.drop1.p == mlp.drop2.p == 0


def _is_plain_attention(attention: Attention) -> bool:
    norms = (attention.q_norm, attention.k_norm)
    return attention.gate is None and all(isinstance(norm, nn.Identity) for norm in norms)


def _cast(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.detach().to(torch.bfloat16)


class _FrozenConv:
    """`nn.Conv2d.forward` with weights kept in bfloat16."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self._layer, self._weight, self._bias = layer, cast(Tensor, _cast(layer.weight)), _cast(layer.bias)

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = self._layer._conv_forward(x, self._weight, self._bias)  # autocast rounds x
        return found


class _FrozenLinear:
    """`nn.Linear.forward` with weights kept in bfloat16: (..., in) -> (..., out) bfloat16."""

    def __init__(self, layer: nn.Linear) -> None:
        self.weight, self.bias = cast(Tensor, _cast(layer.weight)), _cast(layer.bias)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(torch.bfloat16)
        if x.requires_grad and torch.is_grad_enabled():
            return cast(Tensor, _Linear.apply(x, self.weight, self.bias))
        return _linear(x, self.weight, self.bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return F.linear(x, weight)
    # oneDNN's own layer adds the bias while it writes the product; F.linear first fills the output with it.
    rows = x.reshape(-1, x.shape[-1])
    found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    # No view to autograd, so that an adapter may add to it in its place: nobody else holds `found`.
    whole: Tensor = torch.ops.aten._unsafe_view(found, (*x.shape[:-1], len(weight)))
    return whole


class _Linear(torch.autograd.Function):
    """A frozen linear layer: a gradient for its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return _linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient @ ctx.weight, None, None


class _FrozenMlp:
    """`Mlp.forward` with weights kept in bfloat16, where it is trained through; else layer by layer."""

    def __init__(self, mlp: Mlp, first: _FrozenLinear, second: _FrozenLinear) -> None:
        self._mlp = mlp
        self._weights = (first.weight, first.bias, second.weight, second.bias)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(torch.bfloat16)
        if x.requires_grad and torch.is_grad_enabled():
            return cast(Tensor, _Mlp.apply(x, *self._weights))
        found: Tensor = Mlp.forward(self._mlp, x)
        return found


class _Mlp(torch.autograd.Function):
    """Two frozen linear layers with GELU between them; its gradient takes the place of the one before it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None) -> Tensor:
        hidden = _linear(x, w1, b1)
        ctx.save_for_backward(hidden)
        ctx.weights = w1, w2
        return _linear(F.gelu(hidden), w2, b2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (hidden,), (w1, w2) = ctx.saved_tensors, ctx.weights
        of_hidden = gradient @ w2
        torch.ops.aten.gelu_backward.grad_input(of_hidden, hidden, grad_input=of_hidden)
        return of_hidden @ w1, None, None, None, None


class _PlainNorm:
    """`nn.LayerNorm.forward` of a block, in float32, given on in bfloat16: all that reads it would cast it."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self._norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        norm = self._norm
        return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(torch.bfloat16)


class _PlainAttention:
    """`Attention.forward` where it is trained through without fused attention, mask and dropout; else as it was."""

    def __init__(self, attention: Attention) -> None:
        self._attention = attention

    def __call__(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        attention: Any = self._attention
        dropped = attention.training and attention.attn_drop.p > 0
        if attention.fused_attn or attn_mask is not None or is_causal or dropped or not torch.is_grad_enabled():
            return cast(Tensor, type(attention).forward(attention, x, attn_mask=attn_mask, is_causal=is_causal))
        qkv = attention.qkv(x).to(torch.bfloat16)
        seen = attend(qkv, attention.num_heads, attention.scale)
        output: Tensor = attention.proj_drop(attention.proj(attention.norm(seen)))
        return output


def attend(qkv: Tensor, heads: int, scale: float) -> Tensor:
    """Return softmax attention of queries, keys and values side by side: (B, N, 3 * H * D) -> (B, N, H * D)."""
    return cast(Tensor, _Attend.apply(qkv, heads, scale))


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int, scale: float) -> Tensor:
        images, tokens, channels = qkv.shape
        of_head = channels // (3 * heads)
        # One pass puts all three in order; what autograd records would take five.
        ordered = qkv.reshape(images, tokens, 3, heads, of_head).permute(2, 0, 3, 1, 4).contiguous()
        ordered = ordered.view(3, images * heads, tokens, of_head)
        q, k, v = ordered.unbind(0)
        q.mul_(scale)
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(dim=-1)
        seen = torch.bmm(weights, v)
        ctx.save_for_backward(ordered, weights)
        ctx.scale = scale
        return seen.view(images, heads, tokens, of_head).transpose(1, 2).reshape(images, tokens, heads * of_head)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ordered, weights = ctx.saved_tensors
        q, k, v = ordered.unbind(0)
        images, tokens, channels = gradient.shape
        of_head = q.shape[-1]
        heads = channels // of_head
        of_seen = gradient.reshape(images, tokens, heads, of_head).transpose(1, 2).reshape(v.shape)
        of_weights = torch.bmm(of_seen, v.transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        found = torch.empty_like(ordered)
        torch.bmm(of_scores, k, out=found[0])
        found[0].mul_(ctx.scale)
        torch.bmm(of_scores.transpose(1, 2), q, out=found[1])
        torch.bmm(weights.transpose(1, 2), of_seen, out=found[2])
        found = found.view(3, images, heads, tokens, of_head).permute(1, 3, 0, 2, 4)
        return found.reshape(images, tokens, 3 * channels), None, None
