"""Subbands and layers in words."""

import pytest

from wara.analysis.bands import describe_band, layer_labels, order_bands


@pytest.mark.parametrize(
    ("name", "levels", "patch", "scale", "size"),
    [
        ("A2", 2, 16, "coarse: whole picture", "over 64 px"),
        ("H2", 2, 16, "medium detail", "32–64 px"),
        ("D1", 2, 16, "finest detail", "16–32 px"),
        ("V1", 1, 16, "fine detail", "16–32 px"),
        ("H3", 3, 8, "broad detail", "32–64 px"),
        ("H2", 3, 8, "medium detail", "16–32 px"),
        ("H1", 2, None, "finest detail", "1–2 tokens"),
        ("H3", 5, 14, "medium detail, level 3", "56–112 px"),
    ],
)
def test_scale_and_size_of_a_subband(name, levels, patch, scale, size):
    band = describe_band(name, levels, patch)
    assert (band.scale, band.size) == (scale, size)


def test_scales_of_one_transform_have_different_names():
    for levels in range(1, 7):
        names = [describe_band(f"H{level}", levels, 16).scale for level in range(1, levels + 1)]
        assert len(set(names)) == levels


def test_what_is_no_subband_is_refused():
    with pytest.raises(ValueError, match="'X1' is not the name of a subband"):
        describe_band("X1", 2, 16)


def test_order_is_coarse_to_fine():
    assert order_bands(["D1", "A2", "V1", "H2", "H1", "D2", "V2", "A2"]) == ["A2", "H2", "V2", "D2", "H1", "V1", "D1"]


@pytest.mark.parametrize(
    ("names", "labels", "shared"),
    [
        (["blocks.0.attn.qkv", "blocks.11.attn.qkv"], ["block 0", "block 11"], "attn.qkv"),
        (["blocks.0.attn.qkv", "blocks.0.mlp.fc1"], ["block 0, attn.qkv", "block 0, mlp.fc1"], ""),
        (
            ["layers.0.blocks.1.attn.qkv", "layers.1.blocks.1.attn.qkv"],
            ["layers.0.blocks.1", "layers.1.blocks.1"],
            "attn.qkv",
        ),
        (["head"], ["head"], ""),
        ([], [], ""),
    ],
)
def test_layers_are_shortened_to_what_tells_them_apart(names, labels, shared):
    assert layer_labels(names) == (labels, shared)
