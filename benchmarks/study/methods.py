"""What builds each method of a study: PEFT's adapters, WaRA's, the study's own forms, a head alone, everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import torch
from torch import Tensor, nn

from benchmarks.study.adapters import Beside, ConvMix, WaveletMix, put_beside
from benchmarks.study.placing import place
from benchmarks.study.plan import Cell
from wara.backbones import Backbone
from wara.errors import InputError
from wara.training.methods import head_parameters
from wara.training.readout import put_in
from wara.tuner import AdapterError, SubbandTransform, TinyWaraConfig, WaraConfig, token_grid
from wara.tuner.tokens import TokenTransform

# All LoRA-like methods scale their update by the same factor, whatever the rank, so that a rate means the same.
_SCALE = 2
Make = Callable[[Backbone, int | None, dict[str, Any]], nn.Module]
Gradients = Callable[[], dict[str, Tensor]]
_HEAD = "head"
# Gains and their like rest where they start; decay would pull them to 0.
_NOT_DECAYED = ("gain", "gate", "threshold", "statistics")


def build(cell: Cell, backbone: Backbone, gradients: Gradients = dict) -> nn.Module:
    """Put a cell's method into a backbone; afterwards exactly what the method trains requires gradients.

    Args:
        cell: what to build.
        backbone: where.
        gradients: gives the pretrained weights' gradients by layer, for methods with the option ``place``, which start
            from them; see `place`.

    Raises:
        InputError: an option that cannot be used; code ``"study-method"``.
    """
    make = BASES.get(cell.method.base)
    if make is None:
        raise InputError(
            "The base of a method is not known", seen=cell.method.base, remedy=f"Use one of {', '.join(BASES)}.",
            code="study-method",
        )  # fmt: skip
    options = dict(cell.method.options)
    placed = options.pop("place", None)
    reads = bool(options.pop("readout", False))
    asked = gradients() if placed else {}
    try:
        model = make(backbone, cell.rank, options)
        if placed:
            place(model, placed, asked)
        if reads:
            put_in(model, backbone, "haar")
        return model
    except (TypeError, ValueError, AdapterError) as error:
        raise InputError(
            f"The method {cell.method.name} cannot be built", seen=str(error), remedy="Change its options.",
            code="study-method",
        ) from error  # fmt: skip


def parameter_groups(model: nn.Module, backbone: Backbone, cell: Cell) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups: the head at the head's step size, the rest at the cell's or multiples of it.

    The role ``"head"`` is a multiple of the head's step size.
    """
    head = {id(parameter) for parameter in head_parameters(model, backbone)}
    head_rate = cell.rate if cell.method.base == "linear-probe" else cell.protocol.head_rate
    head_rate *= cell.method.role_rates.get(_HEAD, 1.0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    used: set[str] = {_HEAD}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = head_rate
        if id(parameter) not in head:
            roles = [role for role in cell.method.role_rates if role != _HEAD and role in name]
            used.update(roles)
            rate = cell.rate * (cell.method.role_rates[roles[0]] if roles else 1.0)
        decayed = parameter.dim() > 1 and not any(part in name for part in _NOT_DECAYED)
        groups.setdefault((rate, cell.protocol.weight_decay if decayed else 0.0), []).append(parameter)
    if unused := set(cell.method.role_rates) - used:
        raise InputError(
            f"The method {cell.method.name} trains nothing of this name", seen=", ".join(sorted(unused)),
            remedy="Use a part of the names of its trained tensors.", code="study-method",
        )  # fmt: skip
    return [{"params": some, "lr": rate, "weight_decay": decay} for (rate, decay), some in groups.items()]


def _probe(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
    backbone.model.requires_grad_(False)
    backbone.model.get_submodule(backbone.head).requires_grad_(True)
    return backbone.model


def _full(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
    return backbone.model.requires_grad_(True)


def _peft(backbone: Backbone, config: Any) -> nn.Module:
    model: nn.Module = peft.get_peft_model(backbone.model, config)
    return model


def _common(backbone: Backbone, options: dict[str, Any]) -> dict[str, Any]:
    return {"target_modules": ["qkv"], "modules_to_save": [backbone.head]} | options


def _lora(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
    assert rank is not None
    if blocks := options.pop("layers_to_transform", None):
        # PEFT finds the number of a block only behind a name in front of ``blocks``, which timm's models don't have.
        options["target_modules"] = rf"blocks\.({'|'.join(map(str, blocks))})\.attn\.qkv"
    return _peft(backbone, peft.LoraConfig(r=rank, lora_alpha=_SCALE * rank, **_common(backbone, options)))


def _dora(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
    return _lora(backbone, rank, {"use_dora": True} | options)


def _tinylora(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
    return _peft(backbone, peft.TinyLoraConfig(r=rank, **_common(backbone, options)))


def _as_many(config: Any) -> Make:
    """WaveFT and FourierFT: as many coefficients a layer as LoRA of the rank trains numbers, zero at first.

    FourierFT's own way is to draw them, which moves a small backbone far away before the first step.
    """

    def make(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
        assert rank is not None
        layer: Any = next(m for name, m in backbone.model.named_modules() if name.endswith("qkv"))
        coefficients = rank * (layer.in_features + layer.out_features)
        usual = {"n_frequency": coefficients, "init_weights": True}
        return _peft(backbone, config(**usual | _common(backbone, options)))

    return make


def _vera(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
    return _peft(backbone, peft.VeraConfig(**_common(backbone, options)))


def _oft(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
    return _peft(backbone, peft.OFTConfig(**{"r": 0, "oft_block_size": 32} | _common(backbone, options)))


def _ia3(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
    places = {"target_modules": ["qkv", "mlp.fc2"], "feedforward_modules": ["mlp.fc2"]}
    return _peft(backbone, peft.IA3Config(**_common(backbone, places | options)))


def _wara(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
    assert rank is not None
    gain_init = options.pop("gain_init", None)
    model = _peft(backbone, WaraConfig(r=rank, wara_alpha=_SCALE * rank, **_common(backbone, options)))
    if gain_init is not None:
        with torch.no_grad():
            for name, gain in model.named_parameters():
                if ".wara_gain." in name:
                    gain[0], gain[1:] = float(gain_init[0]), float(gain_init[1])
    return model


def _tiny_wara(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
    return _peft(backbone, TinyWaraConfig(**{"r": rank, "wara_alpha": rank} | _common(backbone, options)))


def _last_block(model: Any) -> Any:
    return model.blocks[-1]


def _run_whole(block: Any) -> None:
    """Let all tokens through the last block, not the class token alone, where an adapter there looks at the grid.

    `class_token_only` leaves a block as it is whose ``forward`` is its own.
    """
    block.forward = block.forward


def _beside(kind: str) -> Make:
    """The study's own updates: ``"plain"`` LoRA, ``"conv"``, or ``"wavelet"``, of one kind in all blocks.

    Options: ``targets``, ``rank_factor`` (of the study's rank), ``halves`` (see `Beside`); of wavelets ``wavelet``,
    ``mode``, ``levels`` and ``bands`` (each for all blocks, or a list of one a part of the depth under ``by_depth``),
    and those of `WaveletMix`.
    """

    def make(backbone: Backbone, rank: int | None, options: dict[str, Any]) -> nn.Module:
        assert rank is not None
        model: Any = backbone.model.requires_grad_(False)
        model.get_submodule(backbone.head).requires_grad_(True)
        targets = options.pop("targets", ["qkv"])
        channels = round(rank * options.pop("rank_factor", 1))
        halves = bool(options.pop("halves", False))
        mixes = _Mixes(kind, model, channels, options)
        whole = False
        for index, block in enumerate(list(model.blocks)):
            mix = mixes.of_block(index, len(model.blocks))
            for target in targets:
                if target == "block":
                    width = block.norm1.normalized_shape[0]
                    model.blocks[index] = Beside(block, width, width, channels, mix(), scale=_SCALE, halves=halves)
                else:
                    alone = put_beside(block, target, channels, mix, scale=_SCALE, halves=halves)
                    whole = whole or (alone and kind != "plain")
        if whole:
            _run_whole(_last_block(model))
        return backbone.model

    return make


class _Mixes:
    """Makes the middle of each block's updates, and every transform once."""

    def __init__(self, kind: str, model: nn.Module, rank: int, options: dict[str, Any]) -> None:
        self._kind, self._rank = kind, rank
        self._grid = token_grid(model)
        self._transform = {"wavelet": "haar", "mode": "symmetric", "levels": 2}
        self._transform |= {name: options.pop(name) for name in list(options) if name in self._transform}
        self._by_depth: list[dict[str, Any]] = options.pop("by_depth", [{}])
        self._options = options
        self._paths: dict[tuple[Any, ...], TokenTransform] = {}
        if kind != "wavelet" and (options or self._by_depth != [{}]):
            raise ValueError(f"options of wavelets: {sorted(options) or 'by_depth'}")

    def of_block(self, index: int, depth: int) -> Callable[[], nn.Module | None]:
        """Return what makes a new middle for a target of the block."""
        if self._kind == "plain":
            return lambda: None
        if self._kind == "conv":
            return lambda: ConvMix(self._grid, self._rank)
        own = self._options | self._by_depth[index * len(self._by_depth) // depth]
        transform = self._transform | {name: own.pop(name) for name in list(own) if name in self._transform}
        path = self._path(transform["wavelet"], transform["levels"], transform["mode"])
        return lambda: WaveletMix(path, self._rank, **own)

    def _path(self, wavelet: Any, levels: Any, mode: Any) -> TokenTransform:
        key = (wavelet, levels, mode)
        if key not in self._paths:
            subbands = SubbandTransform(self._grid[:2], wavelet, levels, mode)
            self._paths[key] = TokenTransform(self._grid, subbands)
        return self._paths[key]


BASES: dict[str, Make] = {
    "linear-probe": _probe,
    "full": _full,
    "lora": _lora,
    "dora": _dora,
    "tinylora": _tinylora,
    "waveft": _as_many(peft.WaveFTConfig),
    "fourierft": _as_many(peft.FourierFTConfig),
    "vera": _vera,
    "oft": _oft,
    "ia3": _ia3,
    "wara": _wara,
    "tiny-wara": _tiny_wara,
    "plain": _beside("plain"),
    "conv": _beside("conv"),
    "wavelet": _beside("wavelet"),
}
