"""The warning for images unlike the training images."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from wara.errors import InputError
from wara.evaluation.novelty import Novelty, fit_novelty, measure_novelty


def features(n, seed, d=24, shift=0.0):
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % 2
    rows = rng.normal(size=(n, d)) * np.linspace(0.2, 1.5, d)
    rows[:, 0] += 6 + 3 * targets
    rows[:, 1] += shift
    return rows, targets


def fitted():
    rows, targets = features(400, 0)
    return fit_novelty(rows, targets, features(200, 1)[0])


def test_images_like_those_of_the_training_seldom_raise_the_warning_and_others_do():
    novelty = fitted()
    found = measure_novelty(novelty, features(400, 2)[0])
    assert found["false_alarms"]["low"] <= 0.05 <= found["false_alarms"]["high"]
    assert found["expected_false_alarms"] == pytest.approx(0.05)
    assert (novelty.distances(features(100, 3, shift=25.0)[0]) > novelty.threshold).mean() > 0.95


def test_the_distance_is_mahalanobis_to_the_nearest_class():
    rows, targets = features(400, 0)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.stack([unit[targets == c].mean(axis=0) for c in (0, 1)])
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(unit - means[targets]).covariance_)
    new = features(7, 5)[0]
    new_unit = new / np.linalg.norm(new, axis=1, keepdims=True)
    expected = [min(np.sqrt((x - mean) @ precision @ (x - mean)) for mean in means) for x in new_unit]
    assert fitted().distances(new) == pytest.approx(np.array(expected))


def test_fewer_images_than_features_and_features_that_never_vary_are_no_trouble():
    rows, targets = features(20, 0, d=60)
    rows[:, 7] = 0
    novelty = fit_novelty(rows, targets, features(20, 1, d=60)[0])
    assert np.isfinite(novelty.distances(features(5, 2, d=60)[0])).all()


def test_too_few_images_or_a_model_that_went_astray_give_no_warning_at_all():
    rows, targets = features(40, 0)
    assert fit_novelty(rows, targets, rows[:9]) is None
    assert fit_novelty(rows * np.nan, targets, rows) is None
    assert fit_novelty(np.ones((40, 3)), targets, np.ones((40, 3))) is None


def test_what_is_stored_gives_the_same_distances(tmp_path):
    novelty = fitted()
    novelty.save(tmp_path / "novelty.safetensors")
    loaded = Novelty.load(tmp_path / "novelty.safetensors")
    new = features(30, 4)[0]
    assert loaded.distances(new) == pytest.approx(novelty.distances(new), rel=1e-4)
    assert (loaded.threshold, loaded.n_training, loaded.n_validation) == (novelty.threshold, 400, 200)
    assert Novelty.load(tmp_path / "none.safetensors") is None
    (tmp_path / "bad.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(InputError, match=r"cannot be read \(seen: bad.safetensors\)"):
        Novelty.load(tmp_path / "bad.safetensors")
