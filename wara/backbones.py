"""Pretrained vision transformers of timm: from a local file, from the hub, or a small untrained one for trying things.

A backbone is named by a *spec*: a timm architecture (`deit_tiny_patch16_224`, weights from the hub), an architecture
and a weights file joined by a colon (`deit_tiny_patch16_224:weights.safetensors`), or `vit_tiny_untrained`.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from wara.errors import InputError
from wara.tuner import AdapterError, token_grid

UNTRAINED = "vit_tiny_untrained"
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_UNTRAINED_SEED = 0
_HUB_CHOICES = (
    ("deit_tiny_patch16_224", "DeiT-Tiny, ImageNet"),
    ("deit_small_patch16_224", "DeiT-Small, ImageNet"),
    ("vit_base_patch16_224.augreg2_in21k_ft_in1k", "ViT-Base, ImageNet-21k"),
    ("vit_small_patch14_dinov2.lvd142m", "DINOv2 ViT-Small"),
)


@dataclass(frozen=True)
class BackboneInfo:
    """One backbone that can be chosen.

    Attributes:
        spec: what `load_backbone` takes.
        name: the timm architecture, or `vit_tiny_untrained`.
        label: a short name for people.
        source: ``"file"``, ``"hub"`` or ``"untrained"``.
        pretrained: whether it comes with learned weights.
        available: whether it can be loaded here and now, as far as can be told without loading.
        input_size: side of the square input in pixels, or None where it is not known before loading.
        note: one sentence for people.
    """

    spec: str
    name: str
    label: str
    source: str
    pretrained: bool
    available: bool
    input_size: int | None
    note: str


@dataclass
class Backbone:
    """A loaded vision transformer with a fresh head.

    Attributes:
        model: the timm model; its head has one output a class.
        name: the timm architecture, or `vit_tiny_untrained`.
        source: ``"file"``, ``"hub"`` or ``"untrained"``.
        file: base name of the weights file, or None.
        fingerprint: SHA-256 over the pretrained tensors, without the head.
        pretrained: whether it comes with learned weights.
        mean, std: per channel, of pixels in 0..1 (timm's config).
        size: side of the square input in pixels.
        patch_size: side of a patch in pixels.
        head: name of the classifier module.
    """

    model: nn.Module
    name: str
    source: str
    file: str | None
    fingerprint: str
    pretrained: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    patch_size: int
    head: str


def hub_allowed() -> bool:
    """Whether the hub may be asked: not when WARA_OFFLINE or HF_HUB_OFFLINE is set to a true word."""
    words = (os.environ.get("WARA_OFFLINE", ""), os.environ.get("HF_HUB_OFFLINE", ""))
    return not any(word.strip().lower() in {"1", "true", "yes", "on"} for word in words)


def list_backbones(folder: Path | None = None, extra: tuple[str, ...] = ()) -> list[BackboneInfo]:
    """List what can be chosen, the best first: weights files, then the hub, then the untrained one.

    Args:
        folder: a folder of weights files, each named after its timm architecture, e.g.
            ``deit_tiny_patch16_224.safetensors``.
        extra: further specs ``"name:file"``.
    """
    specs = list(extra)
    if folder is not None and folder.is_dir():
        for file in sorted(folder.iterdir()):
            if file.suffix in WEIGHT_SUFFIXES and timm.is_model(file.stem):
                specs.append(f"{file.stem}:{file}")
    found = [_info_of_file(spec) for spec in specs]
    if hub_allowed():
        found += [
            BackboneInfo(name, name, label, "hub", True, True, None, "Fetched once from the model hub, then kept.")
            for name, label in _HUB_CHOICES
        ]
    found.append(
        BackboneInfo(
            UNTRAINED,
            UNTRAINED,
            "Untrained small ViT (for trying the workflow)",
            "untrained",
            False,
            True,
            224,
            "Random weights: good for trying the steps, its scores mean nothing.",
        )
    )
    return found


def _info_of_file(spec: str) -> BackboneInfo:
    name, _, file = spec.partition(":")
    available = Path(file).is_file()
    size = _nominal_size(name)
    note = "Weights file on this machine." if available else "The weights file is not there any more."
    return BackboneInfo(spec, name, f"{name} (weights file)", "file", True, available, size, note)


def _nominal_size(name: str) -> int | None:
    if not timm.is_model(name):
        return None
    config = timm.get_pretrained_cfg(name)
    return int(config.input_size[-1]) if config is not None else None


def load_backbone(spec: str, num_classes: int, *, image_size: int | None = None) -> Backbone:
    """Load a vision transformer with a fresh head.

    Args:
        spec: see the module's text.
        num_classes: outputs of the head.
        image_size: side of the square input; None takes the backbone's own.

    Raises:
        InputError: an unknown architecture, one that is not a vision transformer, a file that is missing or belongs to
            another architecture, or weights that cannot be had offline.
    """
    if spec == "embedded":
        raise InputError(
            "There is no embedded backbone in this version",
            seen=spec,
            remedy=f"Name an architecture with a weights file (NAME:FILE), or use {UNTRAINED} to try the workflow.",
            code="backbone-unavailable",
        )
    if spec == UNTRAINED:
        _require_size(image_size, 16)
        return _describe(_untrained(num_classes, image_size or 224), UNTRAINED, "untrained", None)
    name, colon, file = spec.partition(":")
    _require_architecture(name)
    options: dict[str, Any] = {"num_classes": num_classes}
    if image_size is not None:
        options["img_size"] = image_size
    if colon:
        path = Path(file)
        state = _read_weights(path)
        model = _empty(name, options)
        _fill(model, state, name, path.name)
        return _describe(model, name, "file", path.name)
    return _describe(_from_hub(name, options), name, "hub", None)


def outline_backbone(name: str, *, image_size: int | None = None) -> Backbone:
    """Return an architecture without memory for its weights, to check options against it in a tenth of a second.

    Args:
        name: a timm architecture, or `vit_tiny_untrained`.
        image_size: side of the square input; None takes the backbone's own.

    Raises:
        InputError: what `load_backbone` would refuse before it reads weights.
    """
    if name == UNTRAINED:
        return load_backbone(UNTRAINED, 2, image_size=image_size)
    _require_architecture(name)
    options = {"num_classes": 2} if image_size is None else {"num_classes": 2, "img_size": image_size}
    with torch.device("meta"):
        model = _empty(name, options)
    return _describe(model, name, "outline", None)


def _require_architecture(name: str) -> None:
    architecture, dot, tag = name.partition(".")
    if timm.is_model(architecture):
        tags = timm.models.get_arch_pretrained_cfgs(architecture) if dot else {}
        if not dot or name in tags:
            return
        raise InputError(
            f"The architecture {architecture} has no weights of this name",
            seen=tag,
            remedy=f"Leave the tag out, or use one of {', '.join(sorted(n.partition('.')[2] for n in tags))}.",
            code="backbone-unknown",
        )
    near = difflib.get_close_matches(name.split(".", 1)[0], timm.list_models(), n=3)
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    raise InputError(
        "Unknown backbone",
        seen=name,
        remedy=f"{hint}Use the name of a timm vision transformer, alone or with a weights file (NAME:FILE).",
        code="backbone-unknown",
    )


def _require_transformer(model: nn.Module, name: str) -> None:
    try:
        token_grid(model)
        attention = any(n.endswith("qkv") and isinstance(m, nn.Linear) for n, m in model.named_modules())
    except AdapterError:
        attention = False
    if not attention:
        raise InputError(
            "This architecture is not a vision transformer with a grid of patch tokens",
            seen=name,
            remedy="Use a ViT, DeiT or DINOv2 model of timm, e.g. deit_tiny_patch16_224.",
            code="backbone-unsupported",
        )
    if not isinstance(model.pretrained_cfg.get("classifier") or "head", str):  # type: ignore[union-attr,operator]
        raise InputError(
            "This architecture has two classifiers (a distilled model), which cannot be fine-tuned here",
            seen=name,
            remedy="Use the architecture without distillation, e.g. deit_tiny_patch16_224.",
            code="backbone-unsupported",
        )
    for module in model.modules():
        if hasattr(module, "qkv_bias_separate"):
            # BEiT and EVA otherwise read the weight of their qkv layer past an adapter around it.
            setattr(module, "qkv_bias_separate", True)  # noqa: B010  # timm's plain attribute


def _empty(name: str, options: dict[str, Any]) -> nn.Module:
    """Return the architecture without its weights, once it is known to be one that can be adapted."""
    plain = {key: value for key, value in options.items() if key != "img_size"}
    model: nn.Module = timm.create_model(name, pretrained=False, **plain)
    _require_transformer(model, name)
    if "img_size" in options:
        _require_size(options["img_size"], int(model.patch_embed.patch_size[-1]))  # type: ignore[union-attr,index]
        model = timm.create_model(name, pretrained=False, **options)
        _require_transformer(model, name)
    return model


def _require_size(image_size: int | None, patch_size: int) -> None:
    if image_size is not None and (image_size % patch_size or image_size < 2 * patch_size):
        raise InputError(
            f"The image size does not fit patches of {patch_size} pixels",
            seen=image_size,
            remedy=f"Use a multiple of {patch_size}, at least {2 * patch_size}.",
            code="recipe-image-size",
        )


def _untrained(num_classes: int, size: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_UNTRAINED_SEED)
        model = timm.models.VisionTransformer(
            img_size=size, patch_size=16, embed_dim=96, depth=4, num_heads=3, num_classes=0
        )
    model.reset_classifier(num_classes)  # outside the fork: the head is drawn like every other backbone's
    model.pretrained_cfg = {
        "input_size": (3, size, size), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "classifier": "head",
    }  # fmt: skip
    plain: nn.Module = model
    return plain


def _from_hub(name: str, options: dict[str, Any]) -> nn.Module:
    remedy = (
        f"Give a weights file on this machine instead ({name}:FILE.safetensors), or connect to the internet and unset "
        "WARA_OFFLINE."
    )
    model = _empty(name, options)
    kept = _kept_file(model)
    if kept is not None:
        _fill(model, _read_weights(kept), name, kept.name)
        return model
    if not hub_allowed():
        raise InputError(
            "The weights of this backbone are not on this machine, and the model hub is switched off",
            seen=name,
            remedy=remedy,
            code="backbone-offline",
        )
    if not _hub_answers():
        raise InputError(
            "The weights of this backbone are not on this machine, and the model hub cannot be reached",
            seen=name,
            remedy=remedy,
            code="backbone-offline",
        )
    try:
        fetched: nn.Module = timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub client raises its own and its transport's errors
        raise InputError(
            f"The weights of this backbone could not be fetched from the model hub ({type(error).__name__})",
            seen=name,
            remedy=remedy,
            code="backbone-offline",
        ) from error
    _require_transformer(fetched, name)
    return fetched


def _kept_file(model: Any) -> Path | None:
    """Return the weights file that the hub's client keeps from an earlier fetch, if there is one."""
    repository = model.pretrained_cfg.get("hf_hub_id")
    kept = huggingface_hub.try_to_load_from_cache(repository, "model.safetensors") if repository else None
    return Path(kept) if isinstance(kept, str) else None


def _hub_answers(timeout: float = 3.0) -> bool:
    """Whether the hub's host takes a connection; the client itself would retry for most of a minute."""
    if urllib.request.getproxies().get("https"):
        return True  # only the proxy can tell
    host = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        with socket.create_connection((host.hostname, host.port or 443), timeout=timeout):
            return True
    except OSError:
        return False


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(
            "The weights file does not exist",
            seen=path.name,
            remedy="Check the path behind the colon.",
            code="weights-missing",
        )
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise whatever an arbitrary byte sequence makes them stumble over
        raise InputError(
            "The weights file cannot be read as safetensors or as a plain PyTorch state dict",
            seen=path.name,
            remedy="Save the model's state_dict as .safetensors; files that hold program code are refused.",
            code="weights-unreadable",
        ) from error
    for wrapper in ("state_dict", "model", "model_state", "teacher"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    tensors = {k.removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(
        state, dict) else {}  # fmt: skip
    if not tensors:
        raise InputError(
            "The weights file holds no tensors", seen=path.name, remedy="Give a model's state_dict.",
            code="weights-unreadable",
        )  # fmt: skip
    return tensors


def _fill(model: nn.Module, state: dict[str, Tensor], name: str, file: str) -> None:
    """Load pretrained tensors into a model, all but the head, and refuse a file that does not fit."""
    head = set(_head_keys(model))
    own = model.state_dict()
    wanted = {key for key in own if key not in head}
    fits = wanted <= state.keys() and all(state[key].shape == own[key].shape for key in wanted)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if not fits and convert is not None:
        # timm's own reading of other layouts (original DINO, MAE, JAX names ...) and of another image size. A layout
        # that it does not know either raises one of these; the comparison below says what does not fit.
        with contextlib.suppress(KeyError, RuntimeError, AttributeError, IndexError, TypeError, ValueError):
            state = convert(state, model)
    missing = sorted(wanted - state.keys())
    wrong = sorted(key for key in wanted & state.keys() if state[key].shape != own[key].shape)
    if missing or wrong:
        if wrong:
            key = wrong[0]
            detail = f"{key} is {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the architecture"
        else:
            detail = f"{len(missing)} of {len(wanted)} tensors are missing, e.g. {missing[0]}"
        raise InputError(
            f"The weights file does not belong to the architecture {name}: {detail}",
            seen=file,
            remedy="Name the architecture that the file was saved from, in front of the colon.",
            code="weights-mismatch",
        )
    model.load_state_dict({key: state[key] for key in wanted}, strict=False)


def _head_keys(model: nn.Module) -> Iterator[str]:
    names = model.pretrained_cfg.get("classifier") or "head"  # type: ignore[union-attr,operator]
    for name in (names,) if isinstance(names, str) else names:
        yield from (f"{name}.weight", f"{name}.bias")


def _describe(model: nn.Module, name: str, source: str, file: str | None) -> Backbone:
    config = resolve_model_data_config(model)
    classifier = model.pretrained_cfg.get("classifier") or "head"  # type: ignore[union-attr,operator]
    embed: Any = next(m.patch_embed for m in model.modules() if hasattr(m, "patch_embed"))
    # The model's own size, not the config's: image_size may have changed it.
    size = int(embed.img_size[-1] if embed.img_size is not None else config["input_size"][-1])
    return Backbone(
        model=model,
        name=name,
        source=source,
        file=file,
        fingerprint=_fingerprint(model),
        pretrained=source != "untrained",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        size=size,
        patch_size=int(embed.patch_size[-1]),
        head=classifier if isinstance(classifier, str) else classifier[0],
    )


def _fingerprint(model: nn.Module) -> str:
    digest, head = hashlib.sha256(), set(_head_keys(model))
    for key, value in sorted(model.state_dict().items()):
        if key not in head and not value.is_meta:
            digest.update(key.encode())
            digest.update(value.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
