"""What a run cost, and its score set against that."""

import pytest

from wara.backbones import UNTRAINED, load_backbone
from wara.evaluation.costs import all_parameters, costs, memory_comparable
from wara.evaluation.efficiency import pme, ppe

METRICS = {
    "test": {"auroc": {"value": 0.9, "low": 0.8, "high": 0.95, "left_out": 0}}, "trainable_parameters": 50,
    "peak_memory_mb": 500.0, "seconds": 60.0, "images_per_second": 30.0,
}  # fmt: skip


def recipe(**changes):
    return {
        "method": "wara", "backbone": {"name": UNTRAINED, "sha256": "a"}, "data": {"fingerprint": "d"}, "device": "cpu",
        "image": {"size": 64}, "batch_size": 32, "classes": ["a", "b", "c"],
    } | changes  # fmt: skip


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_all_parameters_are_those_of_the_loaded_network(classes):
    model = load_backbone(UNTRAINED, classes, image_size=64).model
    expected = sum(p.numel() for p in model.parameters())
    assert all_parameters(recipe(classes=list("abcdefg")[:classes])) == expected


def test_the_score_is_set_against_parameters_and_memory():
    found = costs(METRICS, 5_000, 2_000.0)
    assert found["share"] == 0.01 and found["auroc"] == {"value": 0.9, "low": 0.8, "high": 0.95}
    assert (found["ppe"], found["pme"]) == (ppe(0.9, 50, 5_000), pme(0.9, 500.0, 2_000.0))


def test_what_is_not_known_is_none():
    found = costs(METRICS, None, None)
    assert found["ppe"] is found["pme"] is found["share"] is None and found["trained"] == 50
    assert set(costs({}, None, None)) == set(found)
    assert costs(METRICS | {"peak_memory_mb": None}, 5_000, 2_000.0)["pme"] is None


@pytest.mark.parametrize(
    ("changes", "comparable"),
    [({}, True), ({"method": "lora"}, False), ({"batch_size": 8}, False), ({"device": "cuda"}, False),
     ({"data": {"fingerprint": "e"}}, False), ({"image": {"size": 224}}, False), ({"classes": ["a"]}, True)],
)  # fmt: skip
def test_memory_is_compared_with_the_whole_network_s_training_of_the_same_kind_alone(changes, comparable):
    assert memory_comparable(recipe(), recipe(method="full") | changes) is comparable
