"""How many directions the update of each adapted layer really uses: its singular values, beside the base weight's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wara.analysis.layers import method_of
from wara.tuner import AdaptedLayer, adapted_layers

BASE_VALUES = 64  # leading singular values of the base weight that are kept


def singular_spectrum(model: nn.Module, *, adapter: str | None = None, method: str | None = None) -> dict[str, Any]:
    """Return the singular spectrum of every adapted layer's update, as JSON-able plain values.

    The update of a layer is B A, B (e, r) with the scaling folded in and A (r, d). Learned gains make it depend on
    the scale of detail; the weight looked at then is B diag(g) A with g the mean of the gains over all coefficients,
    which for an orthogonal transform is the weight nearest to the whole update (least squares over inputs without
    structure). An activation is not part of it.

    - effective rank: exp of the entropy of the singular values over their sum (Roy and Vetterli 2007, *The effective
      rank: a measure of effective dimensionality*); 1 when one direction does everything, r when all do the same;
    - stable rank: squared Frobenius norm over squared largest singular value (Rudelson and Vershynin 2007).

    Args:
        model: a PEFT model with WaRA, Tiny-WaRA or LoRA layers.
        adapter: the adapter to look at; None takes the active one.
        method: name of the method, for colours and captions; None finds it.

    Returns:
        ``method``, ``rank`` and ``layers``: each with ``name``, ``singular_values`` (r, falling), ``effective_rank``
        and ``stable_rank`` (None for an update that is zero), ``base_singular_values`` (leading 64 at most),
        ``base_effective_rank``, ``relative_norm`` (Frobenius norm of the update over the base weight's) and ``shape``.

    Raises:
        ValueError: if the model has no adapted layer.
    """
    layers = adapted_layers(model, adapter)
    if not layers:
        raise ValueError("the model has no adapted layer; a spectrum needs WaRA, Tiny-WaRA or LoRA layers")
    return {
        "format": 1,
        "method": method or method_of(layers),
        "rank": max(layer.A.shape[0] for layer in layers.values()),
        "layers": [_layer_spectrum(layer) for layer in layers.values()],
    }


def effective_rank(singular_values: Tensor) -> float | None:
    """Return the effective rank (Roy and Vetterli 2007) of singular values; None where all are zero."""
    total = singular_values.sum()
    if total <= 0:
        return None
    shares = singular_values / total
    return float(torch.exp(torch.special.entr(shares).sum()))


def stable_rank(singular_values: Tensor) -> float | None:
    """Return the sum of squares over the largest square; None where all are zero."""
    largest = singular_values.max()
    if largest <= 0:
        return None
    return float((singular_values / largest).square().sum())


def update_singular_values(layer: AdaptedLayer) -> Tensor:
    """Return the r singular values of a layer's update, falling, in float64.

    By QR of both factors: with B = Qb Rb and A^T = Qa Ra the values of B diag(g) A are those of the r x r matrix
    Rb diag(g) Ra^T, so that nothing of size e x d is ever made.
    """
    down, up = layer.A.detach().cpu().double(), layer.B.detach().cpu().double()
    if layer.gains is not None:
        up = up * _mean_gain(layer).to(up)
    right_of_up = torch.linalg.qr(up, mode="r").R
    right_of_down = torch.linalg.qr(down.T, mode="r").R
    values: Tensor = torch.linalg.svdvals(right_of_up @ right_of_down.T)
    return values


def _mean_gain(layer: AdaptedLayer) -> Tensor:
    """Return the mean of the gains over all coefficients: (r,)."""
    assert layer.gains is not None and layer.transform is not None, "gains come with a transform"
    gains = layer.gains.detach().cpu().double()
    sizes = torch.tensor([rows.stop - rows.start for rows in layer.transform.band_slices], dtype=torch.float64)
    return (sizes / sizes.sum()) @ gains


def _base_singular_values(weight: Tensor) -> Tensor:
    """Return all singular values of a weight by its smaller Gram matrix.

    Several times faster than an SVD. Values below about 1e-8 of the largest drown in rounding, and those are far from
    the leading ones that are shown.
    """
    weight = weight.detach().cpu().double()
    gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    squares: Tensor = torch.linalg.eigvalsh(gram)
    return squares.clamp(min=0).flip(0).sqrt()


def _layer_spectrum(layer: AdaptedLayer) -> dict[str, Any]:
    values = update_singular_values(layer)
    base = _base_singular_values(layer.base_weight)
    base_norm = float(base.square().sum().sqrt())
    return {
        "name": layer.name,
        "shape": list(layer.base_weight.shape),
        "singular_values": values.tolist(),
        "effective_rank": effective_rank(values),
        "stable_rank": stable_rank(values),
        "base_singular_values": base[:BASE_VALUES].tolist(),
        "base_effective_rank": effective_rank(base),
        "relative_norm": float(values.square().sum().sqrt()) / base_norm if base_norm > 0 else None,
    }
