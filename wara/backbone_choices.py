"""Which backbones can be chosen here. Told without torch, which takes seconds to import."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from wara import embedded
from wara.embedded import EMBEDDED

UNTRAINED = "vit_tiny_untrained"
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
        spec: what `wara.backbones.load_backbone` takes.
        name: the timm architecture, `embedded` or `vit_tiny_untrained`.
        label: a short name for people.
        source: ``"file"``, ``"embedded"``, ``"hub"`` or ``"untrained"``.
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


def hub_allowed() -> bool:
    """Whether the hub may be asked: not when WARA_OFFLINE or HF_HUB_OFFLINE is set to a true word."""
    words = (os.environ.get("WARA_OFFLINE", ""), os.environ.get("HF_HUB_OFFLINE", ""))
    return not any(word.strip().lower() in {"1", "true", "yes", "on"} for word in words)


def list_backbones(extra: tuple[str, ...] = ()) -> list[BackboneInfo]:
    """List what can be chosen: the embedded one first, then weights files, the hub's, the untrained one last.

    Args:
        extra: specs of weights files that somebody brought, ``"name:file"``.
    """
    found = [
        BackboneInfo(
            EMBEDDED,
            EMBEDDED,
            "Small vision transformer that comes with WaRA Studio",
            "embedded",
            True,
            embedded.is_here(),
            224,
            "Taught by a larger network on medical and drawn images; needs no internet.",
        )
    ]
    found += [_of_file(spec) for spec in extra]
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


def _of_file(spec: str) -> BackboneInfo:
    name, _, file = spec.partition(":")
    available = Path(file).is_file()
    note = "Weights file on this machine." if available else "The weights file is not there any more."
    return BackboneInfo(spec, name, f"{name} (weights file)", "file", True, available, _size_in(name), note)


def _size_in(name: str) -> int | None:
    """Return the input's side that timm's names end with, such as 224 in ``deit_tiny_patch16_224``."""
    found = re.search(r"_(\d{2,4})$", name.partition(".")[0])
    return int(found.group(1)) if found else None
