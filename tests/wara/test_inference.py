"""A trained run classifies as it did while it was trained, and says what it cannot read."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.wara.support import draw_folder, read_rows, small_recipe, write_dicom
from wara.data.sources import open_source
from wara.errors import InputError
from wara.imaging import read_square
from wara.inference import Predictor, mean_of_frames, pieces
from wara.training.run import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inference")
    draw_folder(folder / "images")
    train(folder / "images", folder / "run", small_recipe(precision="float32"))
    return folder / "run"


@pytest.mark.parametrize("method", ["tiny-wara", "lora", "linear-probe", "full"])
def test_every_method_predicts_what_its_run_wrote_down(
    method: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    images = draw_folder(tmp_path / "images")
    train(images, tmp_path / "run", small_recipe(method=method, precision="float32"))
    assert_predictions_are_those_of_the_run(tmp_path / "run", images)


def test_wara_predicts_what_its_run_wrote_down(run: Path) -> None:
    assert_predictions_are_those_of_the_run(run, run.parent / "images")


def assert_predictions_are_those_of_the_run(run: Path, images: Path) -> None:
    predictor = Predictor.load(run)
    rows = read_rows(run / "predictions.csv")
    assert rows
    found = predictor.predict([(row["file"], (images / row["file"]).read_bytes()) for row in rows])
    for row, prediction in zip(rows, found, strict=True):
        assert prediction.label == row["predicted"]
        assert prediction.probabilities is not None
        assert prediction.probabilities["left"] == pytest.approx(float(row["p_left"]), abs=1e-4)


def test_an_unreadable_image_gets_its_reason_and_the_others_their_class(run: Path) -> None:
    good = (run.parent / "images" / "left" / "00.png").read_bytes()

    first, second, third = Predictor.load(run).predict([("a.png", good), ("b.png", b"hello"), ("c.png", good)])

    assert first.probabilities == third.probabilities
    assert sum((first.probabilities or {}).values()) == pytest.approx(1)
    assert second.label is None
    assert second.error


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a training run"):
        Predictor.load(tmp_path)


def test_a_run_without_its_adapter_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "adapter")
    with pytest.raises(InputError, match="no trained adapter"):
        Predictor.load(tmp_path / "run")


def test_another_backbone_than_the_one_trained_on_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["backbone"]["sha256"] = "0" * 64
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match="not the one that this run was trained on"):
        Predictor.load(tmp_path / "run")


def test_a_run_names_no_path_and_still_finds_its_weights_file_until_that_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARA_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_vit", num_classes=2).state_dict(), weights)
    spec = f"test_vit:{weights}"
    train(draw_folder(tmp_path / "images"), tmp_path / "run", small_recipe(backbone=spec, epochs=1))

    assert str(tmp_path) not in (tmp_path / "run" / "recipe.json").read_text()
    assert Predictor.load(tmp_path / "run").backbone.file == "weights.safetensors"

    moved = weights.rename(tmp_path / "moved.safetensors")
    with pytest.raises(InputError, match="does not say where its backbone's weights file is"):
        Predictor.load(tmp_path / "run")
    assert Predictor.load(tmp_path / "run", backbone=f"test_vit:{moved}").backbone.file == "moved.safetensors"


def test_a_damaged_member_of_a_zip_costs_one_image(run: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "new.zip", "w", zipfile.ZIP_STORED) as archive:
        for name in ("00.png", "01.png"):
            archive.write(run.parent / "images" / "left" / name, name)
    raw = bytearray((tmp_path / "new.zip").read_bytes())
    raw[200] ^= 0xFF  # inside the first member: its checksum does not fit any more
    (tmp_path / "new.zip").write_bytes(raw)

    with open_source(tmp_path / "new.zip") as source:
        first, second = Predictor.load(run).predict(source.contents())

    assert first.error
    assert second.label in ("left", "right")


def test_a_run_on_all_frames_answers_for_a_file_by_their_mean(tmp_path: Path) -> None:
    def stack(path: Path, bright: str, frames: int, who: int) -> bytes:
        pixels = np.random.default_rng(who).integers(0, 100, (frames, 40, 40), dtype=np.uint8)
        pixels[:, :, slice(0, 20) if bright == "left" else slice(20, 40)] += 120
        return write_dicom(path, pixels, f"P{who}")

    for who in range(20):
        stack(tmp_path / "data" / ("left", "right")[who % 2] / f"{who}.dcm", ("left", "right")[who % 2], 3, who)
    train(tmp_path / "data", tmp_path / "run", small_recipe(frames="all", epochs=1, precision="float32"))
    rows = read_rows(tmp_path / "run" / "split.csv")
    assert len(rows) == 60
    assert len({(row["file"].partition("#")[0], row["split"]) for row in rows}) == 20

    data = stack(tmp_path / "new.dcm", "left", 5, 99)
    predictor = Predictor.load(tmp_path / "run")
    (found,) = predictor.predict([("new.dcm", data)])
    assert found.frames == 5
    squares = [read_square(data, "", predictor.backbone.size, "pad", frame=number)[0] for number in range(1, 6)]
    alone = predictor.probabilities(np.stack([np.repeat(square[..., None], 3, axis=2) for square in squares]))
    assert list((found.probabilities or {}).values()) == pytest.approx(alone.mean(axis=0).tolist(), abs=1e-6)
    broken, whole = predictor.predict([("cut.dcm", data[:-100]), ("new.dcm", data)])
    assert "cut short" in (broken.error or "")
    assert whole.probabilities == found.probabilities


def test_means_are_those_of_each_files_own_frames() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.25, 0.75]])
    assert mean_of_frames(rows, [2, 1, 1]).tolist() == [[0.5, 0.5], [0.5, 0.5], [0.25, 0.75]]
    assert mean_of_frames(rows, [1, 1, 1, 1]) is rows


@pytest.mark.parametrize("images", [0, 1, 3, 5, 17, 31, 32, 33, 100])
def test_images_are_run_in_batches_of_few_sizes_that_waste_little(images: int) -> None:
    found = list(pieces(images))
    assert [number for start, stop, _ in found for number in range(start, stop)] == list(range(images))
    assert {size for _, _, size in found} <= {1, 2, 4, 8, 16, 32}
    assert all(3 / 4 * size <= stop - start <= size for start, stop, size in found)
    assert len(found) <= images // 32 + 3
