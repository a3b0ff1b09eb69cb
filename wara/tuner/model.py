"""WaRA and Tiny-WaRA as PEFT tuners: they find the layers, read the token grid and put the adapters in."""

from __future__ import annotations

from typing import Any, ClassVar

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, check_target_module_exists
from torch import nn

from wara.tuner.config import TINY_WARA, WARA, TinyWaraConfig, WaraConfig, _SubbandConfig
from wara.tuner.errors import AdapterError
from wara.tuner.grid import TokenGrid, token_grid
from wara.tuner.layer import SubbandLayer, TinyWaraLinear, WaraLinear
from wara.tuner.subbands import SubbandTransform, max_levels

_DEFAULT_LEVELS = 2


class _SubbandModel(BaseTuner):  # type: ignore[misc]  # PEFT is untyped
    prefix: str = "wara_"
    tuner_layer_cls: type[SubbandLayer] = SubbandLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    @staticmethod
    def _check_target_module_exists(peft_config: _SubbandConfig, key: str) -> bool:
        # PEFT finds the index of a block only behind a prefix ("model.blocks.3"); timm's names start with "blocks".
        name = f"model.{key}" if peft_config.layers_to_transform is not None else key
        return bool(check_target_module_exists(peft_config, name))

    def _prepare_adapter_config(self, peft_config: _SubbandConfig, model_config: dict[str, Any]) -> _SubbandConfig:
        if peft_config.target_modules is None:
            if not any(_is_linear(m) and name.endswith("qkv") for name, m in self.model.named_modules()):
                linear = sorted({n.rsplit(".", 1)[-1] for n, m in self.model.named_modules() if _is_linear(m)})
                raise AdapterError(
                    "The model has no linear layers named 'qkv', which is what is adapted when target_modules is not "
                    f"given. Give target_modules, e.g. {linear[:6]}."
                )
            peft_config.target_modules = {"qkv"}  # type: ignore[assignment]
        return peft_config

    def _create_and_replace(
        self,
        peft_config: _SubbandConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        if not _is_linear(target):
            raise AdapterError(
                f"The layer {current_key!r} is a {type(target).__name__}; WaRA adapts linear layers on patch tokens. "
                "Leave it out of target_modules."
            )
        grid = token_grid(self.model, peft_config.grid, peft_config.num_prefix_tokens)
        transform = self._shared_transform(peft_config, grid)
        layer = target if isinstance(target, SubbandLayer) else self._new_layer(target)
        try:
            self._fill(layer, adapter_name, peft_config, grid, transform, current_key)
        except AdapterError as error:
            raise AdapterError(f"Layer {current_key!r}: {error}") from error
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)  # a further adapter is not trained before it is activated
            else:
                layer.set_adapter(self.active_adapters, inference_mode=peft_config.inference_mode)
            self._replace_module(parent, target_name, layer, target)

    def _shared_transform(self, config: _SubbandConfig, grid: TokenGrid) -> SubbandTransform:
        """Return the transform, one module for all layers of a model that ask for the same."""
        levels = config.levels or max(1, min(_DEFAULT_LEVELS, max_levels(grid[:2])))
        for module in self.model.modules():
            if isinstance(module, SubbandTransform) and (module.grid, module.wavelet, module.levels, module.mode) == (
                grid[:2], config.wavelet, levels, config.mode
            ):  # fmt: skip
                return module
        transform = SubbandTransform(grid[:2], config.wavelet, levels, config.mode)
        weight = next(self.model.parameters(), None)
        return transform if weight is None or weight.is_meta else transform.to(weight.device)

    def _new_layer(self, target: nn.Module) -> SubbandLayer:
        raise NotImplementedError

    def _fill(
        self,
        layer: SubbandLayer,
        adapter_name: str,
        config: Any,
        grid: TokenGrid,
        transform: SubbandTransform,
        key: str,
    ) -> None:
        raise NotImplementedError


class WaraModel(_SubbandModel):
    """PEFT tuner that puts WaRA adapters into a model; made by ``peft.get_peft_model(model, WaraConfig(...))``."""

    tuner_layer_cls = WaraLinear

    def _new_layer(self, target: nn.Module) -> SubbandLayer:
        return WaraLinear(target)

    def _fill(
        self,
        layer: SubbandLayer,
        adapter_name: str,
        config: WaraConfig,
        grid: TokenGrid,
        transform: SubbandTransform,
        key: str,
    ) -> None:
        if not isinstance(layer, WaraLinear):
            raise AdapterError("The layer already holds an adapter of another kind. Use one kind a model.")
        layer.update_layer(adapter_name, config, grid, transform)


class TinyWaraModel(_SubbandModel):
    """PEFT tuner of Tiny-WaRA; made by ``peft.get_peft_model(model, TinyWaraConfig(...))``."""

    tuner_layer_cls = TinyWaraLinear

    def _new_layer(self, target: nn.Module) -> SubbandLayer:
        return TinyWaraLinear(target)

    def _fill(
        self,
        layer: SubbandLayer,
        adapter_name: str,
        config: TinyWaraConfig,
        grid: TokenGrid,
        transform: SubbandTransform,
        key: str,
    ) -> None:
        if not isinstance(layer, TinyWaraLinear):
            raise AdapterError("The layer already holds an adapter of another kind. Use one kind a model.")
        # The position among the adapted layers, so that the projections do not depend on the order of calls.
        targets = [
            n for n, m in self.model.named_modules() if _is_target(m) and self._check_target_module_exists(config, n)
        ]
        layer.update_layer(adapter_name, config, grid, transform, layer_index=targets.index(key))


def _is_linear(module: nn.Module) -> bool:
    base = module.get_base_layer() if isinstance(module, SubbandLayer) else module
    return isinstance(base, nn.Linear)


def _is_target(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | SubbandLayer)


def register() -> None:
    """Make PEFT know the two methods.

    PEFT's own register call takes only members of its enum; its three tables take any string that has `.value` and
    `.name` (peft 0.21.2).
    """
    for name, config, tuner in ((WARA, WaraConfig, WaraModel), (TINY_WARA, TinyWaraConfig, TinyWaraModel)):
        PEFT_TYPE_TO_CONFIG_MAPPING[name] = config
        PEFT_TYPE_TO_TUNER_MAPPING[name] = tuner
        PEFT_TYPE_TO_PREFIX_MAPPING[name] = tuner.prefix
