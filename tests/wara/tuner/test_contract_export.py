"""PEFT's contract, beside LoRA: compiled, exported, copied and pickled models give the same outputs."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.wara.support import MakeVit
from tests.wara.tuner.methods import SIZE, Method, every_method, images, snapshot, stir, trained

# Of the first of *args, as PEFT's models take their inputs.
ANY_BATCH = (({0: torch.export.Dim("batch", min=1, max=64)},),)


@pytest.fixture(autouse=True)
def _compiles_anew() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@every_method
def test_a_compiled_model_is_one_graph_with_the_same_outputs_and_gradients(make_vit: MakeVit, method: Method) -> None:
    plain, other = (method.adapted(make_vit()).train() for _ in range(2))
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")

    torch.testing.assert_close(compiled(images()), plain(images()), atol=1e-5, rtol=1e-5)
    plain(images()).square().sum().backward()
    compiled(images()).square().sum().backward()

    for name in trained(plain):
        expected, found = plain.get_parameter(name).grad, other.get_parameter(name).grad
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@every_method
def test_a_compiled_model_follows_what_happens_to_its_adapters(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit())
    model.add_adapter("other", method.config(**method.unlike()))
    stir(model, 5, "other")
    model.eval()
    compiled = torch.compile(model, backend="eager")
    compiled(images())

    model.set_adapter("other")
    torch.testing.assert_close(compiled(images()), model(images()), atol=1e-5, rtol=1e-5)
    with model.disable_adapter():
        torch.testing.assert_close(compiled(images()), make_vit()(images()), atol=1e-5, rtol=1e-5)


@every_method
def test_an_exported_program_gives_the_same_outputs_for_any_batch(make_vit: MakeVit, method: Method) -> None:
    model = method.adapted(make_vit())

    with torch.no_grad():
        program = torch.export.export(model, (images(2),), dynamic_shapes=ANY_BATCH)

    for number in (2, 5):
        torch.testing.assert_close(program.module()(images(number)), model(images(number)), atol=1e-5, rtol=1e-5)


@every_method
def test_onnxruntime_gives_the_same_outputs_for_any_batch(make_vit: MakeVit, method: Method, tmp_path: Path) -> None:
    model = method.adapted(make_vit())
    file = tmp_path / "model.onnx"

    with warnings.catch_warnings():  # the exporter's own, about its dependencies
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (images(2),), file, dynamo=True, verbose=False, input_names=["images"], output_names=["logits"],
            dynamic_shapes=ANY_BATCH,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    for number in (1, 2, 5):
        (found,) = session.run(["logits"], {"images": images(number).numpy()})
        np.testing.assert_allclose(found, model(images(number)).detach().numpy(), atol=2e-5, rtol=1e-4)
    assert session.get_inputs()[0].shape[1:] == [3, SIZE, SIZE]


def _pickled(model: torch.nn.Module) -> torch.nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: torch.nn.Module = torch.load(file, weights_only=False)
    return loaded


@every_method
@pytest.mark.parametrize("duplicate", [copy.deepcopy, _pickled], ids=["deepcopy", "pickle"])
def test_a_copy_is_the_same_and_lives_by_itself(make_vit: MakeVit, method: Method, duplicate: object) -> None:
    model = method.adapted(make_vit(), modules_to_save=["head"])
    expected, held = model(images()), snapshot(model)

    twin = duplicate(model)  # type: ignore[operator]

    assert torch.equal(twin(images()), expected)
    assert trained(twin) == trained(model)
    stir(twin, 11)
    assert not torch.equal(twin(images()), expected)
    assert torch.equal(model(images()), expected)
    twin.add_adapter("other", method.config(**method.unlike()))
    assert set(model.peft_config) == {"default"}
    assert snapshot(model).keys() == held.keys()
