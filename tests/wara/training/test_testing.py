"""What is learned on validation images and measured on test images after a training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.wara.support import UNTRAINED, draw_folder, read_rows, small_recipe
from wara.backbones import load_backbone
from wara.errors import InputError
from wara.evaluation.novelty import WARNING
from wara.inference import Predictor
from wara.training.features import HeadInputs
from wara.training.methods import build
from wara.training.recipe import Recipe
from wara.training.run import train
from wara.training.testing import MOST_TRAINING_IMAGES, training_rows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with enough images for a warning, whose table knows patients, sex and age."""
    folder = tmp_path_factory.mktemp("tested")
    draw_folder(folder / "images", 60)
    rows = ["file,label,patient,sex,age"]
    for c, name in enumerate(("left", "right")):
        for number in range(60):
            who = c * 30 + number // 2
            rows.append(f"{name}/{number:02d}.png,{name},P{who},{'FM'[who % 2]},{20 + who}")
    (folder / "images" / "labels.csv").write_text("\n".join(rows))
    recipe = small_recipe(epochs=1, precision="float32", operating_point="specificity=0.8", coverage=0.7)
    train(folder / "images", folder / "run", recipe)
    return folder / "run"


def test_the_run_keeps_what_was_learned_and_its_figures(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    kept = json.loads((run / "calibration.json").read_text())
    assert kept["operating_point"]["criterion"] == "specificity" and kept["conformal"]["coverage"] == 0.7
    assert metrics["operating_point"]["threshold"] == kept["operating_point"]["threshold"]
    assert metrics["operating_point"]["val"]["specificity"]["value"] >= 0.8
    assert metrics["prediction_sets"]["asked"] == 0.7
    assert metrics["novelty"]["n_validation"] == len([r for r in read_rows(run / "split.csv") if r["split"] == "val"])
    assert metrics["test"]["patients"]["n_images"] * 2 == metrics["test"]["n_images"]
    assert {row["value"] for row in metrics["subgroups"]["sex"]["rows"]} == {"F", "M"}


def test_the_predictor_answers_what_predictions_csv_says(run: Path) -> None:
    predictor = Predictor.load(run)
    rows = read_rows(run / "predictions.csv")
    images = run.parent / "images"
    found = predictor.predict([(row["file"], (images / row["file"]).read_bytes()) for row in rows])
    threshold = json.loads((run / "calibration.json").read_text())["operating_point"]["threshold"]
    for row, prediction in zip(rows, found, strict=True):
        assert prediction.probabilities is not None and prediction.uncalibrated is not None
        assert prediction.probabilities["right"] == pytest.approx(float(row["p_right"]), abs=1e-4)
        assert prediction.uncalibrated["right"] == pytest.approx(float(row["uncalibrated_right"]), abs=1e-4)
        if abs(prediction.probabilities["right"] - threshold) > 1e-4:
            assert prediction.label == row["predicted"]
            assert (prediction.label == "right") == (prediction.probabilities["right"] >= threshold)
        assert row["patient"].startswith("P") and row["sex"] in "FM"
    same = sum(" | ".join(p.classes or ()) == row["set"] for row, p in zip(rows, found, strict=True))
    warned = sum((p.warning or "") == row["warning"] for row, p in zip(rows, found, strict=True))
    assert min(same, warned) >= len(rows) - 1  # one may stand on the very edge


def test_an_image_of_another_kind_gets_the_warning(run: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    [prediction] = Predictor.load(run).predict([("noise.png", (tmp_path / "noise.png").read_bytes())])
    assert prediction.warning == WARNING and prediction.label in ("left", "right")


def test_a_run_of_an_older_version_answers_as_it_did(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for name in ("calibration.json", "novelty.safetensors"):
        (tmp_path / "run" / name).unlink()
    content = (run.parent / "images" / "left" / "00.png").read_bytes()
    [prediction] = Predictor.load(tmp_path / "run").predict([("a.png", content)])
    assert prediction.probabilities == prediction.uncalibrated
    assert prediction.classes is None and prediction.warning is None


@pytest.mark.parametrize("method", ["wara", "linear-probe"])
def test_the_inputs_of_the_head_are_what_the_head_multiplies(method: str) -> None:
    backbone = load_backbone(UNTRAINED, 2, image_size=32)
    model = build(backbone, small_recipe(method=method)).eval()
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad(), HeadInputs(model, backbone) as caught:
        logits = torch.cat([model(images[:2]), model(images[2:])])
    weights = dict(model.named_parameters())
    weight = next(w for name, w in weights.items() if name.endswith("head.weight") or "head.modules_to_save" in name)
    bias = next(
        w for name, w in weights.items() if ("head" in name and name.endswith("bias") and "original" not in name)
    )
    expected = caught.array() @ weight.detach().double().numpy().T + bias.detach().double().numpy()
    assert expected == pytest.approx(logits.double().numpy(), abs=1e-5)
    model(images)
    assert len(caught.array()) == 3  # nothing is kept after the block


def test_features_of_a_large_training_set_are_drawn_once_by_the_seed() -> None:
    rows = list(range(5, 9_005))
    drawn = training_rows(rows, 3)
    assert len(set(drawn)) == MOST_TRAINING_IMAGES and drawn == sorted(drawn) == training_rows(rows, 3)
    assert set(drawn) <= set(rows) and drawn != training_rows(rows, 4)
    assert training_rows(rows[:7], 3) == rows[:7]


@pytest.mark.parametrize(
    "options", [{"operating_point": "best"}, {"coverage": 1.0}, {"coverage": 0}, {"patient_rule": "median"}]
)
def test_options_of_the_answers_are_checked_before_the_training(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        Recipe.from_preset("quick", backbone=UNTRAINED, **options)
