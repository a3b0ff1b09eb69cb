"""A share of images with its 95 % interval: exact for independent images, by bootstrap over patients otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from wara.evaluation.bootstrap import group_index, replicate_weights

_TAIL = 0.025


def proportion(
    hits: npt.ArrayLike,
    groups: Sequence[str | None] | None = None,
    *,
    of: npt.ArrayLike | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the share of images for which something holds.

    Args:
        hits: (n,) whether it holds.
        groups: patient of each image, as for :func:`wara.evaluation.bootstrap.group_index`.
        of: (n,) which images are asked about; None asks about all.
        replicates: bootstrap replicates.
        seed: seed of the bootstrap.

    Returns:
        ``{"value", "low", "high", "n"}``, with ``"note"`` where something is to be known; None where there is nothing
        to count. Images of patients who have one each get the exact binomial interval (Clopper and Pearson 1934); a
        share of 0 or 1 gets it over the patients.
    """
    held = np.asarray(hits, dtype=bool)
    asked = np.ones(len(held), dtype=bool) if of is None else np.asarray(of, dtype=bool)
    index, _ = group_index(groups, len(held))
    held, index = held[asked], np.unique(index[asked], return_inverse=True)[1].astype(np.int64)
    n, members = len(held), int(index.max()) + 1 if len(index) else 0
    if not n:
        return {"value": None, "low": None, "high": None, "n": 0, "note": "There is no image to count."}
    value = float(held.mean())
    result: dict[str, Any] = {"value": value, "low": None, "high": None, "n": n}
    if members == n or value in (0.0, 1.0):
        limits = binomtest(round(value * members), members).proportion_ci(0.95, method="exact")
        return result | {"low": float(limits.low), "high": float(limits.high)}
    if members < 2:
        return result | {"note": "No interval: all images are of one patient."}
    shares = np.concatenate([
        (weights @ held) / weights.sum(axis=1) for weights in replicate_weights(index, members, replicates, seed)
    ])  # fmt: skip
    low, high = np.quantile(shares, (_TAIL, 1 - _TAIL))
    return result | {"low": float(low), "high": float(high)}
