"""A trial run: a few images through a model, to see what tokens each of its layers is given and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wara.tuner.errors import AdapterError
from wara.tuner.grid import embedding_of

# Where the trial images differ from the first, which is even: a bar of noise along the rows (axis 0) or the columns
# (axis 1) across the whole image, and where its middle stands on the other axis. Off the diagonal and off the middle,
# so that an order by columns or from the end shows; on the very first row, so that a first patch is no prefix token.
BARS = ((0, 0.02), (1, 0.8), (0, 0.6), (1, 0.3))
# Half of a bar's thickness in pixels: thin, so that windows of few and small tokens are not filled by it.
_REACH = 2


@dataclass
class SeenTokens:
    """The tokens that a layer was given in the trial run.

    Attributes:
        shapes: distinct shapes (..., tokens, channels) without their first axis, which counts images or windows.
        batch: length of that first axis, the last time.
        changes: for each call how much each token differs between the even image and each other one,
            (images - 1, tokens of one image or window); None where the tokens of an image cannot be told.
    """

    shapes: set[tuple[int, ...]] = field(default_factory=set)
    batch: int = 0
    changes: list[Tensor | None] = field(default_factory=list)


@dataclass
class Trial:
    """A trial run: image size, number of images, and the tokens seen by layer; a layer that is missing was not run."""

    size: tuple[int, int]
    images: int
    seen: dict[str, SeenTokens]


def run_trial(model: nn.Module, names: list[str], images: int = 1 + len(BARS)) -> Trial:
    """Run a few images through a model and return what tokens the named layers were given.

    The model is left as it was: its training flags, its buffers and the state of torch's random numbers.

    Raises:
        AdapterError: the model does not take images of the size that it states.
    """
    size, channels = _input_of(model)
    first = next(p for p in model.parameters() if p.is_floating_point())
    reasons = []
    for number in dict.fromkeys((channels, 3)):
        batch = _trial_images(size, number)[:images].to(device=first.device, dtype=first.dtype)
        try:
            return Trial(size, images, _seen_by(model, names, batch))
        except AdapterError:
            raise
        except Exception as error:  # whatever a foreign model raises is the reason that is given
            reasons.append(error)
    raise AdapterError(
        f"The model {type(model).__name__} could not be tried on an image of {size[0]} x {size[1]} pixels "
        f"({type(reasons[0]).__name__}: {reasons[0]}), so where its tokens stand is not known. Give grid=(rows, "
        "columns) and num_prefix_tokens in the config."
    ) from reasons[0]


def _seen_by(model: nn.Module, names: list[str], batch: Tensor) -> dict[str, SeenTokens]:
    seen: dict[str, SeenTokens] = {}
    handles = [model.get_submodule(name).register_forward_pre_hook(_Observer(seen, name, len(batch))) for name in names]
    devices = [batch.device] if batch.device.type == "cuda" else []
    try:
        with (
            torch.random.fork_rng(devices=devices), _evaluating(model), _without_adapters(model), torch.no_grad(),
            _Alone(),
        ):  # fmt: skip
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return seen


class _Observer:
    def __init__(self, seen: dict[str, SeenTokens], name: str, images: int) -> None:
        self.seen, self.name, self.images = seen, name, images

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        tokens = inputs[0].detach()
        entry = self.seen.setdefault(self.name, SeenTokens())
        entry.shapes.add(tuple(tokens.shape[1:]))
        entry.batch = len(tokens)
        if self.images > 1 and tokens.dim() > 2:
            entry.changes.append(self._change(tokens) if len(tokens) % self.images == 0 else None)

    def _change(self, tokens: Tensor) -> Tensor:
        one = tokens.shape[-2:-1] if tokens.dim() == 3 else tokens.shape[-3:-1]  # an image's or a window's tokens
        images = tokens.reshape(self.images, -1, one.numel(), tokens.shape[-1]).float()
        change: Tensor = (images[1:] - images[:1]).square().sum(dim=-1).sqrt()
        return change.amax(dim=1)


class _Alone(TorchFunctionMode):
    """Lets every token see itself alone, so that what a token shows is its own place in the image.

    Attention, and convolutions and means that keep the picture's size, mix tokens; deep models spread a bar over all
    of it by them. Those with a stride stay: they make tokens. Without its neighbours a signal is no longer what a batch
    norm's statistics were taken of, and block by block it would fade or grow, so these images' own are used; they
    are the same at every position of every image.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, _, value = (args + tuple(kwargs[key] for key in ("query", "key", "value") if key in kwargs))[:3]
            shape = (*query.shape[:-1], value.shape[-1])
            return value if value.shape == shape else value.new_zeros(shape)
        if func is F.conv2d:
            return func(*_of_one_position(*args, **kwargs))
        if func is F.avg_pool2d and _keeps_size(*args, **kwargs):
            return args[0].clone()
        if func is F.batch_norm:
            return _with_own_statistics(*args, **kwargs)
        result = func(*args, **kwargs)
        if func in _SOFTMAX and result.dim() > 2 and result.shape[-1] == result.shape[-2]:
            return torch.eye(result.shape[-1], dtype=result.dtype, device=result.device).expand_as(result).clone()
        return result


