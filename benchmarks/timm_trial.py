"""One architecture of timm put to the test: both methods in it, forward and backward, or a refusal with a reason."""

from __future__ import annotations

import collections
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import peft
import torch
from torch import Tensor, nn

from benchmarks.timm_catalogue import RATES, Small, draw_weights, outline, smaller
from wara.tuner import AdapterError, TinyWaraConfig, WaraConfig, adapted_layers
from wara.tuner.attention import attentions_of
from wara.tuner.layer import SubbandLayer

OUTCOMES = ("adapted", "refused", "crashed", "no attention")
_LEARNED = {"wara": "wara_B", "tiny-wara": "wara_v"}


@dataclass
class Outcome:
    """What came of one architecture.

    Attributes:
        name: timm's.
        family: the module of timm that makes it.
        outcome: one of `OUTCOMES`.
        reason: why it was refused, or the last line of the error.
        grids: the grids found, as "14x14+1 (12)": rows, columns, prefix tokens and the number of layers.
        side: side of the images in pixels that it was tried on.
        left_out: number of blocks that were left out because they are like others.
        same_as: the architecture whose trial this is too, because nothing in it differs once it is made small.
        seconds: that it took.
    """

    name: str
    family: str
    outcome: str
    reason: str = ""
    grids: tuple[str, ...] = ()
    side: int = 0
    left_out: int = 0
    same_as: str = ""
    seconds: float = 0.0


class Failed(Exception):
    """An adapter went in, and then did not do what it should."""


Known = dict[str, Outcome]


def try_architecture(family: str, name: str, known: Known) -> Outcome:
    """Try one architecture.

    Args:
        family: the module of timm that makes it.
        name: timm's.
        known: outcomes by signature; an architecture that is the same as an earlier one gets its outcome.
    """
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            whole, used = outline(family, name)
            if not attentions_of(whole):
                result = Outcome(name, family, "no attention")
            else:
                result = _try_smaller(smaller(name, whole, used), family, name, known)
        except Exception as error:  # whatever it is, it is the outcome of this one, and the next follows
            result = Outcome(name, family, "crashed", last_line(error))
    result.seconds = round(time.perf_counter() - start, 2)
    return result


def last_line(error: BaseException) -> str:
    """Return the last line of a traceback."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]


def _try_smaller(ways: Iterator[Small], family: str, name: str, known: Known) -> Outcome:
    """Try the smallest way in which the model runs, and larger ones where that is refused: it may be too small."""
    failure: Exception | None = None
    refused: Outcome | None = None
    signatures: list[str] = []
    for small in ways:
        signatures.append(small.signature)
        if (same := known.get(small.signature)) is not None:
            result = Outcome(**{**asdict(same), "name": name, "family": family, "same_as": same.same_as or same.name})
            break
        if refused is not None and small.side <= refused.side:
            continue
        try:
            images = _ready(small)
        except Exception as error:  # made small in this way, the model itself does not run
            failure = error
            continue
        result = Outcome(name, family, "adapted", "", (), small.side, small.left_out)
        try:
            result.grids = tuple(_adapt_and_train(small.model, images))
            break
        except AdapterError as error:
            result.outcome, result.reason = "refused", str(error)
            refused = result
    else:
        if refused is None:
            assert failure is not None
            raise Failed(f"the model itself does not run: {last_line(failure)}") from failure
        result = refused
    known.update(dict.fromkeys(signatures, result))
    return result


def _ready(small: Small) -> Tensor:
    """Give a model weights and see that it runs by itself; return the images."""
    draw_weights(small.model)
    images = torch.randn(2, 3, small.side, small.side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        _require_finite(_outputs(small.model.train()(images)))
    return images


def _adapt_and_train(model: nn.Module, images: Tensor) -> list[str]:
    """Put both methods in, one after the other, and train a step with each; return the grids.

    Raises:
        AdapterError: the model is refused by both methods, before anything is changed.
        Failed: anything else that is not as it should be.
    """
    grids: list[str] = []
    refusals: list[AdapterError] = []
    shared: dict[str, Any] = {"r": 4}
    for method, config in (("wara", WaraConfig(**shared)), ("tiny-wara", TinyWaraConfig(u=4, **shared))):
        try:
            adapted = peft.get_peft_model(model, config)
        except AdapterError as error:
            refusals.append(error)
            continue
        try:
            found = _train_a_step(adapted, images, _LEARNED[method])
        except AdapterError as error:
            raise Failed(f"{method} is refused too late: {error}") from error
        if grids and found != grids:
            raise Failed(f"the two methods see other grids: {grids} and {found}")
        grids = found
        model = adapted.unload()
    if not refusals:
        return grids
    if len(refusals) == 2 and str(refusals[0]) == str(refusals[1]):
        raise refusals[0]
    raise Failed(f"the two methods are not refused alike: {refusals}")


def _train_a_step(model: nn.Module, images: Tensor, learned: str) -> list[str]:
    layers = adapted_layers(model)
    if not layers:
        raise Failed("no layer was adapted")
    model.train()
    for module in model.modules():
        if type(module).__name__.startswith(RATES):  # a path that is dropped for both images has no gradient
            module.eval()
    outputs = _outputs(model(images))
    _require_finite(outputs)
    generator = torch.Generator().manual_seed(2)
    # Each number with a weight of its own: a plain sum can have no gradient at all behind a norm.
    sum((o.float() * torch.randn(o.shape, generator=generator)).sum() for o in outputs).backward()  # type: ignore[union-attr]
    for name, layer in layers.items():
        gradient = layer.module.get_parameter(f"{learned}.default").grad
        if gradient is None or not bool(torch.isfinite(gradient).all()) or not bool(gradient.abs().max() > 0):
            raise Failed(f"no gradient reaches {learned} of {name!r}")
    model.eval()
    with torch.no_grad():
        before = _outputs(model(images))
        for layer in layers.values():
            layer.module.get_parameter(f"{learned}.default").normal_(std=0.1, generator=generator)
        after = _outputs(model(images))
    _require_finite(after)
    if all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(after, before, strict=True)):
        raise Failed("another adapter gives the same outputs")
    counted = collections.Counter(
        f"{layer.grid[0]}x{layer.grid[1]}" + (f"+{layer.num_prefix_tokens}" if layer.num_prefix_tokens else "")
        for layer in layers.values()
    )
    assert all(isinstance(layer.module, SubbandLayer) for layer in layers.values())
    return [f"{grid} ({number})" for grid, number in sorted(counted.items())]


def _outputs(given: Any) -> list[Tensor]:
    return list(_tensors(given))


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        if given.is_floating_point():
            yield given
    elif isinstance(given, dict):
        for part in given.values():
            yield from _tensors(part)
    elif isinstance(given, tuple | list):
        for part in given:
            yield from _tensors(part)


def _require_finite(outputs: list[Tensor]) -> None:
    if not outputs or not all(bool(torch.isfinite(output).all()) for output in outputs):
        raise Failed("its output is not finite")
