"""WaRA and Tiny-WaRA around one linear layer: y = W0 x + (alpha / r) B IDWT(g * act(DWT(A x))).

Source: WaRA, arXiv:2506.24092. The transform acts on tokens and A, B act on channels, so the two commute: the transform
runs on the r channels between A and B, which gives the same function as transforming all d channels first.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from wara.tuner.config import WaraConfig, _SubbandConfig
from wara.tuner.errors import AdapterError
from wara.tuner.grid import TokenGrid
from wara.tuner.tokens import TokenTransform

# softplus(-4) = 0.018: a threshold that starts close to, but not at, "keep everything", so that it has a gradient.
_INITIAL_RAW_THRESHOLD = -4.0


def refuse_mixed_batch(adapter_names: list[str] | None) -> None:
    """Refuse names of an adapter for each image.

    Raises:
        AdapterError: with the names.
    """
    if adapter_names is not None:
        raise AdapterError(
            f"adapter_names={adapter_names!r}: WaRA does not mix adapters within a batch. Set one with set_adapter for "
            "each batch."
        )


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

    @classmethod
    def require_possible(cls, linear: nn.Linear, config: Any) -> None:
        """Refuse an adapter that a linear layer cannot take.

        Raises:
            AdapterError: the rank is larger than the layer allows.
        """
        largest = min(linear.in_features, linear.out_features)
        if config.r > largest:
            raise AdapterError(
                f"r={config.r} is larger than the layer allows: it maps {linear.in_features} to {linear.out_features} "
                f"channels. Use a rank of 1 to {largest}."
            )

    def require_not_merged(self) -> None:
        """Refuse a change while an adapter is merged.

        Raises:
            AdapterError: with the adapter's name.
        """
        if self.merged:
            raise AdapterError(
                f"The adapter {self.merged_adapters[0]!r} is merged into the weights. Use unmerge_adapter() before "
                "another adapter is put in."
            )

    def _add_shared(self, name: str, config: _SubbandConfig, transform: TokenTransform) -> None:
        self.r[name] = config.r
        self.scaling[name] = config.wara_alpha / config.r
        self.token_grid[name] = transform.grid
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

    def _channel_maps(self, adapter: str) -> tuple[Tensor, Tensor]:
        """Return A (r, in) and B (out, r) of an adapter, without the scaling."""
        raise NotImplementedError

    def factors(self, adapter: str) -> tuple[Tensor, Tensor]:
        """Return A (r, in) and B (out, r) of an adapter, the scaling folded into B."""
        down, up = self._channel_maps(adapter)
        return down, up * self.scaling[adapter]

    def update(self, x: Tensor, adapter: str) -> Tensor:
        """Return what an adapter adds to the layer's output: (B, P + N, in) -> (B, P + N, out).

        Tokens of a model without prefix tokens may also come as planes, (..., H, W, in), an image or a window each.
        The adapter computes in the dtype of the tokens.

        Raises:
            AdapterError: the tokens are not those of the grid that the adapter was made for.
        """
        z, up = self._filtered(x, adapter)
        return F.linear(z, up * self.scaling[adapter]).reshape(*x.shape[:-1], self.out_features)

    def _add_update(self, output: Tensor, x: Tensor, adapter: str) -> Tensor:
        # The sum is part of the last product: output is as large as the layer's and costs most of an adapter's time.
        z, up = self._filtered(x, adapter)
        z, up = z.to(output.dtype), up.to(output.dtype)
        if self._output_is_ours() and output.is_contiguous():
            return cast(Tensor, _AddTo.apply(output, z, up, self.scaling[adapter]))
        flat = output.reshape(-1, self.out_features)
        return torch.addmm(flat, z, up.T, alpha=self.scaling[adapter]).reshape(output.shape)

    def _output_is_ours(self) -> bool:
        """Whether nobody else holds what the base layer gave, so that it may be written to instead of copied."""
        base = self.base_layer
        return type(base) is nn.Linear and not base._forward_hooks and not base._backward_hooks

    def _filtered(self, x: Tensor, adapter: str) -> tuple[Tensor, Tensor]:
        """Return what B is applied to, one row a token (B * T, r), and B, both in the dtype of the tokens.

        In between ranks come first: the tokens of an image are then the last axis, and all images and ranks pass
        through the subbands in one product.
        """
        down, up = self._channel_maps(adapter)
        z, path = self._down(x, adapter, down)
        if adapter in self.wara_gain or self.activation[adapter] != "none":
            z = path.synthesise(self._shrink(path.analyse(z), path, adapter))
        # Without gains and activation the pair of transforms is the identity (checked when it was made).
        return z.reshape(self.r[adapter], -1).T.contiguous(), up.to(x.dtype)

    def coefficients(self, x: Tensor, adapter: str) -> tuple[Tensor, TokenTransform]:
        """Return the update's coefficients g * act(DWT(A x)), (r, B, K), and the transform that makes tokens of them.

        The update is ``B`` (of `factors`) applied to ``transform.synthesise`` of them, which is linear: the sum over
        subbands of the synthesis of each.

        Raises:
            AdapterError: the tokens are not those of the grid that the adapter was made for.
        """
        z, path = self._down(x, adapter, self._channel_maps(adapter)[0])
        c = self._shrink(path.analyse(z), path, adapter)
        return c.reshape(self.r[adapter], -1, c.shape[-1]), path

    def _down(self, x: Tensor, adapter: str, down: Tensor) -> tuple[Tensor, TokenTransform]:
        """Return A x with tokens last, (r * B, T), and the transform for the grid of the moment."""
        path = cast(TokenTransform, self.wara_transform[adapter]).at_present()
        self._require_grid(x, path.grid)
        z = down.to(x.dtype) @ self.wara_dropout[adapter](x).reshape(-1, self.in_features).T
        return z.reshape(-1, path.grid.num_tokens), path

    def _require_grid(self, x: Tensor, grid: TokenGrid) -> None:
        if x.dim() == 3 and x.shape[1] == grid.num_tokens:
            return
        if x.dim() > 3 and grid.num_prefix_tokens == 0 and tuple(x.shape[-3:-1]) == grid[:2]:
            return
        raise AdapterError(
            f"The layer was given tokens of shape {tuple(x.shape[:-1])}, but the adapter was made for "
            f"{grid.num_tokens} tokens an image ({grid.num_prefix_tokens} prefix + {grid.height} x {grid.width}). "
            "Give images of the size that the backbone had when the adapter was put in."
        )

    def _shrink(self, c: Tensor, path: TokenTransform, adapter: str) -> Tensor:
        """Apply activation, then gain, to coefficients (r * B, K)."""
        kind = self.activation[adapter]
        if kind == "gelu":
            c = F.gelu(c)
        elif kind == "soft-threshold":
            limit = path.spread(F.softplus(self.wara_threshold[adapter]), c.dtype)
            c = c - torch.maximum(torch.minimum(c, limit), -limit)
        if adapter in self.wara_gain:
            gain = path.spread(self.wara_gain[adapter], c.dtype)
            c = (c.reshape(len(gain), -1, c.shape[-1]) * gain.unsqueeze(1)).reshape(c.shape)
        return c

    def _base(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        output: Tensor = self.base_layer(x, *args, **kwargs)
        return output

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output with its active adapters; shapes as in `update`."""
        refuse_mixed_batch(kwargs.pop("adapter_names", None))
        if self.disable_adapters and self.merged:
            self.unmerge()
        result = self._base(x, *args, **kwargs)
        if self.disable_adapters or self.merged:
            return result
        for adapter in self.active_adapters:
            if adapter in self.r:
                result = self._add_update(result, x, adapter)
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

    def merged_weight(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> Tensor | None:
        """Return the base weight (out, in) with adapters added, changing nothing; None where there are none to add.

        Raises:
            AdapterError: one of the adapters is no weight; see `get_delta_weight`.
            ValueError: with `safe_merge`, the sum holds values that are not finite.
        """
        names = [name for name in check_adapters_to_merge(self, adapter_names) if name in self.r]
        weight = self.get_base_layer().weight.data
        merged = weight
        for name in names:
            merged = merged + self.get_delta_weight(name).to(weight)
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"NaNs detected in the merged weights. The adapter {name} seems to be broken")
        return merged if names else None

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add adapters to the base weight; see PEFT. Nothing changes when one of them cannot be merged."""
        merged = self.merged_weight(safe_merge, adapter_names)
        if merged is not None:
            self.get_base_layer().weight.data = merged
            names = check_adapters_to_merge(self, adapter_names)
            self.merged_adapters.extend(name for name in names if name in self.r)

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


class _AddTo(torch.autograd.Function):
    """Add ``scale * z @ up.T`` to an output (..., out), in its place: z (n, r), up (out, r).

    What autograd makes of a product added to a view copies the gradient of the whole output twice.
    """

    @staticmethod
    def forward(output: Tensor, z: Tensor, up: Tensor, scale: float) -> Tensor:
        output.view(-1, output.shape[-1]).addmm_(z, up.T, alpha=scale)
        return output

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float], output: Tensor) -> None:
        """Apart from `forward`, as torch.func asks for."""
        added_to, z, up, ctx.scale = inputs
        ctx.mark_dirty(added_to)
        ctx.save_for_backward(z, up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        z, up = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        return gradient, (rows @ up) * ctx.scale, (rows.T @ z) * ctx.scale, None


class WaraLinear(SubbandLayer):
    """WaRA around a linear layer: factors A and B are learned."""

    adapter_layer_names = ("wara_A", "wara_B", "wara_gain", "wara_threshold")

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self.wara_A = nn.ParameterDict({})
        self.wara_B = nn.ParameterDict({})

    def update_layer(self, name: str, config: WaraConfig, transform: TokenTransform) -> None:
        """Put an adapter into this layer."""
        self._add_shared(name, config, transform)
        self.wara_A[name] = nn.Parameter(torch.empty(config.r, self.in_features))
        self.wara_B[name] = nn.Parameter(torch.zeros(self.out_features, config.r))
        # The same law as LoRA's A (PEFT), so that the two start alike.
        nn.init.kaiming_uniform_(self.wara_A[name], a=math.sqrt(5))
        if not config.init_weights:
            nn.init.normal_(self.wara_B[name], std=0.02)
        self._finish_adding(name, config)

    def _channel_maps(self, adapter: str) -> tuple[Tensor, Tensor]:
        return self.wara_A[adapter], self.wara_B[adapter]
