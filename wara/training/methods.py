"""The five methods on one backbone: what is trained, with which step sizes, and how it is saved and loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import peft
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wara.backbones import Backbone
from wara.errors import InputError
from wara.training.class_token import base_of
from wara.training.readout import load_readout, numbers_in, put_in, reads, save_readout
from wara.training.recipe import Recipe
from wara.tuner import AdapterError, TinyWaraConfig, WaraConfig, adapted_layers
from wara.tuner.trial import run_trial

PEFT_METHODS = ("wara", "tiny-wara", "lora")
_PLAIN_FILE = "weights.safetensors"


def build(backbone: Backbone, recipe: Recipe) -> nn.Module:
    """Put a method into a backbone; afterwards exactly what the method trains requires gradients.

    Raises:
        InputError: an option that does not fit this backbone, e.g. a rank larger than its layers.
    """
    model = _method_in(backbone, recipe)
    if reads(backbone, recipe):
        put_in(model, backbone, recipe.wavelet)
    return model


def _method_in(backbone: Backbone, recipe: Recipe) -> nn.Module:
    if recipe.method == "full":
        return backbone.model.requires_grad_(True)
    if recipe.method == "linear-probe":
        backbone.model.requires_grad_(False)
        backbone.model.get_submodule(backbone.head).requires_grad_(True)
        return backbone.model
    layers = _layers_to_adapt(backbone, recipe)
    _require_rank(backbone, layers, recipe.rank)
    try:
        config = _peft_config(backbone, recipe, layers)
        model = cast(nn.Module, peft.get_peft_model(backbone.model, config))
        _require_in_use(model, backbone)
        return model
    except AdapterError as error:
        # The library names its own option where a layer's tokens are the reason.
        elsewhere = recipe.target != "qkv" and "target_modules" in str(error)
        remedy = "Set the option target to qkv" if elsewhere else "Change the option"
        raise InputError(str(error), remedy=f"{remedy} and start again.", code="recipe-adapter") from error


def _require_rank(backbone: Backbone, layers: dict[str, nn.Linear], rank: int) -> None:
    """Refuse a rank that one of the adapted layers does not allow, in words that need no layer's name."""
    largest = min(min(layer.in_features, layer.out_features) for layer in layers.values())
    if rank > largest:
        raise InputError(
            "The rank is too large for this model", seen=rank,
            remedy=f"Use a rank of 1 to {largest}: the adapted layers of {backbone.name} have {largest} channels "
            "where they are narrowest.", code="recipe-adapter",
        )  # fmt: skip


def _layers_to_adapt(backbone: Backbone, recipe: Recipe) -> dict[str, nn.Linear]:
    """Return the layers that adapters go into by name, in the model's order.

    Raises:
        InputError: an attention has no such layer; all have queries, keys and values, which was checked when the
            backbone was loaded.
    """
    linear = {name: module for name, module in backbone.model.named_modules() if isinstance(module, nn.Linear)}
    names = [name.removesuffix("qkv") + recipe.target for name in linear if name.endswith("qkv")]
    missing = next((name for name in names if name not in linear), None)
    if missing is not None:
        raise InputError(
            f"{backbone.name} has no linear layer for the option target in each attention", seen=missing,
            remedy="Set the option target to qkv and start again.", code="recipe-adapter",
        )  # fmt: skip
    return {name: linear[name] for name in names[-_number_of(names, backbone, recipe) :]}


def _number_of(names: list[str], backbone: Backbone, recipe: Recipe) -> int:
    """Return in how many of the blocks adapters are; what a readout reads is left as it is, unless asked otherwise."""
    usual = math.ceil(len(names) / 2) if reads(backbone, recipe) else len(names)
    return recipe.last_blocks or usual


def _peft_config(backbone: Backbone, recipe: Recipe, layers: dict[str, nn.Linear]) -> peft.PeftConfig:
    config = _of_every_attention(backbone, recipe)
    if recipe.last_blocks is not None or recipe.target != "qkv" or reads(backbone, recipe):
        config.target_modules = set(layers)
    return config


