"""A model's subband readout: put in, counted, saved and loaded. `wara.training.fit_readout` fits it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wara.backbones import Backbone
from wara.errors import InputError
from wara.training.class_token import base_of
from wara.training.recipe import Recipe
from wara.tuner import AdapterError
from wara.tuner.readout import SubbandReadout, add_readout, can_be_read, readout_of

FILE = "readout.safetensors"
_NAMES = ("centre", "scale", "weight", "bias")


def reads(backbone: Backbone, recipe: Recipe) -> bool:
    """Whether a run on this backbone has a readout."""
    if recipe.readout == "auto":
        return can_be_read(backbone.model)
    return recipe.readout != "none"


def is_settled(model: nn.Module) -> bool:
    """Whether training changes nothing of what a model's readout reads, so that it can be fitted before."""
    readout = readout_of(model)
    if readout is None:
        return False
    base: Any = base_of(model)
    below = [parameter for block in base.blocks[: max(readout.depths)] for parameter in block.parameters()]
    return not any(parameter.requires_grad for parameter in below)


def put_in(model: nn.Module, backbone: Backbone, wavelet: str) -> SubbandReadout:
    """Put a readout that is not fitted yet into a model.

    Raises:
        InputError: the backbone has no blocks on one grid; code ``"recipe-readout"``.
    """
    base = base_of(model)
    classes: int = getattr(base, "num_classes", 0)
    try:
        return add_readout(base, backbone.head, classes, wavelet=wavelet)
    except AdapterError as error:
        raise InputError(
            f"The option readout cannot be used with {backbone.name}", seen=str(error).rstrip("."),
            remedy="Set the option readout to none, or use a ViT, DeiT or DINOv2 backbone.", code="recipe-readout",
        ) from error  # fmt: skip


def numbers_in(model: nn.Module) -> int:
    """Return how many fitted numbers a model's readout has; 0 without one."""
    readout = readout_of(model)
    return 0 if readout is None else readout.weight.numel() + readout.bias.numel()


def fill_readout(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give saved numbers to a model's readout.

    Raises:
        AdapterError: one has another shape or is not finite.
        KeyError: one is missing.
    """
    readout = readout_of(model)
    if readout is not None:
        readout.fill(*(tensors[name].float() for name in _NAMES))


def save_readout(model: nn.Module, folder: Path) -> None:
    """Write a model's fitted readout into the folder of its adapter, where it has one."""
    readout = readout_of(model)
    if readout is not None and readout.is_fitted:
        save_file({name: getattr(readout, name).detach().cpu().contiguous() for name in _NAMES}, folder / FILE)


def load_readout(model: nn.Module, backbone: Backbone, wavelet: str, folder: Path) -> None:
    """Put the readout that a run saved into its model.

    Raises:
        InputError: it is missing, damaged, or that of another model.
    """
    put_in(model, backbone, wavelet)
    path = folder / FILE
    if not path.is_file():
        raise InputError(
            "The run holds no readout", seen=f"{folder.name}/{FILE} is missing",
            remedy="Train the model to the end, or copy the whole run folder.", code="run-incomplete",
        )  # fmt: skip
    try:
        fill_readout(model, load_file(path))
    except Exception as error:  # the reader of a damaged file stumbles over anything
        seen = str(error).rstrip(".") if isinstance(error, AdapterError) else FILE
        raise InputError(
            "The readout of this run cannot be read", seen=seen[:200],
            remedy="Copy the run folder again from where it was made.", code="run-damaged",
        ) from error  # fmt: skip
