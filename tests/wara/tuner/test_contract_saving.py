"""PEFT's contract, beside LoRA: what is saved comes back with the same outputs, whatever else is in the model."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.wara.support import MakeVit
from tests.wara.tuner.methods import (
    Method,
    every_method,
    images,
    require_equal,
    snapshot,
    stir,
    trained,
)


def _require_same(model: nn.Module, other: nn.Module) -> None:
    # Products in another order of threads may differ in the last bits, not more.
    torch.testing.assert_close(model(images()), other(images()), atol=1e-6, rtol=1e-6)


@every_method
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True], ids=["", "low-memory"])
def test_a_saved_adapter_gives_the_same_outputs_after_loading_with_another_seed(
    make_vit: MakeVit, method: Method, low_cpu_mem_usage: bool, tmp_path: Path
) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"])
    model.save_pretrained(tmp_path)
    torch.manual_seed(4711)

    loaded = peft.PeftModel.from_pretrained(make_vit(), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage).eval()

    _require_same(loaded, model)
    assert not any(held.is_meta for held in (*loaded.parameters(), *loaded.buffers()))
    assert trained(loaded) == set()


@every_method
def test_a_file_holds_the_adapter_and_the_head_and_nothing_of_the_base_model(
    make_vit: MakeVit, method: Method, tmp_path: Path
) -> None:
    method.adapted(make_vit(), modules_to_save=["head"]).save_pretrained(tmp_path)

    names = {name.removeprefix("base_model.model.") for name in load_file(tmp_path / "adapter_model.safetensors")}

    parts = {name.split(".")[-1 if "wara" in name else -2] for name in names if not name.startswith("head.")}
    fixed = {"wara_A", "wara_B", "wara_P"} if method.options.get("u") else set()
    saved = fixed if method.config().to_dict().get("save_projection") else set()
    assert parts == method.learned | saved
    assert {name for name in names if name.startswith("head.")} == {"head.weight", "head.bias"}
    assert not any("base_layer" in name or "default" in name for name in names)


@every_method
def test_the_trained_head_is_kept_and_the_base_models_head_as_well(
    make_vit: MakeVit, method: Method, tmp_path: Path
) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.fill_(0.5)
    model.save_pretrained(tmp_path)

    loaded = peft.PeftModel.from_pretrained(make_vit(), tmp_path).eval()

    assert set(loaded.base_model.model.head.modules_to_save["default"].weight.unique().tolist()) == {0.5}
    with loaded.disable_adapter():
        assert torch.equal(loaded(images()), make_vit()(images()))


@every_method
def test_adapters_whose_names_are_parts_of_each_other_are_kept_apart(
    make_vit: MakeVit, method: Method, tmp_path: Path
) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"])
    for seed, name in enumerate(("def", "default_2", "fault"), start=2):
        model.add_adapter(name, method.config(modules_to_save=["head"]))
        stir(model, seed, name)
    expected = {}
    for name in model.peft_config:
        model.set_adapter(name)
        expected[name] = model(images())
    model.save_pretrained(tmp_path)

    loaded = peft.PeftModel.from_pretrained(make_vit(), tmp_path)
    for name in ("def", "default_2", "fault"):
        loaded.load_adapter(str(tmp_path / name), name)
    loaded.eval()

    assert len({float(outputs.detach().sum()) for outputs in expected.values()}) == 4
    for name, outputs in expected.items():
        loaded.set_adapter(name)
        torch.testing.assert_close(loaded(images()), outputs, atol=1e-6, rtol=1e-6)


@every_method
def test_only_the_selected_adapters_are_saved(make_vit: MakeVit, method: Method, tmp_path: Path) -> None:
    model = method.adapted(make_vit())
    model.add_adapter("second", method.config())
    model.add_adapter("third", method.config())

    model.save_pretrained(tmp_path, selected_adapters=["second"])

    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["second"]
    assert not (tmp_path / "adapter_model.safetensors").exists()
    with pytest.raises(ValueError, match="fourth"):
        model.save_pretrained(tmp_path, selected_adapters=["fourth"])


@every_method
def test_loading_beside_an_adapter_changes_nothing_of_it(make_vit: MakeVit, method: Method, tmp_path: Path) -> None:
    method.adapted(make_vit(), seed=7).save_pretrained(tmp_path)
    model = method.adapted(make_vit())
    before, outputs, flags = snapshot(model), model(images()), trained(model)

    model.load_adapter(str(tmp_path), "second")

    after = snapshot(model)
    require_equal({name: after[name] for name in before}, before)
    assert torch.equal(model(images()), outputs)
    assert trained(model) == flags
    model.set_adapter("second")
    assert not torch.allclose(model(images()), outputs)


@every_method
@pytest.mark.parametrize("is_trainable", [False, True])
def test_is_trainable_says_whether_a_loaded_adapter_learns(
    make_vit: MakeVit, method: Method, is_trainable: bool, tmp_path: Path
) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"])
    model.save_pretrained(tmp_path)

    loaded = peft.PeftModel.from_pretrained(make_vit(), tmp_path, is_trainable=is_trainable)

    assert trained(loaded) == (trained(model) if is_trainable else set())
    assert loaded.peft_config["default"].inference_mode is not is_trainable


@every_method
def test_a_state_dict_goes_in_and_out(make_vit: MakeVit, method: Method) -> None:
    model, other = method.adapted(make_vit()), method.adapted(make_vit(), seed=9)

    result = peft.set_peft_model_state_dict(other, peft.get_peft_model_state_dict(model))

    assert result.unexpected_keys == []
    assert not any("wara_" in key or "lora_" in key for key in result.missing_keys if "P" not in key.split("_")[-1])
    _require_same(other, model)


@every_method
def test_a_file_that_does_not_fit_its_config_is_refused_with_both_shapes(
    make_vit: MakeVit, method: Method, tmp_path: Path
) -> None:
    method.adapted(make_vit()).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    name = next(name for name in tensors if any(part in name for part in ("_A", "_v")))
    tensors[name] = torch.cat([tensors[name], tensors[name]])
    save_file(tensors, tmp_path / "adapter_model.safetensors")

    with pytest.raises(RuntimeError, match=r"size mismatch.*torch\.Size"):
        peft.PeftModel.from_pretrained(make_vit(), tmp_path)
