"""The draws of the bootstrap."""

import numpy as np

from wara.evaluation import bootstrap
from wara.evaluation.bootstrap import group_index, replicate_weights


def test_groups_are_numbered_in_order_of_first_sight():
    index, count = group_index(["b", "a", "b", None, "a", ""], 6)
    assert index.tolist() == [0, 1, 0, 2, 1, 3]
    assert count == 4


def test_each_replicate_draws_as_many_groups_as_there_are():
    index = np.array([0, 0, 1, 2])
    weights = np.concatenate(list(replicate_weights(index, 3, 500, seed=0)))
    assert weights.shape == (500, 4)
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert abs(weights[:, 2].mean() - 1) < 0.1


def test_draws_do_not_depend_on_how_much_fits_into_memory(monkeypatch):
    index = np.arange(7)
    whole = np.concatenate(list(replicate_weights(index, 7, 31, seed=5)))
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 21)
    chunks = list(replicate_weights(index, 7, 31, seed=5))
    assert len(chunks) > 5
    assert (np.concatenate(chunks) == whole).all()
