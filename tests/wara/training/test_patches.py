"""Pixels in a patch embedding give what it gives for normalised images, as near to float32 as autocast comes."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from wara.training.class_token import answering
from wara.training.lean import ShortWays
from wara.training.patches import PixelPatches, centred, is_plain

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def embedding(**options: object) -> PatchEmbed:
    torch.manual_seed(0)
    made = PatchEmbed(**{"img_size": (40, 32), "patch_size": 8, "embed_dim": 48} | options)
    return made.requires_grad_(False)


def pixels_of(kind: str = "planes") -> Tensor:
    drawn = torch.randint(0, 256, (3, 3, 40, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return drawn.contiguous(memory_format=torch.channels_last) if kind == "channels last" else drawn


def normalised(pixels: Tensor) -> Tensor:
    return (pixels.float() / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


@pytest.mark.parametrize("kind", ["planes", "channels last"])
@pytest.mark.parametrize("bias", [True, False])
def test_pixels_give_the_tokens_of_normalised_images(kind: str, bias: bool) -> None:
    embed = embedding(bias=bias)
    pixels = pixels_of(kind)
    exact = embed(normalised(pixels))
    with torch.autocast("cpu", torch.bfloat16):
        usual = embed(normalised(pixels))
    found = PixelPatches(embed, MEAN, STD)(centred(pixels))
    assert found.dtype == torch.bfloat16 and found.shape == exact.shape
    assert (found - exact).norm() < 1.3 * (usual - exact).norm()
    torch.testing.assert_close(found.float(), exact, rtol=0.02, atol=0.02)


def test_normalised_images_go_the_usual_way() -> None:
    embed = embedding()
    images = normalised(pixels_of())
    assert torch.equal(PixelPatches(embed, MEAN, STD)(images), embed(images))


def test_pixels_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[32, 32\].*\(40, 32\)"):
        PixelPatches(embedding(), MEAN, STD)(centred(pixels_of()[:, :, :32]))


@pytest.mark.parametrize(
    "other",
    [embedding(norm_layer=nn.LayerNorm), embedding(flatten=False), embedding(dynamic_img_pad=True),
     embedding(in_chans=1), embedding(img_size=None), embedding().requires_grad_(True), nn.Conv2d(3, 4, 8)],
    ids=["norm", "planes", "padding", "one channel", "any size", "trained", "another module"],
)  # fmt: skip
def test_what_is_no_plain_patch_embedding_is_left_alone(other: nn.Module) -> None:
    assert not is_plain(other)
    assert is_plain(embedding())


def test_a_model_in_its_short_ways_takes_pixels_and_outside_it_does_not() -> None:
    torch.manual_seed(0)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=(40, 32), patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=3
    ).requires_grad_(False).eval()  # fmt: skip
    pixels, ways = pixels_of("channels last"), ShortWays(model, (MEAN, STD))
    assert ways.takes_pixels
    with torch.inference_mode(), answering(model, CPU, "bfloat16"):
        usual = model(normalised(pixels))
        with ways.in_place():
            torch.testing.assert_close(model(centred(pixels)), usual, rtol=0.03, atol=0.03)
        with pytest.raises(RuntimeError):
            model(centred(pixels))
    assert not ShortWays(model).takes_pixels
    mobile = timm.create_model("mobilenetv3_small_050", num_classes=3).requires_grad_(False)
    assert not ShortWays(mobile, (MEAN, STD)).takes_pixels


def test_centred_pixels_are_whole_numbers_of_eight_bits() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(centred(every).int(), every.int() - 128)
