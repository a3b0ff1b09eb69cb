"""A run with a subband readout: fitted once, kept with the run, brought in, exported, stopped and resumed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from tests.wara.support import draw_folder, read_rows, small_recipe, stop_at
from wara.backbones import load_backbone, outline_backbone
from wara.errors import InputError
from wara.export import export
from wara.imports.bring import bring_in
from wara.inference import Predictor
from wara.training.fit_readout import fitted
from wara.training.loop import Stopped
from wara.training.methods import build, count_parameters
from wara.training.readout import FILE, is_settled
from wara.training.recipe import Recipe
from wara.training.run import train
from wara.tuner import adapted_layers
from wara.tuner.readout import readout_of

UNTRAINED_NUMBERS = 2 * 96 * (2 + 3)  # two depths of 4 blocks, class token, mean and three levels of 96 channels


def recipe_with(**options: Any) -> Recipe:
    return small_recipe(**{"epochs": 1, "precision": "float32", "rank": 4, "readout": "subbands", **options})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readout")
    draw_folder(folder / "images")
    train(folder / "images", folder / "run", recipe_with())
    return folder / "run"


def test_a_logistic_regression_separates_what_can_be_separated() -> None:
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], 40)
    read = (random.normal(size=(120, 30)) + 3 * np.eye(30)[targets]).astype(np.float32)
    centre, scale, weight, bias = (part.double().numpy() for part in fitted(read.copy(), targets, 3))
    scores = (read - centre) / scale @ weight.T + bias
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert roc_auc_score(targets, shares, multi_class="ovr") > 0.95


def test_two_classes_get_scores_whose_difference_is_the_regression() -> None:
    random = np.random.default_rng(1)
    targets = (random.random(60) > 0.5).astype(np.int64)
    _, _, weight, bias = fitted((random.normal(size=(60, 8)) + targets[:, None]).astype(np.float32), targets, 2)
    torch.testing.assert_close(weight[0], -weight[1])
    torch.testing.assert_close(bias[0], -bias[1])
    assert float(weight[1].sum()) > 0


def test_a_class_without_an_image_is_never_the_answer_and_a_constant_divides_nothing_by_zero() -> None:
    random = np.random.default_rng(2)
    targets = np.repeat([0, 2], 20)
    read = np.concatenate([random.normal(size=(40, 5)), np.full((40, 1), 7.0)], axis=1).astype(np.float32)
    parts = fitted(read.copy(), targets, 4)
    assert all(bool(torch.isfinite(part).all()) for part in parts)
    centre, scale, weight, bias = (part.double().numpy() for part in parts)
    assert set(((read - centre) / scale @ weight.T + bias).argmax(axis=1)) <= {0, 2}


def test_balanced_classes_count_alike() -> None:
    random = np.random.default_rng(3)
    targets = np.array([0] * 90 + [1] * 10)
    read = random.normal(size=(100, 4)).astype(np.float32)
    weighing = (None, np.array([100 / 180, 5.0], dtype=np.float32))
    plain, balanced = (fitted(read.copy(), targets, 2, weights)[3] for weights in weighing)
    assert float(plain[0] - plain[1]) > float(balanced[0] - balanced[1]) + 1


@pytest.mark.parametrize("method", ["wara", "tiny-wara", "lora", "linear-probe", "full"])
def test_adapters_stand_in_the_upper_half_and_the_readouts_numbers_are_counted(method: str) -> None:
    backbone = load_backbone("vit_tiny_untrained", 3)
    model = build(backbone, recipe_with(method=method))
    other = load_backbone("vit_tiny_untrained", 3)
    upper = count_parameters(build(other, small_recipe(method=method, rank=4, last_blocks=2)), other)
    numbers = 3 * (UNTRAINED_NUMBERS + 1)
    assert count_parameters(model, backbone) == (upper[0] + numbers, upper[1])
    assert is_settled(model) == (method != "full")
    if adapted_layers(model):
        assert {name.split("blocks.")[1][0] for name in adapted_layers(model)} == {"2", "3"}


def test_adapters_asked_for_in_every_block_are_put_there_and_the_readout_waits_for_them() -> None:
    backbone = load_backbone("vit_tiny_untrained", 3)
    model = build(backbone, recipe_with(last_blocks=4))
    assert len(list(adapted_layers(model))) == 4 and not is_settled(model)


def test_the_kept_run_answers_as_it_did_when_it_was_tested(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    predictor = Predictor.load(run, device="cpu")
    readout = readout_of(predictor.model)
    assert readout is not None and readout.is_fitted and readout.features == UNTRAINED_NUMBERS
    assert metrics["trainable_parameters"] > metrics["adapter_parameters"] + 2 * UNTRAINED_NUMBERS
    rows = [row for row in read_rows(run / "predictions.csv") if row["split"] == "test"]
    images = [(row["file"], (run.parent / "images" / row["file"]).read_bytes()) for row in rows]
    for row, said in zip(rows, predictor.predict(images), strict=True):
        assert said.uncalibrated is not None
        assert float(row["p_left"]) == pytest.approx(said.uncalibrated["left"], abs=2e-4)


def test_the_answer_is_not_the_heads_alone(run: Path) -> None:
    predictor = Predictor.load(run, device="cpu")
    readout = readout_of(predictor.model)
    assert readout is not None
    batch = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both = predictor.model(batch).softmax(1)
        readout.is_fitted = False
        alone = predictor.model(batch).softmax(1)
    assert float((both - alone).abs().max()) > 1e-3


def test_an_onnx_file_gives_the_mixed_answer(run: Path, tmp_path: Path) -> None:
    file = export(run, "onnx", tmp_path / "model.onnx")
    batch = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = Predictor.load(run, device="cpu", precision="float32").model(batch)
    [found] = onnxruntime.InferenceSession(file).run(None, {"images": batch.numpy()})
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-3)


def test_a_merged_file_is_refused_with_the_reason(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than the weights") as refused:
        export(run, "merged", tmp_path / "no.safetensors")
    assert refused.value.code == "export-not-mergeable" and not (tmp_path / "no.safetensors").exists()


def test_a_run_that_is_brought_in_answers_the_same(run: Path, tmp_path: Path) -> None:
    bring_in(run, tmp_path / "brought", device="cpu")
    batch = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers = [Predictor.load(each, device="cpu").model(batch) for each in (run, tmp_path / "brought")]
    torch.testing.assert_close(answers[0], answers[1], atol=0, rtol=0)


@pytest.mark.parametrize("what", ["missing", "damaged", "of another"])
def test_a_readout_that_is_not_the_runs_is_refused(run: Path, tmp_path: Path, what: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    file = copy / "adapter" / FILE
    if what == "missing":
        file.unlink()
    elif what == "damaged":
        file.write_bytes(file.read_bytes()[:100])
    else:
        save_file({name: tensor[..., :1].contiguous() for name, tensor in load_file(file).items()}, file)
    with pytest.raises(InputError, match="readout"):
        Predictor.load(copy, device="cpu")
    with pytest.raises(InputError, match="readout"):
        bring_in(copy, tmp_path / "brought", device="cpu")


def test_a_run_stopped_anywhere_goes_on_to_the_same_bits(run: Path, tmp_path: Path) -> None:
    for steps in (1, 3, 5):
        other = tmp_path / str(steps)
        with pytest.raises(Stopped):
            train(run.parent / "images", other, recipe_with(), stop=stop_at(steps))
        train(run.parent / "images", other, recipe_with(), resume=True)
        for name in ("predictions.csv", "adapter/adapter_model.safetensors", f"adapter/{FILE}"):
            assert (other / name).read_bytes() == (run / name).read_bytes(), (steps, name)


def test_with_adapters_below_and_with_views_the_readout_is_fitted_after_training(run: Path, tmp_path: Path) -> None:
    for name, options in (("below", {"last_blocks": 4}), ("views", {"views": 1})):
        recipe = dataclasses.replace(recipe_with(), **options)
        train(run.parent / "images", tmp_path / name, recipe)
        readout = readout_of(Predictor.load(tmp_path / name, device="cpu").model)
        assert readout is not None and readout.is_fitted


def test_a_network_without_one_grid_is_refused_and_left_as_it_is_where_it_need_not_be() -> None:
    outline = outline_backbone("swin_tiny_patch4_window7_224")
    with pytest.raises(InputError, match="option readout cannot be used") as refused:
        build(outline, recipe_with())
    assert refused.value.code == "recipe-readout" and "none" in refused.value.remedy
    assert readout_of(build(outline_backbone("swin_tiny_patch4_window7_224"), recipe_with(readout="auto"))) is None
