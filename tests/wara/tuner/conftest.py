"""Small timm transformers on which an adapter is made and run in milliseconds."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from tests.wara.support import MakeVit


@pytest.fixture
def make_vit() -> MakeVit:
    """Make the same small ViT (8 x 8 tokens, one class token) each time; options are timm's."""

    def make(seed: int = 0, **options: object) -> nn.Module:
        settings: dict[str, object] = {
            "img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 3,
        }  # fmt: skip
        torch.manual_seed(seed)
        return timm.models.VisionTransformer(**{**settings, **options}).eval()

    return make
