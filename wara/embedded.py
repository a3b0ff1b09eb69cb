"""The pretrained backbone that comes with the project: where its weights lie and which architecture they fill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

EMBEDDED = "embedded"  # its spec, and its name
FILE = Path(__file__).resolve().parent.parent / "assets" / "backbones" / f"{EMBEDDED}.safetensors"

# A plain vision transformer of timm: seven blocks as wide as DeiT-Tiny's twelve.
ARCHITECTURE: dict[str, Any] = {
    "img_size": 224, "patch_size": 16, "embed_dim": 192, "depth": 7, "num_heads": 3, "num_classes": 0,
}  # fmt: skip
# Means and deviations of its input, by channel of pixels in 0..1: ImageNet's, as its teacher has them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def is_here() -> bool:
    """Whether this installation has the weights: a checkout has, a package without `assets/` has not."""
    return FILE.is_file()
