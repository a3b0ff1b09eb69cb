"""Whether the maps depend on what was learned: they must change when the trained weights are shuffled.

Source: Adebayo et al. 2018, *Sanity Checks for Saliency Maps*, arXiv:1810.03292: the test that randomises parameters.
Here the trained weights are the adapters' and the head's. Shuffling the values of a tensor keeps their distribution, so
maps cannot change merely because weights grew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn

from wara.analysis.relevance import UpdateRelevance
from wara.analysis.scales import scales_of

STEPS = 4
_NEARBY_NOISE = 0.02  # standard deviations of the model's input: an image that nobody could tell from the first


def randomisation_test(
    model: nn.Module, images: Tensor, *, order: str = "cascading", stages: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Compare maps before and after the trained weights are shuffled, the head first, then layers from the last on.

    The class that is explained stays the one of the trained model. The model is left exactly as it was.

    Args:
        model: a PEFT model with adapted layers; nobody else may use it meanwhile.
        images: (B, 3, height, width), a few images.
        order: ``"cascading"``: each stage shuffles one more part and keeps those before; ``"independent"``: each stage
            shuffles one part alone.
        stages: at most so many stages after the head, several layers at once; None for one a layer.
        seed: of the shuffling.

    Returns:
        ``order``, ``images``, ``recomputed``: rank correlation (Spearman, mean over images) of the maps with those of
        the same model measured again, ``nearby``: with those of the images under noise that nobody sees, and
        ``stages``: ``[{"shuffled": names, "correlation": r}]``. None where a map has no two different values.

    Raises:
        InputError: from `UpdateRelevance`.
        ValueError: if ``order`` is unknown.
    """
    if order not in ("cascading", "independent"):
        raise ValueError(f"no order {order!r}; there are 'cascading' and 'independent'")
    measure = UpdateRelevance(model)
    scales = scales_of(measure.bands, measure.levels, measure.patch_size)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=generator).to(images)
    first = measure.measure(images, steps=STEPS)

    def maps(shown: Tensor) -> Tensor:
        found = measure.measure(shown, first.target, steps=STEPS).maps
        return torch.stack([found[:, list(scale.rows)].sum(dim=1) for scale in scales], dim=1)

    before = maps(images)
    found: dict[str, Any] = {
        "order": order,
        "images": len(images),
        "recomputed": _agreement(before, maps(images)),
        "nearby": _agreement(before, maps(images + _NEARBY_NOISE * noise)),
        "stages": [],
    }
    parts = _parts(model, stages)
    for place, (names, _) in enumerate(parts):
        chosen = parts[: place + 1] if order == "cascading" else parts[place : place + 1]
        with _shuffled([tensor for _, tensors in chosen for tensor in tensors], seed):
            after = maps(images)
        found["stages"].append({"shuffled": names, "correlation": _agreement(before, after)})
    return found


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """Return the rank correlation of two arrays of one shape, ties at their mean rank; None if one is constant."""
    a, b = _ranks(first.ravel()), _ranks(second.ravel())
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else None


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[place], dtype=np.float64)


def _agreement(first: Tensor, second: Tensor) -> float | None:
    known = [r for a, b in zip(first.numpy(), second.numpy(), strict=True) if (r := spearman(a, b)) is not None]
    return float(np.mean(known)) if known else None


def _parts(model: nn.Module, stages: int | None) -> list[tuple[list[str], list[Tensor]]]:
    """Return what is shuffled at each stage: the head, then adapters from the last layer to the first."""
    base = cast(PeftModel, model).get_base_model() if isinstance(model, PeftModel) else model
    layers: dict[str, list[Tensor]] = {}
    head: dict[str, Tensor] = {}
    for name, parameter in cast(nn.Module, base).named_parameters():
        owner, learned, _ = _split(name)
        if learned:
            layers.setdefault(owner, []).append(parameter.data)
        elif ".modules_to_save." in name:
            head[name] = parameter.data
    order = list(layers)[::-1]
    per_stage = 1 if stages is None else -(-len(order) // stages)
    groups = [order[start : start + per_stage] for start in range(0, len(order), per_stage)]
    of_layers = [(names, [tensor for name in names for tensor in layers[name]]) for names in groups]
    return ([(["head"], list(head.values()))] if head else []) + of_layers


def _split(name: str) -> tuple[str, bool, str]:
    for mark in (".wara_", ".lora_"):
        owner, found, rest = name.partition(mark)
        if found:
            return owner, True, rest
    return name, False, ""


@contextmanager
def _shuffled(tensors: Sequence[Tensor], seed: int) -> Iterator[None]:
    """Shuffle the values within each tensor, in place, and put them back."""
    kept = [tensor.clone() for tensor in tensors]
    generator = torch.Generator().manual_seed(seed)
    try:
        for tensor in tensors:
            order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
            tensor.copy_(tensor.reshape(-1)[order].reshape(tensor.shape))
        yield
    finally:
        for tensor, values in zip(tensors, kept, strict=True):
            tensor.copy_(values)
