"""Which layers of a model an adapter goes into: found by their names, and checked before anything is changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft.tuners.tuners_utils import _maybe_include_all_linear_layers, check_target_module_exists
from torch import nn

from wara.tuner.attention import attentions_of, made_of_convolutions
from wara.tuner.config import _SubbandConfig
from wara.tuner.errors import AdapterError
from wara.tuner.layer import SubbandLayer

# What attention's first linear layers are called in timm, the most usual first: all of one line, or of the next.
_DEFAULT_TARGETS = (
    ("qkv",),
    ("q", "k", "v", "kv", "qk"),
    ("q_proj", "k_proj", "v_proj"),
    ("to_query", "to_key", "to_value"),
    # The same, one module further in, where a norm or a limit stands around the linear layer.
    ("qkv.linear",),
    ("q_proj.linear", "k_proj.linear", "v_proj.linear"),
)


def is_target(config: _SubbandConfig, key: str) -> Any:
    """Return whether a config means a module by its name, in PEFT's ways of saying so."""
    # PEFT finds the index of a block only behind a prefix ("model.blocks.3"); timm's names start with "blocks".
    name = f"model.{key}" if config.layers_to_transform is not None else key
    return check_target_module_exists(config, name)


def with_targets(config: _SubbandConfig, model: nn.Module) -> _SubbandConfig:
    """Fill in `target_modules` where it is None or "all-linear", and return the config.

    Raises:
        AdapterError: the model has none of the layers that are usual.
    """
    if config.target_modules is not None:
        return _maybe_include_all_linear_layers(config, model)  # type: ignore[no-any-return]
    of_linear = [name.split(".") for name, module in model.named_modules() if _is_linear(module)]
    linear = {parts[-1] for parts in of_linear}
    ends = linear | {".".join(parts[-2:]) for parts in of_linear}
    found = next((set(names) & ends for names in _DEFAULT_TARGETS if set(names) & ends), None)
    if found is None:
        raise AdapterError(_nothing_usual(model, linear))
    config.target_modules = found  # type: ignore[assignment]
    return config


def _nothing_usual(model: nn.Module, linear: set[str]) -> str:
    """Say what a model has in the place of the layers that are adapted when none are named."""
    attentions = attentions_of(model)
    usual = "The model has no linear layers named 'qkv' or alike, which are adapted when target_modules is not given"
    if not attentions:
        advice = f"name linear layers on patch tokens, e.g. {sorted(linear)[:6]}" if linear else "take a transformer"
        return f"{usual}, and no attention is seen in it. If it has patch tokens, {advice}, in target_modules."
    if (name := made_of_convolutions(attentions)) is not None:
        return (
            f"{usual}: its attention is made of convolutions ({type(attentions[name]).__name__} at {name!r}), and WaRA "
            "adapts linear layers. Take a model with linear attention layers, or PEFT's LoRA, which takes convolutions."
        )
    inside = {
        f"{name}.{part}".rsplit(".", 1)[-1]
        for name, module in attentions.items()
        for part, layer in module.named_modules()
        if part and _is_linear(layer)
    }
    return f"{usual}. Give target_modules, e.g. {sorted(inside or linear)[:6]}."


def targets_of(config: _SubbandConfig, model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that a config means, by name in the model's order: linear ones, or adapted ones.

    Raises:
        AdapterError: a layer that is not linear, or a name or an index in the config that nothing in the model has.
    """
    _require_known(config, model)
    inside = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, SubbandLayer))
    targets = {
        name: module
        for name, module in model.named_modules()
        if name and is_target(config, name) and not name.startswith(inside or ("\0",))
    }
    for name, module in targets.items():
        if not _is_linear(module):
            raise AdapterError(
                f"The layer {name!r} is a {type(module).__name__}; WaRA adapts linear layers on patch tokens. "
                f"Leave it out of target_modules, or give exclude_modules=[{name!r}]."
            )
    return targets


def refuse_patch_dropout(model: nn.Module) -> None:
    """Refuse a model that leaves patches out while training.

    Raises:
        AdapterError: with the share of patches.
    """
    for name, module in model.named_modules():
        if type(module).__name__ == "PatchDropout" and getattr(module, "prob", 0) > 0:
            raise AdapterError(
                f"The model drops a share of {module.prob} of its patches while training ({name!r}), which leaves no "
                "grid for a wavelet transform. Make it with patch_drop_rate=0."
            )


@contextmanager
def run_as_layers(model: nn.Module, names: list[str]) -> Iterator[None]:
    """Have timm's BEiT and EVA run their ``qkv`` as a layer: the same sum, but an adapter takes part in it.

    Where what follows fails, they are as they were.
    """
    around = {model.get_submodule(name.rpartition(".")[0]) if "." in name else model for name in names}
    changed = [module for module in around if getattr(module, "qkv_bias_separate", None) is False]
    for module in changed:
        setattr(module, "qkv_bias_separate", True)  # noqa: B010 - a plain attribute, which the types of modules lack
    try:
        yield
    except Exception:
        for module in changed:
            setattr(module, "qkv_bias_separate", False)  # noqa: B010
        raise


def _require_known(config: _SubbandConfig, model: nn.Module) -> None:
    names = [name for name, _ in model.named_modules() if name]
    for part in config.modules_to_save or ():
        if not any(name.endswith(part) for name in names):
            raise AdapterError(
                f"modules_to_save has {part!r}, which no module of the model is called. Use names of its modules, "
                f"e.g. {[name for name, _ in model.named_children()][-3:]}."
            )
    if isinstance(config.target_modules, str):
        return
    for part in sorted(config.target_modules or ()):
        if not any(name == part or name.endswith(f".{part}") for name in names):
            raise AdapterError(
                f"target_modules has {part!r}, which was not found in the model. Use names of its linear layers, e.g. "
                f"{sorted({n.rpartition('.')[2] for n, m in model.named_modules() if _is_linear(m)})[:6]}."
            )
    indices = config.layers_to_transform
    if indices is not None:
        numbers = {int(part) for name in names for part in name.split(".") if part.isdecimal()}
        blocks = sorted(number for number in numbers if _has_targets(config, names, number))
        missing = sorted({*([indices] if isinstance(indices, int) else indices)} - {*blocks})
        if missing:
            there = f"{blocks[0]} to {blocks[-1]}" if blocks else "a layers_pattern that names the list of blocks"
            raise AdapterError(
                f"layers_to_transform={indices!r} has {missing[0]}, but no block of the model with layers to adapt "
                f"has that index. Use {there}."
            )


def _has_targets(config: _SubbandConfig, names: list[str], block: int) -> bool:
    of_block = dataclasses.replace(config, layers_to_transform=[block])
    return any(is_target(of_block, name) for name in names)


def _is_linear(module: nn.Module) -> bool:
    base = module.get_base_layer() if isinstance(module, SubbandLayer) else module
    return isinstance(base, nn.Linear)
