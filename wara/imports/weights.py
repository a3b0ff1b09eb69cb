"""The trained tensors of a run from elsewhere, put into a model that is built here and not from what was sent."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, cast

import peft
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from wara.backbones import Backbone
from wara.errors import InputError
from wara.imports.archive import FULL, PEFT_CONFIG, PEFT_WEIGHTS, READOUT, RunArchive, unfit
from wara.training.methods import PEFT_METHODS, build, load_trained_state, save, trained_state
from wara.training.readout import fill_readout
from wara.training.recipe import Recipe
from wara.tuner import AdapterError
from wara.tuner.readout import readout_of

# Of PEFT's configuration, what tells of a moment or a version and not of the model.
_FREE = frozenset({"peft_version", "inference_mode", "init_weights", "init_lora_weights"})
_NOTHING: tuple[Any, ...] = (None, False, 0, "", [], {})


def restored(archive: RunArchive, recipe: Recipe, backbone: Backbone, folder: Path) -> nn.Module:
    """Return the trained model, written into a folder as training writes it.

    The adapter is made by the recipe, as in training; the configuration that was sent must say the same and is not
    used, so that nothing in it can name a file, a module or a program.

    Raises:
        InputError: configuration or tensors are not those of this recipe on this backbone.
    """
    model = build(backbone, recipe)
    adapter = recipe.method in PEFT_METHODS
    if adapter:
        save(model, recipe, folder)
        _require_same_config(
            archive.json(PEFT_CONFIG), json.loads((folder / PurePosixPath(PEFT_CONFIG).name).read_text("utf-8"))
        )
    name = PEFT_WEIGHTS if adapter else FULL
    tensors = _tensors(archive, name)
    _require_fit(tensors, peft.get_peft_model_state_dict(model) if adapter else trained_state(model), name)
    if adapter:
        peft.set_peft_model_state_dict(model, tensors)
    else:
        load_trained_state(model, tensors)
    if readout_of(model) is not None:
        _fill_readout(model, _tensors(archive, READOUT))
    save(model, recipe, folder)
    return model


def _fill_readout(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    try:
        fill_readout(model, tensors)
    except (AdapterError, KeyError) as error:
        raise _misfit(READOUT, str(error).rstrip(".")[:200]) from error


def _require_same_config(sent: Any, own: dict[str, Any]) -> None:
    if not isinstance(sent, dict):
        raise unfit(PEFT_CONFIG, "it is no object")
    if missing := [key for key in ("peft_type", "r", "target_modules") if key not in sent]:
        raise unfit(PEFT_CONFIG, f"{missing[0]} is missing")
    for key, value in sent.items():
        if key in _FREE:
            continue
        # Another version of PEFT may know more options; one that is not in use changes nothing.
        same = _plain(value) == _plain(own[key]) if key in own else value in _NOTHING
        if not same:
            raise InputError(
                "The adapter's configuration does not belong to the recipe of this model",
                seen=f"{key[:60]}: {str(value)[:100]}"
                + (f", expected {str(own[key])[:100]}" if key in own else ", which is not known here"),
                remedy="Bring in the model as it was downloaded; an adapter made by another program cannot be used.",
                code="import-adapter",
            )


def _plain(value: Any) -> Any:
    """Return a value with lists of names in an order: PEFT writes sets as they come."""
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return sorted(value)
    return value


def _tensors(archive: RunArchive, name: str) -> dict[str, Tensor]:
    try:
        return cast(dict[str, Tensor], load(archive.read(name)))
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise unfit(name, "it is no whole safetensors file") from error


def _require_fit(tensors: dict[str, Tensor], own: dict[str, Tensor], name: str) -> None:
    if tensors.keys() != own.keys():
        odd = min(tensors.keys() ^ own.keys())
        raise _misfit(name, f"{odd[:120]} is {'missing' if odd in own else 'not known'}")
    for key, tensor in tensors.items():
        if tensor.shape != own[key].shape or tensor.dtype != own[key].dtype:
            raise _misfit(
                name,
                f"{key}: {tensor.dtype} {tuple(tensor.shape)}, expected {own[key].dtype} {tuple(own[key].shape)}",
            )
        if not bool(torch.isfinite(tensor).all()):
            raise _misfit(name, f"{key} holds numbers that are not finite")


def _misfit(name: str, seen: str) -> InputError:
    return InputError(
        "The weights do not belong to this recipe and backbone", seen=f"{name}: {seen}",
        remedy="Bring in the model as it was downloaded.", code="import-weights",
    )  # fmt: skip
