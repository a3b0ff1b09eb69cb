"""An exported ONNX file answers as the app does, for a program that knows nothing but what the file says of itself."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pydicom
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models import VisionTransformer

from tests.wara.support import draw_folder, small_recipe, write_dicom
from wara.errors import InputError
from wara.export import export
from wara.export_notes import read_from, sidecar
from wara.inference import Prediction, Predictor
from wara.training.run import train

METHODS = ("wara", "tiny-wara", "lora")
# Of probabilities: float32 on both sides, in other orders of summation.
TOLERANCE = 1e-4


def png(shape: tuple[int, ...], mode: str = "L", kind: str = "PNG", **options: Any) -> bytes:
    """Smooth noise, so that nothing hangs on the last bit of a filter; shape is (height, width)."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    grid = np.random.default_rng(sum(shape)).integers(0, 256, (*(max(2, n // 16) for n in shape), channels), np.uint8)
    image = Image.fromarray(grid.squeeze(), mode="L" if channels == 1 else None).resize(shape[::-1])
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def upright_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return png((90, 160), "RGB", "JPEG", exif=exif, quality=95)


def deep(shape: tuple[int, int]) -> bytes:
    grid = np.random.default_rng(5).integers(900, 40_000, (6, 6)).astype(np.uint16)
    values = np.kron(grid, np.ones((shape[0] // 6, shape[1] // 6), np.uint16))
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def windowed_dicom(folder: Path) -> bytes:
    """Three frames; a rescale, a window and inverted grey, all of which decide what is seen."""
    frames = np.random.default_rng(2).integers(0, 256, (3, 8, 8)).astype(np.uint8).repeat(12, 1).repeat(15, 2)
    write_dicom(folder / "w.dcm", frames, "P1")
    dataset = pydicom.dcmread(folder / "w.dcm")
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -100
    dataset.WindowCenter, dataset.WindowWidth = [120, 50], [260, 30]
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.save_as(folder / "w.dcm")
    return (folder / "w.dcm").read_bytes()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    return [
        ("small.png", png((40, 40))), ("wide.png", png((120, 301), "RGB")), ("tall.jpg", png((333, 150), "L", "JPEG")),
        ("large.jpg", png((1400, 1800), "RGB", "JPEG")), ("turned.jpg", upright_by_exif()),
        ("glass.png", png((80, 64), "RGBA")), ("palette.png", png((70, 90), "P")), ("deep.png", deep((120, 90))),
        ("exact.png", png((224, 224), "RGB")), ("scan.dcm", windowed_dicom(tmp_path_factory.mktemp("dicom"))),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    draw_folder(folder / "images")
    for method in METHODS:
        recipe = small_recipe(method=method, precision="float32", rank=4, fit="crop" if method == "lora" else "pad")
        train(folder / "images", folder / method, recipe)
    return folder


@pytest.fixture(scope="module", params=METHODS)
def exported(request: pytest.FixtureRequest, runs: Path) -> tuple[Path, Path]:
    """The run, and its ONNX file."""
    run = runs / request.param
    return run, export(run, "onnx", runs / f"{request.param}.onnx")


class Reader:
    """A program that has Pillow, numpy, pydicom and onnxruntime, and follows the notes; no part of this library."""

    def __init__(self, file: Path) -> None:
        self.session = onnxruntime.InferenceSession(file)
        props = self.session.get_modelmeta().custom_metadata_map
        self.classes = json.loads(props["wara.classes"])
        self.how = json.loads(props["wara.preprocessing"])
        self.temperature = json.loads(props["wara.temperature"])
        self.point = json.loads(props["wara.operating_point"])
        self.input = json.loads(props["wara.input"])["name"]

    def __call__(self, name: str, content: bytes) -> tuple[str, dict[str, float]]:
        pixels = self.dicom(content) if name.endswith(".dcm") else self.picture(content)
        scaled = (self.square(pixels).astype(np.float64) / 255 - self.how["mean"]) / self.how["std"]
        batch = scaled.transpose(2, 0, 1)[None].astype(np.float32)
        logits = self.session.run(None, {self.input: batch})[0][0].astype(float) / self.temperature
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        probabilities = dict(zip(self.classes, shares.tolist(), strict=True))
        if self.point is None:
            return max(probabilities, key=probabilities.__getitem__), probabilities
        positive = probabilities[self.point["class"]] >= self.point["threshold"]
        other = next(name for name in self.classes if name != self.point["class"])
        return self.point["class"] if positive else other, probabilities

    def picture(self, content: bytes) -> NDArray[np.uint8]:
        image = Image.open(io.BytesIO(content))
        if image.format == "JPEG":
            image.draft(None, (2 * self.how["size"], 2 * self.how["size"]))
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            values = np.asarray(image, dtype=np.float64)
            return np.rint((values - values.min()) / (values.max() - values.min()) * 255).astype(np.uint8)
        if image.mode == "RGBA":
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        return np.asarray(image.convert("RGB"))

    def dicom(self, content: bytes) -> NDArray[np.uint8]:
        dataset = pydicom.dcmread(io.BytesIO(content))
        frames = dataset.pixel_array.astype(np.float64)
        values = frames[len(frames) // 2] * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        centre, width = float(dataset.WindowCenter[0]), float(dataset.WindowWidth[0])
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
        shown = np.clip(np.rint((values - low) / (high - low) * 255), 0, 255)
        return (255 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown).astype(np.uint8)

    def square(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[:, :, None], 3, axis=2)
        size, (height, width) = self.how["size"], pixels.shape[:2]
        if self.how["fit"] == "crop":
            side = min(height, width)
            left, top = (width - side) // 2, (height - side) // 2
            return self.resize(pixels[top : top + side, left : left + side], size, size)
        scale = size / max(height, width)
        wide, high = max(1, round(width * scale)), max(1, round(height * scale))
        ground = np.zeros((size, size, 3), np.uint8)
        left, top = (size - wide) // 2, (size - high) // 2
        ground[top : top + high, left : left + wide] = self.resize(pixels, wide, high)
        return ground

    def resize(self, pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
        if pixels.shape[:2] == (height, width):
            return pixels
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))


def differences(file: Path, images: list[tuple[str, bytes]], app: list[Prediction]) -> dict[str, float]:
    """How far a probability lies from the app's, by image; the labels must be the same off the threshold."""
    reader = Reader(file)
    found = {}
    for (name, content), said in zip(images, app, strict=True):
        label, probabilities = reader(name, content)
        assert said.probabilities is not None, said.error
        found[name] = max(abs(probabilities[key] - share) for key, share in said.probabilities.items())
        at = 0.5 if reader.point is None else reader.point["threshold"]
        if abs(said.probabilities[reader.classes[1]] - at) > found[name]:
            assert label == said.label, name
    return found


def test_a_program_that_follows_the_notes_gives_the_apps_answers(
    exported: tuple[Path, Path], images: list[tuple[str, bytes]]
) -> None:
    run, file = exported
    app = Predictor.load(run, device="cpu").predict(images)
    assert [prediction.error for prediction in app] == [None] * len(images)
    found = differences(file, images, app)
    assert max(found.values()) <= TOLERANCE, found
    # Else the agreement would say little: the images do get different answers.
    assert np.ptp([(said.probabilities or {})["left"] for said in app]) > 100 * TOLERANCE


def test_where_the_app_computes_in_bfloat16_it_differs_by_less_than_the_notes_lead_to_expect(
    runs: Path, exported: tuple[Path, Path], images: list[tuple[str, bytes]]
) -> None:
    run, file = exported
    predictor = Predictor.load(run, device="cpu", precision="bfloat16")
    found = differences(file, images, predictor.predict(images))
    assert max(found.values()) <= 0.03, found


def test_the_file_and_the_note_beside_it_say_the_same(exported: tuple[Path, Path]) -> None:
    run, file = exported
    beside = json.loads(sidecar(file).read_text(encoding="utf-8"))
    assert read_from(file) == beside
    recipe = json.loads((run / "recipe.json").read_text())
    assert "not a medical device" in beside["notice"]
    assert beside["classes"] == ["left", "right"] and beside["model"]["method"] == recipe["method"]
    assert beside["preprocessing"]["mean"] == recipe["image"]["mean"]
    assert beside["temperature"] == json.loads((run / "calibration.json").read_text())["temperature"]
    words = " ".join([*beside["preprocessing"]["steps"], *beside["reading"]])
    for stated in ("BICUBIC", "reducing_gap=3.0", "RescaleSlope", "MONOCHROME1", "softmax(logits / temperature)"):
        assert stated in words
    assert str(run.parent) not in json.dumps(beside)


def test_an_onnx_file_of_two_classes_states_the_threshold_of_the_run(exported: tuple[Path, Path]) -> None:
    run, file = exported
    point = json.loads((run / "calibration.json").read_text())["operating_point"]
    assert read_from(file)["operating_point"] == {"class": "right", **point}


def test_merging_is_exact_where_the_gains_are_equal_and_refused_with_the_reason_where_not(
    runs: Path, images: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="gains differ") as refused:
        export(runs / "wara", "merged", tmp_path / "no.safetensors")
    assert refused.value.code == "export-not-mergeable" and not (tmp_path / "no.safetensors").exists()

    train(runs / "images", tmp_path / "equal", small_recipe(gains="none", precision="float32", rank=4))
    for run in (tmp_path / "equal", runs / "lora"):
        file = export(run, "merged", tmp_path / f"{run.name}.safetensors")
        predictor = Predictor.load(run, device="cpu")
        plain = VisionTransformer(img_size=224, patch_size=16, embed_dim=96, depth=4, num_heads=3, num_classes=2).eval()
        plain.load_state_dict(load_file(file))
        with safe_open(file, "pt") as opened:
            facts = json.loads(opened.metadata()["notes"])
        assert facts["classes"] == ["left", "right"] and "not a medical device" in facts["notice"]
        batch = torch.randn(4, 3, 224, 224)
        with torch.inference_mode():
            torch.testing.assert_close(plain(batch), predictor.model(batch), atol=2e-5, rtol=1e-4)
