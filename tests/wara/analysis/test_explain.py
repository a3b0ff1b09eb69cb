"""What is explained is what the model answers, its operating point and all frames of a file included."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.wara.analysis.conftest import CLASSES, CONFIGS, small_model
from tests.wara.support import write_dicom
from wara.analysis.explain import Explainer
from wara.backbones import Backbone
from wara.errors import InputError
from wara.evaluation.answers import Answers
from wara.evaluation.calibration import Temperature
from wara.evaluation.operating import OperatingPoint
from wara.inference import Predictor


def predictor_of(answers=Answers(), frames="middle"):  # noqa: B008 (frozen)
    model = small_model(CONFIGS["wara"]())
    half = (0.5, 0.5, 0.5)
    backbone = Backbone(model, "vit_tiny_patch16_224", "untrained", None, "", False, half, half, 64, 16, "head")
    recipe = {"classes": CLASSES, "image": {"fit": "pad"}, "frames": frames}
    return Predictor(model, backbone, recipe, torch.device("cpu"), "float32", answers)


def beyond(share):
    """A threshold on the other side of a probability than one half is."""
    return share / 2 if share < 0.5 else (1 + share) / 2


@pytest.fixture
def content():
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (80, 60), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_the_class_that_is_explained_is_the_one_that_the_operating_point_gives(content):
    temperature = Temperature(2.0)
    [plain] = predictor_of(Answers(temperature)).predict([("one.png", content)])
    point = OperatingPoint(beyond(plain.probabilities["ill"]), "youden")
    predictor = predictor_of(Answers(temperature, point))
    [answer] = predictor.predict([("one.png", content)])
    assert answer.label != max(answer.probabilities, key=answer.probabilities.get)

    found = Explainer(predictor).explain(content, "one.png", steps=2)

    assert (found.label, found.target, found.against) == (answer.label, answer.label, plain.label)
    assert found.to_json()["label"] == answer.label
    assert found.to_json()["probabilities"] == pytest.approx(answer.probabilities)


def test_another_class_is_explained_where_it_is_asked_for_and_the_answer_stays(content):
    predictor = predictor_of()
    [answer] = predictor.predict([("one.png", content)])
    other = next(name for name in CLASSES if name != answer.label)
    found = Explainer(predictor).explain(content, "one.png", target=other, steps=2)
    assert (found.label, found.target) == (answer.label, other)
    with pytest.raises(InputError, match="no class of this name"):
        Explainer(predictor).explain(content, "one.png", target="", steps=2)


def test_a_file_answered_by_the_mean_of_its_frames_is_explained_by_that_answer(tmp_path):
    frames = np.random.default_rng(1).integers(0, 255, (5, 64, 64), dtype=np.uint8)
    data = write_dicom(tmp_path / "scan.dcm", frames, "P1")
    predictor = predictor_of(frames="all")
    [answer] = predictor.predict([("scan.dcm", data)])
    [middle] = predictor_of().predict([("scan.dcm", data)])
    share, alone = answer.probabilities["ill"], middle.probabilities["ill"]
    assert share != alone
    predictor.answers = dataclasses.replace(predictor.answers, operating_point=OperatingPoint(share, "youden"))

    found = Explainer(predictor).explain(data, "scan.dcm", steps=2)

    assert found.label == found.target == "ill"
    assert found.to_json()["probabilities"] == pytest.approx(answer.probabilities)
    assert (found.pixels == Explainer(predictor_of()).explain(data, "scan.dcm", steps=2).pixels).all()
