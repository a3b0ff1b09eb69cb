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
from wara.tuner.readout import add_readout, mixed, readout_of


def predictor_of(answers=Answers(), frames="middle", *, second=False):  # noqa: B008 (frozen)
    model = small_model(CONFIGS["wara"]())
    if second:
        readout = add_readout(model.get_base_model(), "head", len(CLASSES))
        drawn = torch.Generator().manual_seed(0)
        weight = 0.05 * torch.randn(readout.weight.shape, generator=drawn)
        readout.fill(readout.centre, readout.scale, weight, torch.linspace(0, 0.3, len(CLASSES)))
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


def test_the_second_opinion_is_taken_apart_exactly_and_told(content):
    predictor = predictor_of(second=True)
    found = Explainer(predictor).explain(content, "one.png", steps=2)
    second = found.second
    assert second is not None

    readout = readout_of(predictor.model)
    [square] = Explainer(predictor)._read(content, "one.png")[0]
    images = predictor.normalised(square[None])
    with torch.no_grad(), readout.keeping() as kept:
        head = predictor.model(images)
    scores = readout.scores(kept[0])[0]
    target, against = (CLASSES.index(name) for name in (found.target, found.against))
    bias = readout.bias[target] - readout.bias[against]
    assert sum(second.contributions) == pytest.approx(float(scores[target] - scores[against] - bias), abs=1e-5)
    assert second.probabilities == pytest.approx(scores.softmax(0).tolist(), abs=1e-6)
    # Half of the answer: what the model says is the mean of both.
    whole = mixed(head, scores[None])[0].softmax(0)
    assert found.probabilities == pytest.approx(whole.tolist(), abs=1e-5)

    most = second.parts[int(np.argmax(second.contributions))]
    told = f"{found.target}\N{RIGHT DOUBLE QUOTATION MARK} {100 * second.probabilities[target]:.0f} %"
    assert told in found.sentence() and f"most of all by {most}." in found.sentence()
    assert second.parts[:2] == ("the class token", "the average over the picture")
    assert second.parts[-1] == "detail of 16\N{EN DASH}32 px"
    assert found.to_json()["second_opinion"]["probabilities"] == dict(zip(CLASSES, second.probabilities, strict=True))
    assert Explainer(predictor_of()).explain(content, "one.png", steps=2).to_json()["second_opinion"] is None


def test_a_part_of_the_second_opinion_is_what_is_left_when_all_others_say_nothing():
    model = predictor_of(second=True).model
    readout = readout_of(model)
    read = torch.randn(3, readout.features)
    whole = readout.scores_by_part(read)
    each = readout.features // len(readout.depths) // len(readout.parts)
    for place in range(len(readout.parts)):
        kept = torch.zeros(len(readout.depths), len(readout.parts), each)
        kept[:, place] = 1
        alone = readout.centre + (read - readout.centre) * kept.flatten()
        assert torch.allclose(readout.scores(alone) - readout.bias, whole[..., place], atol=1e-5)
