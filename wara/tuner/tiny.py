"""Tiny-WaRA around one linear layer: a fixed basis from the pretrained weight, and a small vector to learn.

W0 ~ U S V^T, truncated to rank r, gives A = S^1/2 V^T and B = U S^1/2; between them stands R = sum_i v_i P_i with fixed
projections P_i. Source: the abstract of arXiv:2506.24092; the projections are those of TinyLoRA (arXiv:2602.04118), and
with all r * r unit matrices as P_i the layer is LoRA-XS (arXiv:2405.17604), whose whole R is learned.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from torch import Tensor, nn

from wara.tuner.config import TinyWaraConfig
from wara.tuner.errors import AdapterError
from wara.tuner.layer import SubbandLayer
from wara.tuner.tokens import TokenTransform


class TinyWaraLinear(SubbandLayer):
    """Tiny-WaRA around a linear layer: A and B are fixed, from the pretrained weight; R = sum_i v_i P_i is learned.

    The P_i are drawn once from a seed, normal with standard deviation 1/r (so that each has a Frobenius norm of about
    1), or are the unit matrices. v starts at zero. Layers that share a v keep it in the first of them.
    """

    adapter_layer_names = ("wara_v", "wara_gain", "wara_threshold")
    other_param_names = ("wara_A", "wara_B", "wara_P")

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self.wara_v = nn.ParameterDict({})
        self.wara_A = BufferDict(persistent=True)
        self.wara_B = BufferDict(persistent=True)
        self.wara_P = BufferDict(persistent=True)
        # Not modules of this one: a shared vector is listed, counted and saved once, with the layer that holds it.
        self._holder_of_v: dict[str, TinyWaraLinear] = {}

    @classmethod
    def require_possible(cls, linear: nn.Linear, config: Any) -> None:
        """Refuse an adapter that a linear layer cannot take.

        Raises:
            AdapterError: the rank is larger than the layer allows, or the pretrained weight is not finite.
        """
        super().require_possible(linear, config)
        if not linear.weight.is_meta and not torch.isfinite(linear.weight).all():
            raise AdapterError("its pretrained weight holds values that are not finite. Use a sound weights file.")

    def update_layer(
        self, name: str, config: TinyWaraConfig, transform: TokenTransform, index: int, holder: TinyWaraLinear | None
    ) -> None:
        """Put an adapter into this layer.

        Args:
            name: the adapter's name.
            config: its options.
            transform: the path through the subbands.
            index: position among the adapted layers; gives every layer projections of its own.
            holder: the layer whose vector this one shares; None for a vector of its own.
        """
        self._add_shared(name, config, transform)
        holders = (self.wara_A, self.wara_B, self.wara_P)
        fixed = (*svd_basis(self.get_base_layer().weight, config.r), projections(config, index))
        for buffers, values in zip(holders, fixed, strict=True):
            buffers.persistent = config.save_projection  # PEFT saves and asks for persistent buffers only
            buffers[name] = values
        if holder is None:
            self.wara_v[name] = nn.Parameter(torch.zeros(config.u))
            if not config.init_weights:
                nn.init.normal_(self.wara_v[name], std=0.1)
        else:
            self._holder_of_v[name] = holder
        self._finish_adding(name, config)
        for buffers, values in zip(holders, fixed, strict=True):
            # PEFT moved them to the weight's device, and rounded them where the weight is in bf16 or fp16.
            buffers[name] = values.to(buffers[name].device)

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter out of this layer; see PEFT."""
        self._holder_of_v.pop(adapter_name, None)
        super().delete_adapter(adapter_name)

    def vector(self, adapter: str) -> Tensor:
        """Return the learned vector v (u,), this layer's or the one that it shares."""
        vectors = self._holder_of_v[adapter].wara_v if adapter in self._holder_of_v else self.wara_v
        v: Tensor = vectors[adapter]
        return v

    def _channel_maps(self, adapter: str) -> tuple[Tensor, Tensor]:
        """Return A' = R A (r, in) and B (out, r)."""
        v, rank = self.vector(adapter), self.r[adapter]
        mixing = (v @ self.wara_P[adapter].to(v).flatten(1)).reshape(rank, rank)
        down = mixing @ self.wara_A[adapter].to(mixing)
        return down, self.wara_B[adapter].to(v)


def projections(config: TinyWaraConfig, index: int) -> Tensor:
    """Return the P_i of one layer, (u, r, r): drawn on the CPU, so that every device has the same."""
    r, u = config.r, config.u
    if config.projection == "unit":
        return torch.eye(r * r, device="cpu")[:u].reshape(u, r, r)
    generator = torch.Generator(device="cpu").manual_seed(config.projection_seed + index)
    return torch.randn(u, r, r, generator=generator, device="cpu") / r


def svd_basis(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return S^1/2 V^T (r, in) and U S^1/2 (out, r) of a weight, in float32 with signs that do not depend on LAPACK."""
    if weight.is_meta:
        out_features, in_features = weight.shape
        return torch.empty(rank, in_features, device="meta"), torch.empty(out_features, rank, device="meta")
    left, singular, right = torch.linalg.svd(weight.detach().float(), full_matrices=False)
    left, singular, right = left[:, :rank], singular[:rank], right[:rank]
    largest = left.abs().argmax(dim=0)
    sign = torch.sign(left[largest, torch.arange(rank, device=left.device)])
    root = singular.sqrt()
    return (right * (sign * root)[:, None]).contiguous(), (left * (sign * root)).contiguous()
