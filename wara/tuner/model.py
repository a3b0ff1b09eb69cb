"""WaRA and Tiny-WaRA as PEFT tuners: they find the layers, read the token grid and put the adapters in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from wara.tuner.config import TINY_WARA, WARA, TinyWaraConfig, WaraConfig, _SubbandConfig
from wara.tuner.errors import AdapterError
from wara.tuner.grid import TokenGrid, embedding_of, token_grid
from wara.tuner.layer import SubbandLayer, WaraLinear, refuse_mixed_batch
from wara.tuner.matrices import max_levels, require_reconstruction
from wara.tuner.probe import Place, places_of_layers, require_given
from wara.tuner.subbands import SubbandTransform
from wara.tuner.targets import is_target, refuse_patch_dropout, run_as_layers, targets_of, with_targets
from wara.tuner.tiny import TinyWaraLinear
from wara.tuner.tokens import GridWatch, ImageWatch, TokenTransform, Watch

_DEFAULT_LEVELS = 2


class _SubbandModel(BaseTuner):  # type: ignore[misc]  # PEFT is untyped
    prefix: str = "wara_"
    tuner_layer_cls: type[SubbandLayer] = SubbandLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    @staticmethod
    def _check_target_module_exists(peft_config: _SubbandConfig, key: str) -> Any:
        return is_target(peft_config, key)

    def _prepare_adapter_config(self, peft_config: _SubbandConfig, model_config: dict[str, Any]) -> _SubbandConfig:
        return with_targets(peft_config, self.model)

    def _prepare_model(self, peft_config: _SubbandConfig, model: nn.Module) -> None:
        """Look at the model before anything is changed: afterwards every layer to adapt can be, or all are refused."""
        targets = targets_of(peft_config, model)
        refuse_patch_dropout(model)
        self._position = {name: index for index, name in enumerate(targets)}
        with run_as_layers(model, list(targets)):
            self._places = _places(model, peft_config, list(targets))
            grids = {name: place.grid for name, place in self._places.items()}
            deepest = min((max_levels(grid[:2]) for grid in grids.values()), default=1)
            # The same depth everywhere, so that gains mean the same in every layer.
            self._levels = peft_config.levels or min(_DEFAULT_LEVELS, max(1, deepest))
            for name, module in targets.items():
                try:
                    self._require_possible(module, peft_config, grids[name])
                except AdapterError as error:
                    raise AdapterError(f"Layer {name!r}: {error}") from error

    def _require_possible(self, module: nn.Module, config: _SubbandConfig, grid: TokenGrid) -> None:
        """Refuse an adapter in a layer, before any layer is changed."""
        if isinstance(module, SubbandLayer):
            module.require_not_merged()
        linear: Any = module.get_base_layer() if isinstance(module, SubbandLayer) else module
        self.tuner_layer_cls.require_possible(linear, config)
        require_reconstruction(grid[:2], config.wavelet, self._levels, config.mode)

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
        layer = target if isinstance(target, SubbandLayer) else self._new_layer(target)
        transform = self._shared_transform(peft_config, self._places[current_key])
        self._fill(layer, adapter_name, peft_config, transform, self._position[current_key])
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)  # a further adapter is not trained before it is activated
            else:
                layer.set_adapter(self.active_adapters, inference_mode=peft_config.inference_mode)
            self._replace_module(parent, target_name, layer, target)

    def _shared_transform(self, config: _SubbandConfig, place: Place) -> TokenTransform:
        """Return the path through the subbands, one module for all layers of a model that ask for the same."""
        watch = self._watch(place)
        wanted = (place.grid, config.wavelet, self._levels, config.mode, watch)
        for module in self.model.modules():
            if isinstance(module, TokenTransform):
                subbands = module.subbands
                if (module.grid, subbands.wavelet, subbands.levels, subbands.mode, module.watch) == wanted:
                    return module
        subbands = SubbandTransform(place.grid[:2], config.wavelet, self._levels, config.mode)
        transform = TokenTransform(place.grid, subbands, watch)
        weight = next(self.model.parameters(), None)
        return transform if weight is None or weight.is_meta else transform.to(weight.device)

    def _watch(self, place: Place) -> Watch | None:
        """Return the hook that tells the grid of the images of the moment, where it is the images' to change."""
        holder = embedding_of(self.model)
        if place.stated and holder is not None:
            embedding: Any = holder.patch_embed
            watch = next((hook for hook in embedding._forward_hooks.values() if isinstance(hook, GridWatch)), None)
            if watch is None:
                watch = GridWatch()
                embedding.register_forward_hook(watch)
            return watch
        if place.image is None:
            return None
        for hook in self.model._forward_pre_hooks.values():
            if isinstance(hook, ImageWatch) and hook.made_for == place.image:
                return hook
        of_images = ImageWatch(place.image)
        self.model.register_forward_pre_hook(of_images, with_kwargs=True)
        return of_images

    @contextmanager
    def _enable_peft_forward_hooks(self, *_: Any, adapter_names: list[str] | None = None, **__: Any) -> Iterator[None]:
        refuse_mixed_batch(adapter_names)  # PEFT would pass it over
        yield

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        """Add adapters to the base weights; see PEFT. Nothing changes in any layer when one cannot be merged."""
        for layer in self._layers():
            layer.merged_weight(safe_merge, adapter_names)
        super().merge_adapter(adapter_names=adapter_names, safe_merge=safe_merge)

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> nn.Module:
        if merge:
            for layer in self._layers():
                layer.merged_weight(safe_merge, adapter_names)
        model: nn.Module = super()._unload_and_optionally_merge(merge, progressbar, safe_merge, adapter_names)
        for module in model.modules():
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for key in [key for key, hook in hooks.items() if isinstance(hook, GridWatch | ImageWatch)]:
                    del hooks[key]
        return model

    def _layers(self) -> list[SubbandLayer]:
        return [module for module in self.model.modules() if isinstance(module, SubbandLayer)]

    def _new_layer(self, target: nn.Module) -> SubbandLayer:
        raise NotImplementedError

    def _fill(self, layer: SubbandLayer, name: str, config: Any, transform: TokenTransform, position: int) -> None:
        raise NotImplementedError


