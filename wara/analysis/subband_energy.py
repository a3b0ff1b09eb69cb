"""Which scales of detail the tokens of each adapted layer hold, and which ones its update acts on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from wara.analysis.bands import order_bands
from wara.analysis.layers import method_of, patch_size_of
from wara.training.shares import at_once, cut
from wara.tuner import AdaptedLayer, AdapterError, SubbandTransform, adapted_layers
from wara.tuner.grid import declared_grid
from wara.tuner.layer import SubbandLayer
from wara.tuner.matrices import coefficient_norms, max_levels
from wara.tuner.probe import grids_of_layers

KINDS = ("tokens", "update")


class _Probe:
    """Energies of one layer: measures what passes through, image by image.

    The update lies in the span of B's r columns, so its coordinates in an orthonormal basis of that span, r numbers a
    token instead of e, have the same energy: with B = Q R they are z R^T where the update is z B^T. And since A acts
    on channels and the transform on tokens, the coefficients of z come out of those of the tokens.
    """

    def __init__(self, layer: AdaptedLayer, transform: SubbandTransform) -> None:
        self.layer = layer
        self.bands = list(transform.band_names)
        device = layer.A.device
        # One of its own, in float32 whatever the model's is.
        self.transform = SubbandTransform(
            transform.grid, transform.wavelet, transform.levels, transform.mode, separable=transform.separable
        ).to(device=device, dtype=torch.float32)
        self.of_band = torch.zeros(transform.num_coefficients, len(self.bands), device=device)
        for band, rows in enumerate(transform.band_slices):
            self.of_band[rows, band] = 1
        self.down = layer.A.float().T
        basis, triangle = torch.linalg.qr(layer.B.float().cpu())  # not every GPU backend has it
        self.basis, self.up = basis.to(device), triangle.T.to(device)
        module = layer.module
        self.has_activation = isinstance(module, SubbandLayer) and module.activation[layer.adapter] != "none"
        self.gains = None if layer.gains is None else self.of_band @ layer.gains.float()  # (C, r)
        self._of_thread = threading.local()

    @property
    def measured(self) -> list[Tensor]:
        """What passes of this thread have left, (B, 2, S) each."""
        found: list[Tensor] = self._of_thread.__dict__.setdefault("measured", [])
        return found

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Forward pre-hook: keep the energies (B, 2, S) of the tokens and of the update; B counts windows too."""
        x = inputs[0].detach()
        precision = _precision(x.device.type)
        with torch.autocast(x.device.type, enabled=False):
            tokens = self.transform.analyse(self._patches(x).to(precision))
            update = self._update_by_tokens(x) if self.has_activation else self._update(tokens)
            self.measured.append(torch.stack([self._energy(tokens), self._energy(update)], dim=1))

    def _patches(self, tokens: Tensor) -> Tensor:
        if tokens.dim() > 3:  # (..., H, W, d), as models without prefix tokens may have it
            return tokens.flatten(-3, -2).flatten(0, -3)
        return tokens[:, self.layer.num_prefix_tokens :]

    def _update(self, coefficients: Tensor) -> Tensor:
        """Return the update's coefficients (B, C, r) from those of the tokens (B, C, d)."""
        z = torch.matmul(coefficients, self.down.to(coefficients.dtype)).float()
        if self.gains is not None:
            # Synthesis and analysis again: the identity where the transform is orthogonal, a projection where C > N.
            z = z * self.gains
            z = z if self.transform.orthogonal else self.transform.analyse(self.transform.synthesise(z))
        return torch.matmul(z, self.up)

    def _update_by_tokens(self, x: Tensor) -> Tensor:
        """Return the same through the layer's own update, for one that is not linear in the tokens."""
        return self.transform.analyse(self._patches(self.layer.update(x.float()).float() @ self.basis))

    def _energy(self, coefficients: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(coefficients, dim=-1, dtype=torch.float32)
        energy: Tensor = norms.square() @ self.of_band
        return energy

    def even_share(self) -> list[float]:
        """Share of each band in the energy of tokens without any structure (white noise)."""
        t = self.transform
        norms = coefficient_norms(t.grid, t.wavelet, t.levels, t.mode)
        energy = norms.square() @ self.of_band.cpu().double()
        return [float(e) for e in energy / energy.sum()]


def _precision(device: str) -> torch.dtype:
    """Return the dtype of the large product: bf16 where the model itself runs in it, float32 otherwise.

    Energies are then within 0.1 % of a fraction, and measuring stays cheap beside a forward pass. Never float16, whose
    range a coefficient may leave.
    """
    in_bf16 = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
    return torch.bfloat16 if in_bf16 else torch.float32


class SubbandEnergy:
    """Streaming measurement of energy by layer and subband over a set of images.

    For each adapted layer the patch tokens that enter it, x (N, d), and the update that the adapter adds, u (N, e),
    are transformed over the token grid; the energy of a subband is the sum of its squared coefficients over channels.
    Energies are summed over images and given as fractions over the subbands. Prefix tokens have no place in the
    picture and are left out. Where the transform is not orthogonal (longer wavelets, odd grids) the fractions are
    those of the coefficients, which then overlap a little.

    Args:
        model: a PEFT model with WaRA, Tiny-WaRA or LoRA layers; it runs in evaluation mode meanwhile.
        classes: names of the classes, in the order of the labels.
        adapter: the adapter to look at; None takes the active one.
        wavelet: wavelet for layers without a transform of their own (LoRA).
        levels: depth for such layers, less where the grid does not allow it.
        patch_size: width of a token in pixels; None reads it from the model.
        method: name of the method, for colours and captions; None finds it.

    Raises:
        ValueError: if the model has no adapted layer.

    Example::

        with SubbandEnergy(model, classes) as energy:
            for images, labels in batches:
                logits = energy.add(images, labels)
        data = energy.result()
    """

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str],
        *,
        adapter: str | None = None,
        wavelet: str = "haar",
        levels: int = 2,
        patch_size: int | None = None,
        method: str | None = None,
    ) -> None:
        layers = adapted_layers(model, adapter)
        if not layers:
            raise ValueError("the model has no adapted layer; subband energy needs WaRA, Tiny-WaRA or LoRA layers")
        self._model, self.classes = model, list(classes)
        self._own_transform = all(layer.transform is not None for layer in layers.values())
        if not self._own_transform:
            layers = _on_their_grids(model, layers)
        device = next(iter(layers.values())).A.device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):  # a caller may stand inside autocast already
            self._probes = [_Probe(x, x.transform or _stand_in(x, wavelet, levels)) for x in layers.values()]
        transform = next(iter(layers.values())).transform
        self._wavelet = transform.wavelet if transform else wavelet
        self._bands = order_bands(band for probe in self._probes for band in probe.bands)
        # In stages or windows of their own grids a token is not as wide as a patch.
        of_patches = (declared := declared_grid(model)) and all(x.grid == declared[:2] for x in layers.values())
        self._patch_size = patch_size or (patch_size_of(model) if of_patches else None)
        self._method = method or method_of(layers)
        shape = (len(self.classes), len(KINDS), len(layers), len(self._bands))
        self._sums = torch.zeros(shape, dtype=torch.float64)
        self._counts = [0] * len(self.classes)
        self._handles: list[RemovableHandle] = []
        self._was_training = False

    def __enter__(self) -> Self:
        """Put the hooks in and the model into evaluation mode."""
        self._was_training = self._model.training
        self._model.eval()
        self._handles = [probe.layer.module.register_forward_pre_hook(probe) for probe in self._probes]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the hooks out again and restore the model's mode."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._model.train(self._was_training)

    def add(
        self,
        images: Tensor,
        labels: Tensor | Sequence[int],
        *,
        run: Callable[[Tensor], Tensor] | None = None,
        shares: int = 1,
    ) -> Tensor:
        """Run a batch through the model and count its energies.

        Args:
            images: (B, 3, height, width), as the model takes them.
            labels: (B,) class of each image, in ``range(len(classes))``.
            run: runs the model, where that takes a context of its own (a thread has its own autocast).
            shares: parts that the batch is computed in at once, see `wara.training.shares.number_of`.

        Returns:
            The model's output, so that one pass can predict and measure.

        Raises:
            RuntimeError: outside the ``with`` block.
            ValueError: if labels do not belong to the images or the classes.
        """
        if not self._handles:
            raise RuntimeError("SubbandEnergy.add works inside its with block only")
        index = torch.as_tensor(labels, dtype=torch.int64).cpu()
        if index.shape != images.shape[:1]:
            raise ValueError(f"labels of shape {tuple(index.shape)} for {len(images)} images")
        if len(index) and not (0 <= int(index.min()) <= int(index.max()) < len(self.classes)):
            raise ValueError(f"labels {int(index.min())} to {int(index.max())} for {len(self.classes)} classes")
        outputs, energies = zip(*at_once(partial(self._pass, run or self._model), cut(shares, images)), strict=True)
        # One after the other, in their order, so that the same images give the same bits.
        for of_share, some in zip(energies, index.tensor_split(len(energies)), strict=True):
            for position, energy in of_share:
                self._sums[:, :, position].index_add_(0, some, energy)
        for label in index.tolist():
            self._counts[label] += 1
        return torch.cat(outputs)

    def _pass(self, run: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, list[tuple[int, Tensor]]]:
        """Return the model's output, and energies (B, 2, S) with the place of their layer."""
        for probe in self._probes:
            probe.measured.clear()
        found = []
        with torch.inference_mode():
            output = run(images)
            for position, probe in enumerate(self._probes):
                columns = [self._bands.index(band) for band in probe.bands]
                for measured in probe.measured:  # (B, 2, S); once unless the model calls a layer again
                    energy = torch.zeros(len(images), len(KINDS), len(self._bands), dtype=torch.float64)
                    # Windows stand image after image.
                    windows = len(measured) // max(1, len(images))
                    of_image = measured.reshape(len(images), windows, *measured.shape[1:]).sum(dim=1)
                    energy[:, :, columns] = of_image.cpu().double()
                    found.append((position, energy))
                probe.measured.clear()
        return output, found

    def result(self) -> dict[str, Any]:
        """Return what was measured, as JSON-able plain values.

        Returns:
            ``bands`` (coarse to fine), ``layers``, ``classes``, ``overall``: ``{"tokens": rows, "update": rows}`` with
            one row of S fractions a layer (None where there is no energy at all, as of an update that is still zero),
            ``per_class``: ``{class: the same}``, ``energy``: ``{"tokens": [...], "update": [...]}``, the energy of an
            image in each layer before it is shared out (None without images), ``orthogonal``: whether that is exactly
            the tokens' own (Parseval), ``even``: rows for energy without any structure, ``n_images``:
            ``{"overall": n, "per_class": {class: n}}``, ``wavelet``, ``levels``, ``grid``, ``patch_size``,
            ``method``, ``own_transform`` and ``note`` (a sentence where the transform is a stand-in).
        """
        note = None if self._own_transform else _STAND_IN_NOTE.format(wavelet=self._wavelet.capitalize())
        sums = self._sums
        return {
            "format": 1,
            "bands": self._bands,
            "layers": [probe.layer.name for probe in self._probes],
            "wavelet": self._wavelet,
            "levels": max(int(band[1:]) for band in self._bands),
            "grid": list(self._probes[0].layer.grid),
            "patch_size": self._patch_size,
            "method": self._method,
            "own_transform": self._own_transform,
            "note": note,
            "classes": self.classes,
            "overall": _fractions(sums.sum(dim=0)),
            "per_class": {label: _fractions(sums[c]) for c, label in enumerate(self.classes)},
            "energy": {
                kind: (sums.sum(dim=0)[k].sum(dim=1) / sum(self._counts)).tolist() if sum(self._counts) else None
                for k, kind in enumerate(KINDS)
            },
            "orthogonal": all(probe.transform.orthogonal for probe in self._probes),
            "even": self._even(),
            "n_images": {
                "overall": sum(self._counts),
                "per_class": dict(zip(self.classes, self._counts, strict=True)),
            },
        }

    def _even(self) -> list[list[float]]:
        rows = []
        for probe in self._probes:
            share = dict(zip(probe.bands, probe.even_share(), strict=True))
            rows.append([share.get(band, 0.0) for band in self._bands])
        return rows


