"""PEFT's contract, beside LoRA: merging into the weights and out again, or a refusal that changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch

from tests.wara.support import MakeVit
from tests.wara.tuner.methods import (
    METHODS,
    OURS,
    Method,
    images,
    outlines,
    require_equal,
    snapshot,
)
from wara.tuner import AdapterError, adapted_layers

weights = pytest.mark.parametrize("method", [m for m in METHODS if m.no_weight is None], ids=lambda m: m.name)
no_weights = pytest.mark.parametrize("method", [m for m in METHODS if m.no_weight is not None], ids=lambda m: m.name)
merging: Any = pytest.mark.parametrize(
    "merge",
    [
        lambda model: model.merge_adapter(),
        lambda model: model.merge_adapter(safe_merge=True),
        lambda model: model.merge_and_unload(),
        lambda model: model.merge_and_unload(safe_merge=True),
    ],
    ids=["merge", "safe-merge", "merge-and-unload", "safe-merge-and-unload"],
)


def _equalise_gains(model: peft.PeftModel) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "wara_gain" in name:
                parameter.copy_(parameter.mean(dim=0).expand_as(parameter))


@weights
@merging
def test_a_merged_adapter_gives_the_same_outputs(
    make_vit: MakeVit, method: Method, merge: Callable[[peft.PeftModel], Any]
) -> None:
    model = method.adapted(make_vit())
    expected = model(images())

    merged = merge(model) or model

    torch.testing.assert_close(merged(images()), expected, atol=1e-5, rtol=1e-5)


@no_weights
@merging
def test_what_is_no_weight_is_refused_with_the_reason_and_nothing_changes(
    make_vit: MakeVit, method: Method, merge: Callable[[peft.PeftModel], Any]
) -> None:
    model = method.adapted(make_vit())
    before, layout = snapshot(model), outlines(model)

    with pytest.raises(AdapterError, match=rf"Adapter 'default' cannot be merged: {method.no_weight}"):
        merge(model)

    require_equal(snapshot(model), before)
    assert outlines(model) == layout
    assert not any(layer.module.merged for layer in adapted_layers(model).values())


@pytest.mark.parametrize("method", [m for m in METHODS if m.no_weight and "gains" in m.no_weight], ids=lambda m: m.name)
def test_gains_that_are_equal_merge(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit())
    _equalise_gains(model)
    expected = model(images())

    torch.testing.assert_close(model.merge_and_unload()(images()), expected, atol=1e-5, rtol=1e-5)


@weights
def test_unmerging_gives_the_weights_and_the_outputs_back(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit())
    before, expected = snapshot(model), model(images())

    model.merge_adapter()
    model.unmerge_adapter()

    after = snapshot(model)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model(images()), expected, atol=1e-5, rtol=1e-5)
    with pytest.warns(UserWarning, match="Already unmerged"):
        model.unmerge_adapter()


@weights
def test_disabling_a_merged_adapter_gives_the_base_model(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit())
    model.merge_adapter()

    with model.disable_adapter():
        torch.testing.assert_close(model(images()), make_vit()(images()), atol=1e-5, rtol=1e-5)


@weights
def test_merging_twice_warns_and_adds_nothing(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit())
    model.merge_adapter()
    before = snapshot(model)

    with pytest.warns(UserWarning, match="already merged"):
        model.merge_adapter()

    require_equal(snapshot(model), before)


@weights
def test_values_that_are_not_finite_are_refused_and_no_layer_is_changed(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit())
    last = list(adapted_layers(model).values())[-1].module
    with torch.no_grad():
        next(p for n, p in last.named_parameters() if p.requires_grad).view(-1)[0] = torch.nan
    before = snapshot(model)

    with pytest.raises(ValueError, match="NaNs detected"):
        model.merge_adapter(safe_merge=True)

    if method.name != "lora":  # which has changed the layers before the last one by then
        after = snapshot(model)
        for name, value in before.items():
            assert torch.equal(after[name].nan_to_num(7), value.nan_to_num(7)), name
        assert not any(layer.module.merged for layer in adapted_layers(model).values())


@weights
def test_two_adapters_merge_together(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit())
    model.add_adapter("other", method.config(**method.unlike()))
    model.base_model.set_adapter(["default", "other"])
    expected = model(images())

    merged = model.merge_and_unload(adapter_names=["default", "other"])

    torch.testing.assert_close(merged(images()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", [m for m in OURS if m.no_weight is None], ids=lambda m: m.name)
def test_an_adapter_is_not_put_into_merged_weights(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit())
    model.merge_adapter()
    before = snapshot(model)

    with pytest.raises(AdapterError, match=r"'default' is merged .* Use unmerge_adapter\(\)"):
        model.add_adapter("other", method.config())

    require_equal(snapshot(model), before)


@weights
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_low_precision_merges_within_its_precision(
    make_vit: MakeVit, method: Method, dtype: torch.dtype
) -> None:
    model = method.adapted(make_vit()).to(dtype)
    expected = model(images().to(dtype)).float()

    merged = model.merge_and_unload()

    assert {p.dtype for p in merged.parameters()} == {dtype}
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(
        merged(images().to(dtype)).float(), expected, atol=16 * torch.finfo(dtype).eps * scale, rtol=0
    )
