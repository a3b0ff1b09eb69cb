"""Where in the picture, and at which scale, an adapter's update decided the class.

Every adapted layer adds ``u = (alpha / r) B IDWT(c)`` to its output, with ``c = g * act(DWT(A x))``. The synthesis is
linear, so ``u`` is exactly the sum over subbands of ``u_s = (alpha / r) B IDWT_s(c_s)``, whatever the activation.

Let f(t) be a class's logit (less that of the runner-up) when all updates are multiplied by t. By the chain rule
``df/dt = sum over layers of <df/dy, u>``, y being a layer's output, so

    f(1) - f(0) = sum over layers, subbands, tokens of  integral from 0 to 1 of  <df/dy_n, u_s,n> dt:

integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) along the scaling of the adapter, complete by
construction. At t = 1 alone the integrand is gradient x update, the first-order form. The inner product is taken in the
r coordinates between A and B: the gradient with respect to what B is applied to is ``B^T df/dy``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from wara.analysis.layers import method_of, patch_size_of
from wara.errors import InputError
from wara.tuner import AdaptedLayer, AdapterError, SubbandTransform, TokenGrid, adapted_layers
from wara.tuner.grid import declared_grid
from wara.tuner.layer import SubbandLayer
from wara.tuner.matrices import max_levels
from wara.tuner.probe import grids_of_layers
from wara.tuner.tokens import TokenTransform

STEPS = 8
# Images (each node of the integral counts as one) that pass through the model at once; 32 would be no faster, and take
# 460 MB more of the embedded backbone.
_AT_ONCE = 8


@dataclass(frozen=True)
class Relevance:
    """What the update contributed to the decision on each of B images, in logits; all tensors float32 on the CPU.

    Attributes:
        bands: the S subbands, coarse to fine.
        layers: names of the L adapted layers.
        maps: (B, S, H, W), signed: positive where the update moved the decision towards `target`.
        by_layer: (B, L, S), the same summed over the picture instead of over layers.
        prefix: (B, L), what came by class and register tokens, which have no place in the picture.
        target: (B,) class whose logit is explained.
        against: (B,) class whose logit is subtracted (the runner-up), -1 where there is none.
        on, off: (B,) that difference with the adapter and without it (the trained head stays).
    """

    bands: tuple[str, ...]
    layers: tuple[str, ...]
    maps: Tensor
    by_layer: Tensor
    prefix: Tensor
    target: Tensor
    against: Tensor
    on: Tensor
    off: Tensor

    @property
    def by_band(self) -> Tensor:
        """(B, S), summed over layers and picture."""
        return self.by_layer.sum(dim=1)

    @property
    def change(self) -> Tensor:
        """(B,): how far the adapter moved the decision, ``on - off``."""
        return self.on - self.off

    @property
    def residual(self) -> Tensor:
        """(B,): what the parts leave of the change; near zero for the integrated form."""
        return self.change - self.by_band.sum(dim=1) - self.prefix.sum(dim=1)


class UpdateRelevance:
    """Measures `Relevance` with one model, whose adapted layers it looks up once.

    Args:
        model: a PEFT model with WaRA, Tiny-WaRA or LoRA layers, their tokens on the model's patch grid.
        adapter: the adapter to look at; None takes the active one.
        wavelet: wavelet for layers without a transform of their own (LoRA).
        levels: depth for such layers, less where the grid does not allow it.

    Attributes:
        bands: the subbands, coarse to fine.
        levels: depth of the transform.
        patch_size: width of a token in pixels, None where the model does not say.
        method: ``"wara"``, ``"tiny-wara"`` or ``"lora"``.
        own_transform: False for LoRA, which is looked at through a transform that is not its own.

    Raises:
        InputError: the model has no adapter, or its tokens stand in windows or stages and not on one picture grid.
    """

    def __init__(self, model: nn.Module, *, adapter: str | None = None, wavelet: str = "haar", levels: int = 2) -> None:
        layers = adapted_layers(model, adapter)
        if not layers:
            raise InputError(
                "This model has no adapter whose part in a decision could be shown", seen=type(model).__name__,
                remedy="Choose a model trained with WaRA, Tiny-WaRA or LoRA.", code="no-adapter",
            )  # fmt: skip
        self.model = model
        self.own_transform = all(layer.transform is not None for layer in layers.values())
        if not self.own_transform:
            layers = _on_their_grids(model, layers)
        _require_one_picture(model, layers)
        self._parts = [_part(layer, wavelet, levels) for layer in layers.values()]
        subbands = self._parts[0].path.subbands
        self.bands, self.levels, self.wavelet = tuple(subbands.band_names), subbands.levels, subbands.wavelet
        self.patch_size = patch_size_of(model)
        self.method = method_of(layers)

    def measure(
        self,
        images: Tensor,
        targets: Tensor | Sequence[int] | None = None,
        *,
        steps: int = STEPS,
        runner_up: bool = True,
    ) -> Relevance:
        """Attribute the decision on images to layers, subbands and tokens.

        Runs in float32 whatever the caller's autocast, so that the parts add up.

        Args:
            images: (B, 3, height, width), as the model takes them.
            targets: class whose logit is explained, for each image; None takes the class that the model chooses.
            steps: nodes of the integral (Gauss-Legendre); 0 for the first-order form, gradient x update at t = 1.
            runner_up: subtract the logit of the most probable other class.

        Raises:
            InputError: the model gives fewer than two classes, or a target is none of them.
        """
        nodes, weights = _rule(steps)
        device = images.device
        with self._running(device.type):
            with torch.no_grad():
                logits = self._scores(images, torch.ones(len(images), device=device))
                base = self._scores(images, torch.zeros(len(images), device=device))
            target, against = _classes(logits, targets, runner_up)
            sums = [part.empty(len(images)) for part in self._parts]
            for start in range(0, len(images), max(1, _AT_ONCE // len(nodes))):
                rows = slice(start, start + max(1, _AT_ONCE // len(nodes)))
                self._integrate(images[rows], target[rows], against[rows], nodes, weights, sums, rows)
        maps = torch.stack([patches for patches, _ in sums])  # (L, B, S, H, W)
        return Relevance(
            bands=self.bands,
            layers=tuple(part.layer.name for part in self._parts),
            maps=maps.sum(dim=0),
            by_layer=maps.sum(dim=(3, 4)).transpose(0, 1),
            prefix=torch.stack([prefix for _, prefix in sums], dim=1),
            target=target.cpu(),
            against=against.cpu(),
            on=_difference(logits, target, against).cpu(),
            off=_difference(base, target, against).cpu(),
        )

    def _integrate(
        self, images: Tensor, target: Tensor, against: Tensor, nodes: Tensor, weights: Tensor,
        sums: list[tuple[Tensor, Tensor]], rows: slice,
    ) -> None:  # fmt: skip
        """Add the integral for a few images, all nodes of which pass together, to the sums."""
        many, count = len(nodes), len(images)
        spread = images.repeat_interleave(many, dim=0)
        with torch.enable_grad():
            logits = self._scores(spread, nodes.to(images.device).repeat(count))
            score = _difference(logits, target.repeat_interleave(many), against.repeat_interleave(many)).sum()
            gradients = torch.autograd.grad(score, [part.nudge for part in self._parts])
        for part, gradient, (patches, prefix) in zip(self._parts, gradients, sums, strict=True):
            of_bands, of_prefix = part.attribute(gradient)
            weighted = of_bands.reshape(count, many, *of_bands.shape[1:]) * weights.reshape(1, many, 1, 1)
            patches[rows] = weighted.sum(dim=1).reshape(patches[rows].shape)
            prefix[rows] = (of_prefix.reshape(count, many) * weights).sum(dim=1)
            part.forget()

    def _scores(self, images: Tensor, scale: Tensor) -> Tensor:
        for part in self._parts:
            part.scale = scale
        logits: Tensor = self.model(images)
        return logits.float()

    @contextmanager
    def _running(self, device: str) -> Iterator[None]:
        """Put the hooks in and the model into evaluation mode and float32, and put all of it back."""
        was_training = self.model.training
        self.model.eval()
        handles = [part.layer.module.register_forward_hook(part) for part in self._parts]
        try:
            with torch.inference_mode(False), torch.autocast(device, enabled=False):
                yield
        finally:
            for handle in handles:
                handle.remove()
            for part in self._parts:
                part.forget()
            self.model.train(was_training)


class _Part:
    """One adapted layer: a forward hook that scales its update and can be asked what each subband contributed."""

    def __init__(self, layer: AdaptedLayer, path: TokenTransform) -> None:
        self.layer, self.path = layer, path
        self.scale: Tensor
        self.nudge: Tensor
        self._held: tuple[Tensor, TokenTransform] | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Return the layer's output with the update multiplied by `scale`, (B,)."""
        coefficients, path, up = self._update(inputs[0])
        z = path.synthesise(coefficients.flatten(0, 1)).reshape(*coefficients.shape[:2], -1).permute(1, 2, 0)
        # A zero added where B is applied: the gradient with respect to it is B^T times that of the output.
        self.nudge = torch.zeros_like(z, requires_grad=torch.is_grad_enabled())
        self._held = coefficients.detach(), path
        return output + F.linear((self.scale - 1).reshape(-1, 1, 1) * z + self.nudge, up)

    def _update(self, x: Tensor) -> tuple[Tensor, TokenTransform, Tensor]:
        """Return coefficients (r, B, K), their transform, and B (out, r) with the scaling, as they are now."""
        module, adapter = self.layer.module, self.layer.adapter
        if isinstance(module, SubbandLayer):
            coefficients, path = module.coefficients(x, adapter)
            return coefficients, path, module.factors(adapter)[1]
        lora = cast(LoraLinear, module)
        z = F.linear(x, lora.lora_A[adapter].weight).permute(2, 0, 1)  # (r, B, T)
        c = self.path.analyse(z.flatten(0, 1))
        return c.reshape(*z.shape[:2], -1), self.path, lora.lora_B[adapter].weight * lora.scaling[adapter]

    def attribute(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient x update by subband and patch, (B, S, N), and of all prefix tokens together, (B,).

        Args:
            gradient: (B, T, r), with respect to what B is applied to.
        """
        assert self._held is not None
        coefficients, path = self._held
        prefix = path.grid.num_prefix_tokens
        along = gradient.permute(2, 0, 1)  # (r, B, T)
        bands = [
            (tokens * along[..., prefix:]).sum(dim=0)
            for tokens in tokens_of_bands(path.subbands, coefficients[..., prefix:])
        ]
        of_prefix = (coefficients[..., :prefix] * along[..., :prefix]).sum(dim=(0, 2))
        return torch.stack(bands, dim=1).cpu(), of_prefix.cpu()

    def empty(self, images: int) -> tuple[Tensor, Tensor]:
        """Return zeros for the maps (B, S, H, W) and the prefix (B,) of images; the grid is that of the last pass."""
        assert self._held is not None
        path = self._held[1]
        return torch.zeros(images, len(path.band_names), *path.grid[:2]), torch.zeros(images)

    def forget(self) -> None:
        """Let what the last pass left go."""
        self._held = None
        self.nudge = torch.empty(0)


def tokens_of_bands(transform: SubbandTransform, coefficients: Tensor) -> Iterator[Tensor]:
    """Yield what each subband alone gives on the tokens, coarse to fine: (..., C) -> S times (..., N).

    They add up to the synthesis of all coefficients.
    """
    for rows in transform.band_slices:
        if transform.separable:
            alone = torch.zeros_like(coefficients)
            alone[..., rows] = coefficients[..., rows]
            yield transform.synthesise_planes(alone)
        else:
            synthesis = transform.matrix("dense_synthesis", coefficients.dtype)
            yield F.linear(coefficients[..., rows], synthesis[:, rows])


def _rule(steps: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of the integral from 0 to 1; t = 1 alone for no steps."""
    if steps == 0:
        return torch.ones(1), torch.ones(1)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return torch.tensor((nodes + 1) / 2, dtype=torch.float32), torch.tensor(weights / 2, dtype=torch.float32)


def _classes(logits: Tensor, targets: Tensor | Sequence[int] | None, runner_up: bool) -> tuple[Tensor, Tensor]:
    """Return the class explained and the one subtracted (-1 for none) of each image."""
    classes = logits.shape[1]
    if classes < 2:
        raise InputError(
            "The model tells no classes apart, so there is no decision to explain", seen=f"{classes} output",
            remedy="Use a model with two classes or more.", code="classes-too-few",
        )  # fmt: skip
    chosen = logits.argmax(dim=1) if targets is None else torch.as_tensor(targets, device=logits.device).long()
    if chosen.shape != logits.shape[:1] or (len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < classes):
        raise InputError(
            "The classes to explain do not belong to the images or the model", seen=str(chosen.tolist())[:80],
            remedy=f"Give one class of 0 to {classes - 1} for each of the {len(logits)} images.", code="class-unknown",
        )  # fmt: skip
    if not runner_up:
        return chosen, torch.full_like(chosen, -1)
    others = logits.scatter(1, chosen[:, None], -torch.inf)
    return chosen, others.argmax(dim=1)


def _difference(logits: Tensor, target: Tensor, against: Tensor) -> Tensor:
    """Return (B,) logits of `target` less those of `against`."""
    other = logits.gather(1, against.clamp(min=0)[:, None])[:, 0]
    return logits.gather(1, target[:, None])[:, 0] - other * (against >= 0)


def _part(layer: AdaptedLayer, wavelet: str, levels: int) -> _Part:
    if isinstance(layer.module, SubbandLayer):
        return _Part(layer, cast(TokenTransform, layer.module.wara_transform[layer.adapter]))
    subbands = SubbandTransform(layer.grid, wavelet, min(levels, max_levels(layer.grid))).to(layer.A)
    return _Part(layer, TokenTransform(TokenGrid(*layer.grid, layer.num_prefix_tokens), subbands).to(layer.A))


def _on_their_grids(model: nn.Module, layers: dict[str, AdaptedLayer]) -> dict[str, AdaptedLayer]:
    """Return layers without a transform of their own with the grid on which their tokens stand."""
    base = cast(PeftModel, model).get_base_model() if isinstance(model, PeftModel) else model
    placed = {}
    for name, grid in grids_of_layers(base, list(layers)).items():
        if isinstance(grid, AdapterError):
            raise _no_picture(f"layer {name}")
        placed[name] = replace(layers[name], grid=grid[:2], num_prefix_tokens=grid.num_prefix_tokens)
    return placed


def _require_one_picture(model: nn.Module, layers: dict[str, AdaptedLayer]) -> None:
    """Refuse layers whose tokens are not those of the model's patch grid: no map could be drawn over the image."""
    declared = declared_grid(model)
    for layer in layers.values():
        if declared is None or layer.grid != declared[:2]:
            rows, columns = layer.grid
            raise _no_picture(f"layer {layer.name} has {rows} x {columns} tokens")


def _no_picture(seen: str) -> InputError:
    return InputError(
        "The tokens of this model stand in windows or stages, so its update cannot be drawn over the image",
        seen=seen, remedy="Use a model on a ViT, DeiT or DINOv2 backbone.", code="relevance-no-grid",
    )  # fmt: skip