class WaraModel(_SubbandModel):
    """PEFT tuner that puts WaRA adapters into a model; made by ``peft.get_peft_model(model, WaraConfig(...))``."""

    tuner_layer_cls = WaraLinear

    def _new_layer(self, target: nn.Module) -> SubbandLayer:
        return WaraLinear(target)

    def _fill(
        self, layer: SubbandLayer, name: str, config: WaraConfig, transform: TokenTransform, position: int
    ) -> None:
        assert isinstance(layer, WaraLinear)  # PEFT keeps to one method a model
        layer.update_layer(name, config, transform)


class TinyWaraModel(_SubbandModel):
    """PEFT tuner of Tiny-WaRA; made by ``peft.get_peft_model(model, TinyWaraConfig(...))``."""

    tuner_layer_cls = TinyWaraLinear

    def _check_new_adapter_config(self, config: TinyWaraConfig) -> None:
        super()._check_new_adapter_config(config)
        for name, other in self.peft_config.items():
            if other is not config and other.save_projection != config.save_projection:
                raise AdapterError(
                    f"save_projection={config.save_projection} differs from that of the adapter {name!r}. Use the same "
                    "for all adapters of a model."
                )

    def _new_layer(self, target: nn.Module) -> SubbandLayer:
        return TinyWaraLinear(target)

    def _fill(
        self, layer: SubbandLayer, name: str, config: TinyWaraConfig, transform: TokenTransform, position: int
    ) -> None:
        assert isinstance(layer, TinyWaraLinear)  # PEFT keeps to one method a model
        layer.update_layer(name, config, transform, position, self._holder_of_v(name, config, position))

    def _holder_of_v(self, name: str, config: TinyWaraConfig, position: int) -> TinyWaraLinear | None:
        """Return the first layer of a group that shares one v; None for the first itself."""
        total = len(self._position)
        groups = max(1, round(total * (1.0 - config.weight_tying)))
        first = next(p for p in range(total) if p * groups // total == position * groups // total)
        if first == position:
            return None
        key = next(key for key, p in self._position.items() if p == first)
        holder = self.model.get_submodule(key)
        assert isinstance(holder, TinyWaraLinear)  # layers are filled in their order
        return holder


def _places(model: nn.Module, config: _SubbandConfig, names: list[str]) -> dict[str, Place]:
    """Return where the tokens of every layer to adapt stand: on the config's grid, or on what the model shows.

    Raises:
        AdapterError: a layer whose tokens stand on no known grid, or that is not run at all.
    """
    if config.grid is not None or config.num_prefix_tokens is not None:
        given = token_grid(model, config.grid, config.num_prefix_tokens)
        require_given(model, names, given)
        return dict.fromkeys(names, Place(given, stated=config.grid is None))
    if not names:
        return {}
    if not any(getattr(module, "pretrained_cfg", None) for module in model.modules()):
        token_grid(model)  # not one of timm's: it must say at least its grid
    places = places_of_layers(model, names)
    refused = {name: error for name, error in places.items() if isinstance(error, AdapterError)}
    if refused:
        name, error = next(iter(refused.items()))
        more = f" ({len(refused) - 1} more layers are refused as well.)" if len(refused) > 1 else ""
        raise AdapterError(f"Layer {name!r}: {error}{more}") from error
    return {name: place for name, place in places.items() if isinstance(place, Place)}


def register() -> None:
    """Make PEFT know the two methods.

    PEFT's own register call takes only members of its enum; its three tables take any string that has `.value` and
    `.name` (peft 0.21.2).
    """
    for name, config, tuner in ((WARA, WaraConfig, WaraModel), (TINY_WARA, TinyWaraConfig, TinyWaraModel)):
        PEFT_TYPE_TO_CONFIG_MAPPING[name] = config
        PEFT_TYPE_TO_TUNER_MAPPING[name] = tuner
        PEFT_TYPE_TO_PREFIX_MAPPING[name] = tuner.prefix
