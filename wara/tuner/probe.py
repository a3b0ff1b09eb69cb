"""What tokens reach each layer of a model, and on which grid they stand: seen by a trial run, not assumed.

A model can state its patch grid, and most of timm's do. Others work in windows or stages of their own grids, put their
tokens in another order, or read a layer's weight without running the layer, so that an adapter there would change
nothing. A few small images tell them apart before anything is trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from wara.tuner.errors import AdapterError
from wara.tuner.grid import TokenGrid, declared_grid, embedding_of

# Where the trial images differ from the first, which is empty: rows and columns as fractions. Off the diagonal, so that
# an order by columns is not taken for one by rows.
_SPOTS = ((0.15, 0.65), (0.65, 0.4), (0.4, 0.9))


@dataclass
class SeenTokens:
    """The tokens that a layer was given in the trial run.

    Attributes:
        shapes: distinct shapes (..., tokens, channels) without their first axis, which counts images or windows.
        batch: length of that first axis, the last time.
        change: how much each token of the last call differs between the empty image and each other one,
            (images - 1, tokens), or None where the tokens of an image cannot be told.
    """

    shapes: set[tuple[int, ...]] = field(default_factory=set)
    batch: int = 0
    change: Tensor | None = None


@dataclass
class Trial:
    """A trial run: image size, number of images, and the tokens seen by layer; a layer that is missing was not run."""

    size: tuple[int, int]
    images: int
    seen: dict[str, SeenTokens]


def grids_of_layers(model: nn.Module, names: list[str]) -> dict[str, TokenGrid | AdapterError]:
    """Return for each named layer the grid on which its tokens stand, or the reason why there is none.

    Raises:
        AdapterError: the model cannot be run on an image of the size that it states.
    """
    declared = declared_grid(model)
    try:
        trial = run_trial(model, names, images=1)
    except AdapterError:
        if declared is not None and all(p.is_meta for p in model.parameters()):
            return {name: declared for name in names}  # an outline that cannot be run; the model itself will be
        raise
    if any(not _is_declared(tokens, trial, declared) for tokens in trial.seen.values()):
        trial = run_trial(model, names)  # the order of tokens matters, and shows by images that differ
    grids: dict[str, TokenGrid | AdapterError] = {}
    for name in names:
        try:
            grids[name] = grid_of_layer(model, name, trial)
        except AdapterError as error:
            grids[name] = error
    return grids


def run_trial(model: nn.Module, names: list[str], images: int = 1 + len(_SPOTS)) -> Trial:
    """Run a few small images through a model and return what tokens the named layers were given.

    Raises:
        AdapterError: the model does not take images of the size that it states.
    """
    size, channels = _input_of(model)
    first = next(p for p in model.parameters() if p.is_floating_point())
    seen: dict[str, SeenTokens] = {}
    batch = _trial_images(size, channels)[:images].to(device=first.device, dtype=first.dtype)
    handles = [model.get_submodule(name).register_forward_pre_hook(_Observer(seen, name, images)) for name in names]
    try:
        with _evaluating(model), torch.no_grad():
            model(batch)
    except AdapterError:
        raise
    except Exception as error:  # whatever a foreign model raises is the reason that is given
        raise AdapterError(
            f"The model {type(model).__name__} could not be tried on an image of {size[0]} x {size[1]} pixels "
            f"({type(error).__name__}: {error}), so where its tokens stand is not known. Give grid=(rows, columns) and "
            "num_prefix_tokens in the config."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return Trial(size, images, seen)


def grid_of_layer(model: nn.Module, name: str, trial: Trial) -> TokenGrid:
    """Return the grid on which the tokens of a layer stand.

    In this order: the grid that the model states; the window that a module around the layer states; a last resort for
    stages with a grid of their own, the square of their number of tokens, when the trial images show that they stand
    row by row.

    Raises:
        AdapterError: why the tokens of this layer are on no grid that is known.
    """
    tokens = trial.seen.get(name)
    if tokens is None:
        raise AdapterError(_passed_by(model, name))
    if len(tokens.shapes) > 1:
        numbers = " and ".join(str(math.prod(shape[:-1])) for shape in sorted(tokens.shapes))
        raise AdapterError(
            f"it is run on {numbers} tokens in one pass, which is not one grid. Leave it out of target_modules."
        )
    (shape,) = tokens.shapes
    if len(shape) == 1:
        raise AdapterError("it is given one token an image, not a grid. Leave it out of target_modules.")
    if len(shape) > 2:
        return _grid_of_planes(shape, tokens, trial)
    declared = declared_grid(model)
    if declared is not None and _is_declared(tokens, trial, declared):
        return TokenGrid(declared.height, declared.width, shape[0] - declared.height * declared.width)
    window = _window_around(model, name, shape[0])
    return TokenGrid(*window, 0) if window is not None else _square(shape[0], tokens, trial)


def _is_declared(tokens: SeenTokens, trial: Trial, declared: TokenGrid | None) -> bool:
    """Whether a layer is given the patch tokens that the model states, with or without its prefix tokens."""
    if declared is None or tokens.batch != trial.images or len(tokens.shapes) != 1:
        return False
    (shape,) = tokens.shapes
    return len(shape) == 2 and shape[0] in (declared.height * declared.width, declared.num_tokens)


def _grid_of_planes(shape: tuple[int, ...], tokens: SeenTokens, trial: Trial) -> TokenGrid:
    """Tokens that come as (..., rows, columns, channels), an image or a window each."""
    height, width = shape[-3:-1]
    if height * trial.size[1] != width * trial.size[0] and (len(shape) > 3 or tokens.batch == trial.images):
        raise AdapterError(
            f"its tokens come as {tuple(shape[:-1])}, which is no picture of an image of {trial.size[0]} x "
            f"{trial.size[1]} pixels. Leave it out of target_modules."
        )
    return TokenGrid(height, width, 0)


def _square(count: int, tokens: SeenTokens, trial: Trial) -> TokenGrid:
    side = math.isqrt(count)
    prefix = count - side * side
    if prefix > 2 or trial.size[0] != trial.size[1]:
        raise AdapterError(
            f"it is given {count} tokens an image of {trial.size[0]} x {trial.size[1]} pixels, and nothing says on "
            "which grid they stand. Give grid=(rows, columns) and num_prefix_tokens in the config, or leave it out of "
            "target_modules."
        )
    if side > 1 and not _row_by_row(tokens, side, prefix):
        raise AdapterError(
            f"its {count} tokens do not stand row by row on a grid of {side} x {side}. Leave it out of target_modules."
        )
    return TokenGrid(side, side, prefix)


def _row_by_row(tokens: SeenTokens, side: int, prefix: int) -> bool:
    """Whether the tokens that change most are those where the trial images differ."""
    if tokens.change is None:
        return False
    if tokens.change.is_meta:
        return True  # a model without weights: its order is checked when it has some
    change = tokens.change[:, prefix:].reshape(-1, side, side)
    for spot, image in zip(_SPOTS, change, strict=True):
        position = divmod(int(image.argmax()), side)
        # Half a token for where a spot falls, one for convolutions in front that reach further.
        if any(abs((at + 0.5) / side - wanted) > 1.6 / side for at, wanted in zip(position, spot, strict=True)):
            return False
    return True


def _window_around(model: nn.Module, name: str, count: int) -> tuple[int, int] | None:
    """Return the window that the nearest module around a layer states, if it has as many tokens."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        window = getattr(model.get_submodule(".".join(parts[:end])), "window_size", None)
        if isinstance(window, int):
            window = (window, window)
        if isinstance(window, tuple | list) and len(window) == 2 and math.prod(window) == count:
            return int(window[0]), int(window[1])
    return None


