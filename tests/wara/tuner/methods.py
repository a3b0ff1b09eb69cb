"""The rows of the behaviour matrix: PEFT's LoRA, and WaRA and Tiny-WaRA in the forms that differ in behaviour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from wara.tuner import TinyWaraConfig, WaraConfig

SIZE = 32


@dataclass(frozen=True)
class Method:
    """One row.

    Attributes:
        name: what the row is called in test ids.
        kind: class of its config.
        options: of that config; the adapter starts away from zero.
        learned: last names of the parameters it learns.
        no_weight: what the refusal to merge must say, or None for an update that is a weight.
    """

    name: str
    kind: Callable[..., peft.PeftConfig]
    options: dict[str, Any]
    learned: frozenset[str]
    no_weight: str | None = None

    def config(self, **more: Any) -> peft.PeftConfig:
        return self.kind(**{**self.options, **more})

    def adapted(self, base: nn.Module, seed: int = 1, **more: Any) -> peft.PeftModel:
        """Put the adapter into a model, with values as after a training: all away from where they start."""
        torch.manual_seed(seed)
        model = peft.get_peft_model(base, self.config(**more))
        stir(model, seed)
        return model.eval()

    def unlike(self, name: str = "other") -> dict[str, Any]:
        """Options for a second adapter that differs from the first."""
        return {"r": 2} if self.name != "tiny-wara-tied" else {"r": 2, "u": 4}


def stir(model: nn.Module, seed: int, adapter: str = "default") -> None:
    """Move every parameter of an adapter away from where it starts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f".{adapter}" in name and any(part in name for part in ("wara_", "lora_")):
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter)


_LORA = frozenset({"lora_A", "lora_B"})
_WARA = frozenset({"wara_A", "wara_B"})
_START = {"init_weights": False}
_GAINS = "its subband gains differ"

METHODS = [
    Method("lora", peft.LoraConfig, {"r": 4, "target_modules": ["qkv"], "init_lora_weights": False}, _LORA),
    Method("wara", WaraConfig, {"r": 4, **_START}, _WARA | {"wara_gain"}, _GAINS),
    Method("wara-without-gains", WaraConfig, {"r": 4, "gains": "none", "levels": 1, **_START}, _WARA),
    Method(
        "wara-gelu", WaraConfig, {"r": 4, "gains": "none", "activation": "gelu", "wavelet": "bior2.2", **_START}, _WARA,
        "its activation 'gelu' acts on subbands",
    ),
    Method(
        "wara-shrinkage", WaraConfig,
        {"r": 4, "gains": "subband-rank", "activation": "soft-threshold", "wavelet": "db2", **_START},
        _WARA | {"wara_gain", "wara_threshold"}, "its activation 'soft-threshold' acts on subbands",
    ),
    Method("tiny-wara", TinyWaraConfig, {"r": 6, "u": 5, **_START}, frozenset({"wara_v", "wara_gain"}), _GAINS),
    Method(
        "tiny-wara-from-seed", TinyWaraConfig, {"r": 4, "u": 3, "gains": "none", "save_projection": False, **_START},
        frozenset({"wara_v"}),
    ),
    Method(
        "tiny-wara-tied", TinyWaraConfig,
        {"r": 4, "u": 16, "gains": "subband-rank", "projection": "unit", "weight_tying": 1.0, **_START},
        frozenset({"wara_v", "wara_gain"}), _GAINS,
    ),
]  # fmt: skip
OURS = [method for method in METHODS if method.name != "lora"]

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
each_of_ours = pytest.mark.parametrize("method", OURS, ids=lambda method: method.name)


def images(number: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(number, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def trained(model: nn.Module) -> set[str]:
    """Return the names of the parameters that require a gradient."""
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of everything that a model holds, parameters and all buffers."""
    held = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: value.detach().clone() for name, value in held.items()}


def outlines(model: nn.Module) -> list[tuple[str, str, int]]:
    """Return name, class and number of hooks of every module: what a refusal must leave as it was."""
    return [
        (name, type(module).__name__, len(module._forward_hooks) + len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    ]


def require_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
