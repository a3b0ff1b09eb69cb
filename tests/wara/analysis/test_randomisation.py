"""Maps depend on the trained weights: they stay under an invisible change of the image, not when weights are mixed."""

import numpy as np
import pytest
import torch

from wara.analysis.randomisation import randomisation_test, spearman
from wara.analysis.reading import read_randomisation


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_maps_of_shuffled_weights_agree_less_than_maps_of_the_same_model(adapted, order):
    _, model, size = adapted
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    found = randomisation_test(model, images, order=order, stages=1)
    last = found["stages"][-1]["correlation"]
    assert found["recomputed"] == pytest.approx(1, abs=1e-3)
    assert found["nearby"] > 0.8
    assert abs(last) < 0.6 < found["nearby"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_sentence_says_what_the_figures_do():
    figures = {"images": 4, "recomputed": 1.0, "nearby": 0.95, "stages": [{"shuffled": ["head"], "correlation": 0.1}]}
    assert "maps show what was learned" in read_randomisation(figures)
    figures["stages"][0]["correlation"] = 0.9
    assert "trust them little" in read_randomisation(figures)
    assert "could not be checked" in read_randomisation(figures | {"nearby": None})


def test_rank_correlation_looks_at_order_alone_and_shares_ties():
    values = np.array([3.0, 1.0, 2.0, 10.0])
    assert spearman(values, np.exp(values)) == pytest.approx(1)
    assert spearman(values, -values) == pytest.approx(-1)
    assert spearman(np.array([1, 1, 2, 3.0]), np.array([1, 2, 3, 3.0])) == pytest.approx(8 / 9)
    assert spearman(np.ones(4), values) is None


def test_an_unknown_order_is_refused(make_model):
    with pytest.raises(ValueError, match="no order"):
        randomisation_test(make_model(), torch.zeros(1, 3, 64, 64), order="all")