def _of_every_attention(backbone: Backbone, recipe: Recipe) -> Any:
    heads = [backbone.head]
    shared: dict[str, Any] = {
        "r": recipe.rank, "wara_alpha": recipe.scaling_alpha, "wara_dropout": recipe.dropout,
        "wavelet": recipe.wavelet, "levels": recipe.levels, "mode": recipe.mode, "gains": recipe.gains,
        "activation": recipe.activation, "modules_to_save": heads,
    }  # fmt: skip
    if recipe.method == "wara":
        return WaraConfig(**shared)
    if recipe.method == "tiny-wara":
        return TinyWaraConfig(u=recipe.u, projection_seed=recipe.projection_seed, **shared)
    return peft.LoraConfig(
        r=recipe.rank, lora_alpha=recipe.scaling_alpha, lora_dropout=recipe.dropout, target_modules=["qkv"],
        modules_to_save=heads,
    )  # fmt: skip


def _require_in_use(model: nn.Module, backbone: Backbone) -> None:
    """Refuse a model that computes past its adapted layers, as some do that read a layer's weight themselves.

    One empty image shows it; otherwise only the head would be trained, and nobody would know. WaRA looks for itself;
    PEFT's LoRA does not.
    """
    layers = list(adapted_layers(model))
    base = cast(peft.PeftModel, model).get_base_model()
    if next(base.parameters()).is_meta:
        return
    passed_by = sorted(set(layers) - run_trial(base, layers, images=1).seen.keys())
    if passed_by or not layers:
        raise AdapterError(
            f"The architecture {backbone.name} does not run its adapted layers ({(passed_by or ['none found'])[0]}), "
            "so an adapter there would change nothing. Use a ViT, DeiT or DINOv2 backbone."
        )


def parameter_groups(model: nn.Module, backbone: Backbone, recipe: Recipe) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups: adapter and head at their own step sizes; vectors are not decayed."""
    head = {id(p) for p in head_parameters(model, backbone)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # Gains rest at 1, which decay would pull towards 0, whatever their shape.
            matrix = parameter.dim() > 1 and ".wara_gain." not in name
            groups.setdefault((id(parameter) in head, matrix), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": recipe.head_learning_rate if in_head else recipe.learning_rate,
            "weight_decay": recipe.weight_decay if matrix else 0.0,
        }
        for (in_head, matrix), parameters in groups.items()
    ]


def head_parameters(model: nn.Module, backbone: Backbone) -> list[nn.Parameter]:
    """Return the trained parameters of the classifier head."""
    return [p for p in base_of(model).get_submodule(backbone.head).parameters() if p.requires_grad]


def count_parameters(model: nn.Module, backbone: Backbone) -> tuple[int, int]:
    """Return the numbers of trained parameters: all, with a readout's, and without the head and the readout."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained + numbers_in(model), trained - sum(p.numel() for p in head_parameters(model, backbone))


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the trained tensors on the CPU, by name."""
    return {n: p.detach().cpu().clone() for n, p in model.named_parameters() if p.requires_grad}


def load_trained_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put trained tensors back."""
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if parameters.keys() != state.keys():
        raise InputError(
            "The checkpoint was made by another method or another rank",
            seen=f"{len(state)} tensors, {len(parameters)} expected",
            remedy="Resume with the options that the run was started with, or start a new run.",
            code="checkpoint-mismatch",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


def save(model: nn.Module, recipe: Recipe, folder: Path) -> None:
    """Write what was trained: PEFT's format for adapters, a safetensors file of the tensors otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    if recipe.method in PEFT_METHODS:
        cast(Any, model).save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty form; card.md says what is to be said
    else:
        save_file(trained_state(model), folder / _PLAIN_FILE)
    save_readout(model, folder)


def load(backbone: Backbone, recipe: Recipe, folder: Path) -> nn.Module:
    """Return the trained model: a fresh backbone with what `save` wrote.

    Raises:
        InputError: the folder does not hold what the recipe says.
    """
    expected = folder / ("adapter_model.safetensors" if recipe.method in PEFT_METHODS else _PLAIN_FILE)
    if not expected.is_file():
        raise InputError(
            "The run holds no trained adapter",
            seen=f"{folder.name}/{expected.name} is missing",
            remedy="Train the model to the end, or copy the whole run folder.",
            code="run-incomplete",
        )
    if recipe.method in PEFT_METHODS:
        # The config is made of the recipe once more: one from elsewhere could name modules for PEFT to import.
        config = _peft_config(backbone, recipe, _layers_to_adapt(backbone, recipe))
        model: nn.Module = peft.PeftModel.from_pretrained(backbone.model, folder, config=config)
    else:
        model = _method_in(backbone, recipe)
        load_trained_state(model, load_file(expected))
    if reads(backbone, recipe):
        load_readout(model, backbone, recipe.wavelet, folder)
    return model.requires_grad_(False).eval()