_STAND_IN_NOTE = (
    "This method has no wavelet transform of its own; "
    "its layers were looked at through a {wavelet} transform of the token grid."
)


def _on_their_grids(model: nn.Module, layers: dict[str, AdaptedLayer]) -> dict[str, AdaptedLayer]:
    """Return layers without a transform of their own with the grid on which their tokens stand.

    Raises:
        ValueError: tokens of a layer stand on no grid.
    """
    base = cast(PeftModel, model).get_base_model() if isinstance(model, PeftModel) else model
    placed = {}
    for name, grid in grids_of_layers(base, list(layers)).items():
        if isinstance(grid, AdapterError):
            raise ValueError(f"layer {name!r}: {grid}")
        placed[name] = replace(layers[name], grid=grid[:2], num_prefix_tokens=grid.num_prefix_tokens)
    return placed


def _stand_in(layer: AdaptedLayer, wavelet: str, levels: int) -> SubbandTransform:
    """Return a transform of the layer's grid for an adapter that has none."""
    return SubbandTransform(layer.grid, wavelet, min(levels, max_levels(layer.grid)))


def _fractions(energy: Tensor) -> dict[str, list[list[float] | None]]:
    """Turn energies (2, L, S) into fractions over S."""
    shares: dict[str, list[list[float] | None]] = {}
    for kind, rows in zip(KINDS, energy, strict=True):
        shares[kind] = [(row / row.sum()).tolist() if row.sum() > 0 else None for row in rows]
    return shares
