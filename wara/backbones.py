"""Pretrained vision transformers: the embedded one, timm's from a file or the hub, and an untrained one for trying.

A backbone is named by a *spec*: `embedded`; an architecture of timm and a weights file joined by a colon
(`deit_tiny_patch16_224:weights.safetensors`); an architecture alone (weights from the hub); or `vit_tiny_untrained`.
"""

from __future__ import annotations

import difflib
import socket
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

from wara import embedded
from wara.backbone_choices import UNTRAINED, hub_allowed
from wara.embedded import EMBEDDED
from wara.errors import InputError
from wara.tuner import AdapterError, token_grid
from wara.weights import fill, fingerprint, read_weights

_UNTRAINED_SEED = 0


@dataclass
class Backbone:
    """A loaded vision transformer with a fresh head.

    Attributes:
        model: the timm model; its head has one output a class.
        name: the timm architecture, `embedded` or `vit_tiny_untrained`.
        source: ``"embedded"``, ``"file"``, ``"hub"`` or ``"untrained"``.
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
    if spec == EMBEDDED:
        return describe(_embedded(num_classes, image_size), EMBEDDED, EMBEDDED, embedded.FILE.name)
    if spec == UNTRAINED:
        _require_size(image_size, 16)
        return describe(_untrained(num_classes, image_size or 224), UNTRAINED, "untrained", None)
    name, colon, file = spec.partition(":")
    _require_architecture(name)
    options: dict[str, Any] = {"num_classes": num_classes}
    if image_size is not None:
        options["img_size"] = image_size
    if colon:
        path = Path(file)
        state = read_weights(path)
        model = _empty(name, options)
        fill(model, state, name, path.name)
        return describe(model, name, "file", path.name)
    return describe(_from_hub(name, options), name, "hub", None)


def outline_backbone(name: str, *, image_size: int | None = None) -> Backbone:
    """Return an architecture without memory for its weights, to check options against it in a tenth of a second.

    Args:
        name: a timm architecture, `embedded` or `vit_tiny_untrained`.
        image_size: side of the square input; None takes the backbone's own.

    Raises:
        InputError: what `load_backbone` would refuse before it reads weights.
    """
    if name in (EMBEDDED, UNTRAINED):
        return load_backbone(name, 2, image_size=image_size)  # small enough to be loaded whole
    _require_architecture(name)
    options = {"num_classes": 2} if image_size is None else {"num_classes": 2, "img_size": image_size}
    with torch.device("meta"):
        model = _empty(name, options)
    return describe(model, name, "outline", None)


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


def _embedded(num_classes: int, size: int | None) -> nn.Module:
    if not embedded.is_here():
        raise InputError(
            "The embedded backbone is not in this installation",
            seen=embedded.FILE.name,
            remedy="Work in a whole checkout of the project, or name weights of your own (NAME:FILE).",
            code="backbone-unavailable",
        )
    _require_size(size, embedded.ARCHITECTURE["patch_size"])
    size = size or int(embedded.ARCHITECTURE["img_size"])
    with torch.random.fork_rng(devices=[]):
        model = timm.models.VisionTransformer(**embedded.ARCHITECTURE | {"img_size": size})
    whole = _with_head(model, num_classes, size, embedded.MEAN, embedded.STD)
    weights = {name: tensor.float() for name, tensor in read_weights(embedded.FILE).items()}
    fill(whole, weights, EMBEDDED, embedded.FILE.name)
    return whole


def _untrained(num_classes: int, size: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        model = timm.models.VisionTransformer(
            img_size=size, patch_size=16, embed_dim=96, depth=4, num_heads=3, num_classes=0
        )
    _draw_again(model, torch.Generator().manual_seed(_UNTRAINED_SEED))
    return _with_head(model, num_classes, size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _draw_again(model: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight anew from one generator, as timm does at birth.

    The process-wide generator serves every thread: a seed given to it is spent by whatever else is built meanwhile, and
    a server would then hold another network than the job that trained on it.
    """
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02, generator=generator)
    stem: Any = model.patch_embed
    nn.init.kaiming_uniform_(stem.proj.weight, a=5**0.5, generator=generator)
    nn.init.zeros_(stem.proj.bias)


def _with_head(
    model: Any, num_classes: int, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> nn.Module:
    """Give a headless model its head, drawn like every other backbone's, and the config that timm's models carry."""
    model.reset_classifier(num_classes)
    model.pretrained_cfg = {"input_size": (3, size, size), "mean": mean, "std": std, "classifier": "head"}
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
        fill(model, read_weights(kept), name, kept.name)
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


def describe(model: nn.Module, name: str, source: str, file: str | None) -> Backbone:
    """Return what a timm model is: its sizes, its input's means and deviations, its head, its fingerprint."""
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
        fingerprint=fingerprint(model),
        pretrained=source != "untrained",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        size=size,
        patch_size=int(embed.patch_size[-1]),
        head=classifier if isinstance(classifier, str) else classifier[0],
    )
