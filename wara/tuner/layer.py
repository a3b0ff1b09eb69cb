"""WaRA and Tiny-WaRA around one linear layer: y = W0 x + (alpha / r) B IDWT(g * act(DWT(A x))).

Source: WaRA, arXiv:2506.24092. The transform acts on tokens and A, B act on channels, so the two commute: the transform
runs on the r channels between A and B, which gives the same function as transforming all d channels first.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from wara.tuner.config import TinyWaraConfig, WaraConfig, _SubbandConfig
from wara.tuner.errors import AdapterError
from wara.tuner.grid import TokenGrid
from wara.tuner.subbands import SubbandTransform

# softplus(-4) = 0.018: a threshold that starts close to, but not at, "keep everything", so that it has a gradient.
_INITIAL_RAW_THRESHOLD = -4.0


class SubbandLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]  # PEFT is untyped
    """What WaRA and Tiny-WaRA share: the path of the tokens through the subbands. Subclasses give the two factors."""

    adapter_layer_names: tuple[str, ...] = ("wara_gain", "wara_threshold")
    other_param_names: tuple[str, ...] = ()

    if TYPE_CHECKING:  # what comes from PEFT, which is untyped
        active_adapters: list[str]
        disable_adapters: bool
        merged: bool
        get_base_layer: Callable[[], nn.Linear]
        set_adapter: Callable[..., None]
        _cast_input_dtype: Callable[[Tensor, torch.dtype], Tensor]
        _move_adapter_to_device_of_base_layer: Callable[[str], None]

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer: nn.Module = base_layer
        linear = self.get_base_layer()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.wara_gain = nn.ParameterDict({})
        self.wara_threshold = nn.ParameterDict({})
        self.wara_dropout = nn.ModuleDict({})
        self.wara_transform = nn.ModuleDict({})
        self.r: dict[str, int] = {}
        self.scaling: dict[str, float] = {}
        self.token_grid: dict[str, TokenGrid] = {}
        self.activation: dict[str, str] = {}
        self._disable_adapters = False
        self._active_adapter: str | list[str] = []
        self.merged_adapters: list[str] = []

    # -- putting an adapter in, taking it out ---------------------------------------------------------------------

    def _add_shared(self, name: str, config: _SubbandConfig, grid: TokenGrid, transform: SubbandTransform) -> None:
        largest = min(self.in_features, self.out_features)
        if config.r > largest:
            raise AdapterError(
                f"r={config.r} is larger than the layer allows: it maps {self.in_features} to {self.out_features} "
                f"channels. Use a rank of 1 to {largest}."
            )
        self.r[name] = config.r
        self.scaling[name] = config.wara_alpha / config.r
        self.token_grid[name] = grid
        self.activation[name] = config.activation
        self.wara_dropout[name] = nn.Dropout(config.wara_dropout) if config.wara_dropout else nn.Identity()
        self.wara_transform[name] = transform
        bands = len(transform.band_names)
        if config.gains == "subband":
            self.wara_gain[name] = nn.Parameter(torch.ones(bands))
        elif config.gains == "subband-rank":
            self.wara_gain[name] = nn.Parameter(torch.ones(bands, config.r))
        if config.activation == "soft-threshold":
            self.wara_threshold[name] = nn.Parameter(torch.full((bands,), _INITIAL_RAW_THRESHOLD))

    def _finish_adding(self, name: str, config: _SubbandConfig) -> None:
        self._move_adapter_to_device_of_base_layer(name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter out of this layer; see PEFT."""
        for holder in (self.r, self.scaling, self.token_grid, self.activation):
            holder.pop(adapter_name, None)
        for modules in (self.wara_dropout, self.wara_transform):
            if adapter_name in modules:
                del modules[adapter_name]
        super().delete_adapter(adapter_name)

    # -- the update -----------------------------------------------------------------------------------------------

    def factors(self, adapter: str) -> tuple[Tensor, Tensor]:
        """Return A (r, in) and B (out, r) of an adapter, the scaling folded into B."""
        raise NotImplementedError

    def update(self, x: Tensor, adapter: str) -> Tensor:
        """Return what an adapter adds to the layer's output: (B, P + N, in) -> (B, P + N, out).

        NHWC tokens (B, H, W, in) are taken as well when the model has no prefix tokens.

        Raises:
            AdapterError: the tokens are not those of the grid that the adapter was made for.
        """
        down, up = self.factors(adapter)
        x = self._cast_input_dtype(x, down.dtype)
        shape = x.shape
        z = F.linear(self.wara_dropout[adapter](x), down)
        if adapter in self.wara_gain or self.activation[adapter] != "none":
            z = self._filter(self._as_sequence(z, adapter), adapter).reshape(*shape[:-1], self.r[adapter])
        else:
            # Without gains and activation the pair of transforms is the identity (checked when it was made).
            self._as_sequence(z, adapter)
        return F.linear(z, up)

    def _as_sequence(self, z: Tensor, adapter: str) -> Tensor:
        grid = self.token_grid[adapter]
        if z.dim() == 4 and grid.num_prefix_tokens == 0 and tuple(z.shape[1:3]) == grid[:2]:
            return z.flatten(1, 2)
        if z.dim() != 3 or z.shape[1] != grid.num_tokens:
            raise AdapterError(
                f"The layer was given tokens of shape {tuple(z.shape[:-1])}, but the adapter was made for "
                f"{grid.num_tokens} tokens an image ({grid.num_prefix_tokens} prefix + {grid.height} x {grid.width}). "
                "Give images of the size that the backbone had when the adapter was put in."
            )
        return z

    def _filter(self, z: Tensor, adapter: str) -> Tensor:
        """Gain and activation in the subbands: (B, P + N, r) -> the same shape."""
        transform: SubbandTransform = self.wara_transform[adapter]  # type: ignore[assignment]
        prefix_tokens = self.token_grid[adapter].num_prefix_tokens
        prefix, patches = z[:, :prefix_tokens], z[:, prefix_tokens:]
        coefficients = transform.analyse(patches)
        coefficients = self._shrink(coefficients, transform.band_index, adapter)
        prefix = self._shrink(prefix, torch.zeros_like(transform.band_index[:prefix_tokens]), adapter)
        patches = transform.synthesise(coefficients)
        return torch.cat([prefix.to(patches.dtype), patches], dim=1) if prefix_tokens else patches

    def _shrink(self, c: Tensor, band: Tensor, adapter: str) -> Tensor:
        """Apply activation, then gain, to coefficients (B, C, r) whose subbands are `band` (C,)."""
        kind = self.activation[adapter]
        if kind == "gelu":
            c = F.gelu(c)
        elif kind == "soft-threshold":
            limit = F.softplus(self.wara_threshold[adapter])[band].unsqueeze(-1).to(c.dtype)
            c = c - torch.maximum(torch.minimum(c, limit), -limit)
        if adapter in self.wara_gain:
            gain = self.wara_gain[adapter][band].to(c.dtype)
            c = c * (gain if gain.dim() == 2 else gain.unsqueeze(-1))
        return c

    def _base(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        output: Tensor = self.base_layer(x, *args, **kwargs)
        return output

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output with its active adapters; shapes as in `update`."""
        if kwargs.pop("adapter_names", None) is not None:
            raise AdapterError("WaRA does not mix adapters within a batch. Set one with set_adapter for each batch.")
        if self.disable_adapters:
            if self.merged:
                self.unmerge()
            return self._base(x, *args, **kwargs)
        result = self._base(x, *args, **kwargs)
        if self.merged:
            return result
        dtype = result.dtype
        for adapter in self.active_adapters:
            if adapter in self.r:
                update = self.update(x, adapter)
                result = result + update.to(dtype)
        return result

    # -- merging --------------------------------------------------------------------------------------------------

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return the update as a weight (out, in), when it is one.

        Raises:
            AdapterError: an activation, or gains that differ between subbands, make the update depend on where a token
                stands, which no weight can express.
        """
        if self.activation[adapter] != "none":
            raise AdapterError(
                f"Adapter {adapter!r} cannot be merged: its activation {self.activation[adapter]!r} acts on subbands, "
                "which a weight cannot express. Keep the adapter beside the model."
            )
        down, up = self.factors(adapter)
        if adapter in self.wara_gain:
            gain = self.wara_gain[adapter].detach()
            spread = float((gain - gain[:1]).abs().max())
            if spread > 0:
                raise AdapterError(
                    f"Adapter {adapter!r} cannot be merged: its subband gains differ by up to {spread:.3g}, so the "
                    "update depends on the scale of detail, which a weight cannot express. Keep the adapter beside "
                    "the model, or train with gains='none'."
                )
            up = up * gain[0].to(up.dtype)
        return up @ down

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add adapters to the base weight; see PEFT. Nothing changes when one of them cannot be merged."""
        names = [name for name in check_adapters_to_merge(self, adapter_names) if name in self.r]
        deltas = [self.get_delta_weight(name) for name in names]
        linear = self.get_base_layer()
        for name, delta in zip(names, deltas, strict=True):
            merged = linear.weight.data + delta.to(linear.weight.dtype)
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"NaNs detected in the merged weights. The adapter {name} seems to be broken")
            linear.weight.data = merged
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Take merged adapters out of the base weight again; see PEFT."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        linear = self.get_base_layer()
        while self.merged_adapters:
            delta = self.get_delta_weight(self.merged_adapters.pop())
            linear.weight.data = linear.weight.data - delta.to(linear.weight.dtype)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Whether the adapter is a plain LoRA; see PEFT."""
        return False


class WaraLinear(SubbandLayer):
    """WaRA around a linear layer: factors A and B are learned."""

    adapter_layer_names = ("wara_A", "wara_B", "wara_gain", "wara_threshold")

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self.wara_A = nn.ParameterDict({})
        self.wara_B = nn.ParameterDict({})

    def update_layer(self, name: str, config: WaraConfig, grid: TokenGrid, transform: SubbandTransform) -> None:
        """Put an adapter into this layer."""
        self._add_shared(name, config, grid, transform)
        self.wara_A[name] = nn.Parameter(torch.empty(config.r, self.in_features))
        self.wara_B[name] = nn.Parameter(torch.zeros(self.out_features, config.r))
        # The same law as LoRA's A (PEFT), so that the two start alike.
        nn.init.kaiming_uniform_(self.wara_A[name], a=math.sqrt(5))
        if not config.init_weights:
            nn.init.normal_(self.wara_B[name], std=0.02)
        self._finish_adding(name, config)

    def factors(self, adapter: str) -> tuple[Tensor, Tensor]:
        """Return A (r, in) and B (out, r), the scaling folded into B."""
        return self.wara_A[adapter], self.wara_B[adapter] * self.scaling[adapter]


class TinyWaraLinear(SubbandLayer):
    """Tiny-WaRA around a linear layer: A and B are fixed, from the pretrained weight; R = sum_i v_i P_i is learned.

    W0 ~ U S V^T truncated to r gives A = S^1/2 V^T and B = U S^1/2. The P_i are drawn once from a seed, normal with
    standard deviation 1/r (so that each has a Frobenius norm of about 1). v starts at zero.
    """

    adapter_layer_names = ("wara_v", "wara_gain", "wara_threshold")
    other_param_names = ("wara_A", "wara_B", "wara_P")

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self.wara_v = nn.ParameterDict({})
        self.wara_A = BufferDict(persistent=True)
        self.wara_B = BufferDict(persistent=True)
        self.wara_P = BufferDict(persistent=True)

    def update_layer(
        self, name: str, config: TinyWaraConfig, grid: TokenGrid, transform: SubbandTransform, layer_index: int
    ) -> None:
        """Put an adapter into this layer; `layer_index` gives every layer projections of its own."""
        self._add_shared(name, config, grid, transform)
        for fixed in (self.wara_A, self.wara_B, self.wara_P):
            fixed.persistent = config.save_projection  # PEFT saves and asks for persistent buffers only
        self.wara_A[name], self.wara_B[name] = _svd_basis(self.get_base_layer().weight, config.r)
        generator = torch.Generator().manual_seed(config.projection_seed + layer_index)
        projections = torch.randn(config.u, config.r, config.r, generator=generator) / config.r
        self.wara_P[name] = projections
        self.wara_v[name] = nn.Parameter(torch.zeros(config.u))
        if not config.init_weights:
            nn.init.normal_(self.wara_v[name], std=0.1)
        self._finish_adding(name, config)

    def factors(self, adapter: str) -> tuple[Tensor, Tensor]:
        """Return A' = R A (r, in) and B (out, r), the scaling folded into B."""
        v = self.wara_v[adapter]
        mixing = torch.einsum("i,ijk->jk", v, self.wara_P[adapter].to(v.dtype))
        return mixing @ self.wara_A[adapter].to(v.dtype), self.wara_B[adapter].to(v.dtype) * self.scaling[adapter]


def _svd_basis(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
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