def _passed_by(model: nn.Module, name: str) -> str:
    around = model.get_submodule(name.rpartition(".")[0]) if "." in name else model
    message = (
        f"the model never runs it ({type(around).__name__} reads its weight itself), so an adapter there would change "
        "nothing. Give target_modules with a layer that is run"
    )
    return message + (", e.g. ['proj']." if isinstance(getattr(around, "proj", None), nn.Linear) else ".")


class _Observer:
    def __init__(self, seen: dict[str, SeenTokens], name: str, images: int) -> None:
        self.seen, self.name, self.images = seen, name, images

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        tokens = inputs[0].detach()
        entry = self.seen.setdefault(self.name, SeenTokens())
        entry.shapes.add(tuple(tokens.shape[1:]))
        entry.batch = len(tokens)
        if self.images > 1 and tokens.dim() == 3 and len(tokens) % self.images == 0:
            images = tokens.reshape(self.images, -1, *tokens.shape[1:]).float()
            entry.change = (images[1:] - images[:1]).square().sum(dim=-1).amax(dim=1)


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
    """Return an empty image and one for each spot, (images, channels, height, width)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(1 + len(_SPOTS), channels, *size)
    reach = max(1, min(size) // 32)
    for image, (row, column) in zip(images[1:], _SPOTS, strict=True):
        y, x = int(row * size[0]), int(column * size[1])
        patch = image[:, max(0, y - reach) : y + reach, max(0, x - reach) : x + reach]
        patch.copy_(torch.randn(patch.shape, generator=generator))
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
