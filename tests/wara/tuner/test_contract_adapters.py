"""PEFT's contract, beside LoRA: switching, disabling, deleting and taking adapters out."""

from __future__ import annotations

import peft
import pytest
import torch
from torch import Tensor

from tests.wara.support import MakeVit
from tests.wara.tuner.methods import (
    METHODS,
    Method,
    each_of_ours,
    every_method,
    images,
    outlines,
    require_equal,
    snapshot,
    stir,
    trained,
)
from wara.tuner import AdapterError, adapted_layers


def _with_two(make_vit: MakeVit, method: Method) -> tuple[peft.PeftModel, Tensor, Tensor]:
    """Return a model with two unlike adapters, the first active, and the outputs of each."""
    model = method.adapted(make_vit())
    model.add_adapter("other", method.config(**method.unlike()))
    stir(model, 5, "other")
    first = model(images()).detach()
    model.set_adapter("other")
    second = model(images()).detach()
    model.set_adapter("default")
    return model.eval(), first, second


@every_method
def test_a_new_adapter_leaves_the_outputs_as_they_were(make_vit: MakeVit, method: Method) -> None:
    key = "init_lora_weights" if method.name == "lora" else "init_weights"
    model = peft.get_peft_model(make_vit(), method.config(**{key: True})).eval()

    assert torch.equal(model(images()), make_vit()(images()))


@every_method
def test_adapters_switch_and_only_the_active_one_learns(make_vit: MakeVit, method: Method) -> None:
    model, first, second = _with_two(make_vit, method)

    assert not torch.allclose(first, second)
    for name, outputs in (("other", second), ("default", first)):
        model.set_adapter(name)
        assert torch.equal(model(images()), outputs)
        assert trained(model)
        assert all(f".{name}" in parameter for parameter in trained(model))
    model.set_adapter("other", inference_mode=True)
    assert trained(model) == set()


@every_method
def test_an_unknown_adapter_cannot_be_activated(make_vit: MakeVit, method: Method) -> None:
    model, first, _ = _with_two(make_vit, method)

    with pytest.raises(ValueError, match="third"):
        model.set_adapter("third")

    assert torch.equal(model(images()), first)


@every_method
def test_two_active_adapters_add_up(make_vit: MakeVit, method: Method) -> None:
    model, _, _ = _with_two(make_vit, method)
    layer = next(iter(adapted_layers(model, "default").values()))
    other = next(iter(adapted_layers(model, "other").values()))
    model.base_model.set_adapter(["default", "other"])
    x = torch.randn(2, 65, 24)

    expected = layer.module.base_layer(x) + layer.update(x) + other.update(x)

    torch.testing.assert_close(layer.module(x), expected, atol=1e-5, rtol=1e-5)


@each_of_ours
def test_a_batch_of_several_adapters_is_refused_with_what_to_do(make_vit: MakeVit, method: Method) -> None:
    model, first, _ = _with_two(make_vit, method)
    layer = next(iter(adapted_layers(model).values())).module

    with pytest.raises(AdapterError, match=r"does not mix adapters within a batch\. Set one with set_adapter"):
        layer(torch.randn(2, 65, 24), adapter_names=["default", "other"])

    with pytest.raises(AdapterError, match=r"adapter_names=\['default', 'other'\].* Set one with set_adapter"):
        model(images(), adapter_names=["default", "other"])
    assert torch.equal(model(images()), first)


@every_method
def test_disabling_gives_the_base_model_and_leaving_gives_everything_back(make_vit: MakeVit, method: Method) -> None:
    model, first, _ = _with_two(make_vit, method)
    before, flags = snapshot(model), trained(model)

    with model.disable_adapter():
        assert torch.equal(model(images()), make_vit()(images()))
    with pytest.raises(KeyError), model.disable_adapter():
        raise KeyError

    require_equal(snapshot(model), before)
    assert trained(model) == flags
    assert model.active_adapters == ["default"]
    assert torch.equal(model(images()), first)


@every_method
def test_disabling_keeps_the_head_of_the_base_model_apart(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"])
    with torch.no_grad():
        model.base_model.model.head.modules_to_save["default"].weight.add_(1)

    with model.disable_adapter():
        assert torch.equal(model(images()), make_vit()(images()))


@every_method
def test_deleting_an_inactive_adapter_leaves_the_active_one(make_vit: MakeVit, method: Method) -> None:
    model, first, _ = _with_two(make_vit, method)

    model.delete_adapter("other")

    assert torch.equal(model(images()), first)
    assert set(model.peft_config) == {"default"}
    assert [name for name in snapshot(model) if "other" in name] == []
    model.add_adapter("other", method.config())  # and the name is free


@every_method
def test_deleting_the_active_adapter_leaves_the_other_to_work(make_vit: MakeVit, method: Method) -> None:
    model, _, second = _with_two(make_vit, method)

    with pytest.warns(UserWarning, match="active"):
        model.delete_adapter("default")
    model.set_adapter("other")

    assert torch.equal(model(images()), second)
    assert [name for name in snapshot(model) if "default" in name] == []


@every_method
def test_deleting_the_only_adapter_leaves_the_base_model(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit())

    model.delete_adapter("default")

    assert torch.equal(model.base_model(images()), make_vit()(images()))
    assert not any("wara_" in name or "lora_" in name for name, _ in model.named_parameters())


@every_method
def test_deleting_an_unknown_adapter_is_an_error_and_changes_nothing(make_vit: MakeVit, method: Method) -> None:
    model, first, _ = _with_two(make_vit, method)

    with pytest.raises(ValueError, match="third"):
        model.delete_adapter("third")

    assert torch.equal(model(images()), first)
    assert set(model.peft_config) == {"default", "other"}


@pytest.mark.parametrize("method", [m for m in METHODS if m.no_weight is None], ids=lambda m: m.name)
def test_deleting_a_merged_adapter_is_refused_until_it_is_unmerged(make_vit: MakeVit, method: Method) -> None:
    model, _, second = _with_two(make_vit, method)
    model.merge_adapter()
    before = snapshot(model)

    with pytest.raises(ValueError, match=r"'default'.*merged.*unmerge"):
        model.delete_adapter("default")

    require_equal(snapshot(model), before)
    model.unmerge_adapter()
    with pytest.warns(UserWarning, match="active"):
        model.delete_adapter("default")
    model.set_adapter("other")
    torch.testing.assert_close(model(images()), second, atol=1e-5, rtol=1e-5)


@every_method
def test_set_requires_grad_switches_one_adapter(make_vit: MakeVit, method: Method) -> None:
    model, _, _ = _with_two(make_vit, method)
    flags = trained(model)

    model.set_requires_grad("default", requires_grad=False)
    assert trained(model) == set()
    model.set_requires_grad("other")
    assert all(".other" in name for name in trained(model))
    model.set_requires_grad("other", requires_grad=False)
    model.set_requires_grad("default")

    assert trained(model) == flags


@every_method
def test_unloading_gives_the_base_model_back_without_a_trace(make_vit: MakeVit, method: Method) -> None:
    base = make_vit()
    before, layout = snapshot(base), outlines(base)

    bare = method.adapted(base).unload()

    require_equal(snapshot(bare), before)
    assert outlines(bare) == layout
    assert torch.equal(bare(images()), make_vit()(images()))


@every_method
def test_an_adapter_goes_in_again_after_unloading(make_vit: MakeVit, method: Method) -> None:
    expected = method.adapted(make_vit())(images())

    again = method.adapted(method.adapted(make_vit(), seed=3).unload())

    torch.testing.assert_close(again(images()), expected, atol=1e-6, rtol=1e-6)