def _of_one_position(
    input: Tensor,  # noqa: A002 - torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Any, ...]:
    """Return arguments of a convolution with its middle weights alone, where it gives as many positions as it takes."""
    sides = weight.shape[-2:]
    stride, dilation = (value if isinstance(value, tuple | list) else (value, value) for value in (stride, dilation))
    around = [reach * (side - 1) for reach, side in zip(dilation, sides, strict=True)]
    if padding != "same":
        padding = padding if isinstance(padding, tuple | list) else (0, 0) if padding == "valid" else (padding, padding)
    kept = padding == "same" or [2 * one for one in padding] == around
    if max(sides) == 1 or not kept or tuple(stride) != (1, 1) or not all(side % 2 for side in sides):
        return input, weight, bias, stride, padding, dilation, groups
    middle = weight[..., sides[0] // 2 : sides[0] // 2 + 1, sides[1] // 2 : sides[1] // 2 + 1]
    return input, middle, bias, stride, 0, 1, groups


def _with_own_statistics(
    input: Tensor,  # noqa: A002 - torch's name
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return a batch norm by the statistics of its input, which are not kept."""
    if input.numel() == input.shape[1]:  # a channel of one value has no deviation
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return F.batch_norm(input, None, None, weight, bias, True, 0.0, eps)


def _keeps_size(
    input: Tensor,  # noqa: A002 - torch's name
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    *_: Any,
    **__: Any,
) -> bool:
    """Whether a mean over neighbours gives as many positions as it takes."""
    side, step, around = (v if isinstance(v, tuple | list) else (v, v) for v in (kernel_size, stride, padding))
    return tuple(step) == (1, 1) and all(2 * p == k - 1 for p, k in zip(around, side, strict=True))


_SOFTMAX = (torch.softmax, F.softmax, Tensor.softmax)


def _input_of(model: nn.Module) -> tuple[tuple[int, int], int]:
    """Return the image size and the number of channels that a model states."""
    holder = embedding_of(model)
    size: Any = getattr(getattr(holder, "patch_embed", None), "img_size", None)
    if size is None:
        stated = next((c for m in model.modules() if (c := getattr(m, "pretrained_cfg", None))), None) or {}
        size = (stated.get("input_size") or (3, 224, 224))[1:]
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return (int(size[0]), int(size[1])), first.in_channels if first is not None else 3


def _trial_images(size: tuple[int, int], channels: int) -> Tensor:
    """Return an even image and one for each bar, (images, channels, height, width).

    The even image is not zero, or norms would show the faintest trace of a bar, far from it, as strong as the bar.
    """
    generator = torch.Generator(device="cpu").manual_seed(0)
    images = torch.ones(1 + len(BARS), channels, *size, device="cpu")
    for image, (axis, middle) in zip(images[1:], BARS, strict=True):
        first = max(0, min(int(middle * size[axis]), size[axis] - _REACH) - _REACH)
        bar = image.narrow(1 + axis, first, min(2 * _REACH, size[axis]))
        bar.copy_(torch.randn(bar.shape, generator=generator, device="cpu"))
    return images


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def _without_adapters(model: nn.Module) -> Iterator[None]:
    """Leave out adapters that are in already: those of this library mix the tokens of an image."""
    # Not merged ones, which PEFT would take out of the weights; a weight mixes no tokens.
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer) and not module.merged]
    disabled = [layer._disable_adapters for layer in layers]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, before in zip(layers, disabled, strict=True):
            layer._disable_adapters = before
