"""The parts of the update by subband and token add up to the update, and their relevance to what it changed."""

import peft
import pytest
import timm
import torch

from tests.wara.analysis.conftest import CONFIGS
from wara.analysis.attention import attention_relevance
from wara.analysis.relevance import UpdateRelevance, tokens_of_bands
from wara.analysis.scales import scales_of
from wara.errors import InputError
from wara.tuner import SubbandTransform


def pictures(size, number=2):
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_integrated_relevance_is_complete_for_every_method(adapted):
    _, model, size = adapted
    found = UpdateRelevance(model).measure(pictures(size), steps=32)
    assert found.change.abs().min() > 1e-3
    assert (found.residual.abs() <= 0.01 * found.change.abs() + 2e-3).all()


def test_the_change_is_between_the_model_and_itself_without_the_adapter(adapted):
    _, model, size = adapted
    shown = pictures(size)
    found = UpdateRelevance(model).measure(shown)
    with torch.no_grad():
        on = model(shown)
        with model.disable_adapter():
            off = model(shown)
    rows = torch.arange(len(shown))
    for logits, score in ((on, found.on), (off, found.off)):
        difference = logits[rows, found.target] - logits[rows, found.against]
        torch.testing.assert_close(difference, score, atol=1e-4, rtol=1e-4)


def test_maps_layers_and_bands_are_sums_of_the_same_parts(adapted):
    _, model, size = adapted
    found = UpdateRelevance(model).measure(pictures(size), [0, 1])
    side = size // 16
    assert found.maps.shape == (2, len(found.bands), side, side)
    torch.testing.assert_close(found.maps.sum(dim=(2, 3)), found.by_band, atol=1e-5, rtol=1e-4)
    assert found.by_layer.shape == (2, 2, len(found.bands)) and found.prefix.shape == (2, 2)
    assert found.target.tolist() == [0, 1] and found.against.tolist() == [1, 0]


def test_first_order_is_gradient_times_update(make_model):
    model = make_model(CONFIGS["lora"]())
    shown = pictures(64, 1)
    found = UpdateRelevance(model).measure(shown, [1], steps=0)
    # The derivative of the score by a factor on all updates, by finite differences.
    measure = UpdateRelevance(model)
    with measure._running("cpu"), torch.no_grad():
        low, high = (measure._scores(shown, torch.tensor([scale]))[0] for scale in (0.999, 1.001))
    slope = ((high[1] - high[0]) - (low[1] - low[0])) / 0.002
    total = found.by_band.sum() + found.prefix.sum()
    assert float(total) == pytest.approx(float(slope), rel=0.02, abs=0.01)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize(("grid", "wavelet", "levels"), [((4, 4), "haar", 2), ((5, 7), "db2", 1)])
def test_subbands_alone_add_up_to_all_of_them(grid, wavelet, levels, separable):
    transform = SubbandTransform(grid, wavelet, levels, separable=separable)
    tokens = torch.randn(3, grid[0] * grid[1])
    coefficients = transform.analyse_planes(tokens)
    parts = list(tokens_of_bands(transform, coefficients))
    assert len(parts) == len(transform.band_names)
    torch.testing.assert_close(sum(parts), tokens, atol=1e-4, rtol=1e-4)


def test_the_model_is_left_as_it_was(adapted):
    _, model, size = adapted
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [len(module._forward_hooks) for module in model.modules()]
    fused = [getattr(module, "fused_attn", None) for module in model.modules()]
    found = UpdateRelevance(model).measure(pictures(size))
    attention_relevance(model, pictures(size), found.target, found.against)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert [getattr(module, "fused_attn", None) for module in model.modules()] == fused


def test_a_model_without_an_adapter_is_refused(make_model):
    with pytest.raises(InputError, match="no adapter"):
        UpdateRelevance(make_model())


def test_a_class_that_the_model_does_not_know_is_refused(make_model):
    with pytest.raises(InputError, match="0 to 1"):
        UpdateRelevance(make_model(CONFIGS["lora"]())).measure(pictures(64), [0, 7])


@pytest.mark.parametrize("config", ["lora", "wara-padded"])
def test_windows_are_refused_in_words(config):
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, embed_dim=24, depths=(1, 1), num_heads=(2, 2),
        num_classes=2,
    )  # fmt: skip
    with pytest.raises(InputError, match="windows or stages"):
        UpdateRelevance(peft.get_peft_model(swin, CONFIGS[config]()))


@pytest.mark.parametrize("pooling", ["token", "avg"])
def test_attention_is_a_map_with_and_without_a_class_token(pooling):
    torch.manual_seed(0)
    options = {"class_token": False} if pooling == "avg" else {}
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=64, depth=2, embed_dim=48, num_heads=3, num_classes=2, global_pool=pooling,
        **options,
    ).eval()  # fmt: skip
    seen = attention_relevance(model, pictures(64), torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert seen.shape == (2, 4, 4) and (seen >= 0).all() and seen.max() > 0


def test_attention_in_windows_is_refused_in_words():
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, embed_dim=24, depths=(1, 1), num_heads=(2, 2),
        num_classes=2,
    ).eval()  # fmt: skip
    with pytest.raises(InputError, match="whole picture"):
        attention_relevance(swin, pictures(64), torch.tensor([0, 1]), torch.tensor([1, 0]))


def test_scales_run_from_coarse_to_fine():
    scales = scales_of(("A2", "H2", "V2", "D2", "H1", "V1", "D1"), 2, 16)
    assert [(s.name, s.size, s.rows) for s in scales] == [
        ("coarse", "over 64 px", (0,)), ("medium", "32–64 px", (1, 2, 3)), ("finest", "16–32 px", (4, 5, 6)),
    ]  # fmt: skip
