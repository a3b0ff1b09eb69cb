"""Small adapted models whose weights are random, so that every path through them does something."""

import peft
import pytest
import timm
import torch

from wara.tuner import TinyWaraConfig, WaraConfig

CLASSES = ["healthy", "ill"]


def small_model(config=None, img_size=64, patch_size=16, seed=0):
    torch.manual_seed(seed)
    base = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=img_size,
        patch_size=patch_size,
        depth=2,
        embed_dim=48,
        num_heads=3,
        num_classes=2,
    )
    if config is None:
        return base.eval()
    model = peft.get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if any(part in name for part in ("wara_B", "wara_v", "lora_B")):
            torch.nn.init.normal_(parameter, std=0.3)
        if "wara_gain" in name:
            torch.nn.init.uniform_(parameter, 0.2, 3.0)
    return model.eval()


@pytest.fixture
def make_model():
    return small_model


CONFIGS = {
    "wara": lambda: WaraConfig(r=4, wavelet="db2", levels=1, mode="periodization"),
    "wara-padded": lambda: WaraConfig(r=4, wavelet="haar", levels=2, gains="subband-rank"),
    "wara-gelu": lambda: WaraConfig(r=4, levels=2, activation="gelu"),
    "tiny-wara": lambda: TinyWaraConfig(r=4, u=8, levels=1),
    "lora": lambda: peft.LoraConfig(r=4, lora_alpha=8, target_modules=["qkv"]),
}


@pytest.fixture(params=list(CONFIGS))
def adapted(request):
    """(method, model, image size) for each method; the padded one has an odd grid of 5 x 5."""
    size = 80 if request.param == "wara-padded" else 64
    method = request.param.replace("-padded", "").replace("-gelu", "")
    return method, small_model(CONFIGS[request.param](), img_size=size), size
