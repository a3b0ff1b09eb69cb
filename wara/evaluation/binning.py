"""Bins of equal mass: as many images in one as in the next, equal values never parted."""

from __future__ import annotations

import numpy as np

from wara.evaluation.bootstrap import Floats, Ints

MOST_BINS = 15
_LEAST_IMAGES = 10  # in a bin: with fewer, its share of right answers says next to nothing


def bin_count(n: int) -> int:
    """Return how many bins ``n`` images are put into: 15, fewer where a bin would hold under ten images."""
    return max(1, min(MOST_BINS, n // _LEAST_IMAGES))


def equal_mass_bins(values: Floats, bins: int) -> Ints:
    """Return the bin of each value (n,), in ``range(bins)``, so that the bins hold about n / bins values each.

    Equal values share a bin, that of the first of them, so that the bins do not depend on the order of the images.
    Equal mass instead of equal width, because most images of a good classifier stand near 1, where bins of equal
    width put nearly all into one (Nixon et al. 2019, *Measuring Calibration in Deep Learning*).
    """
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    first = np.searchsorted(np.sort(values), values, side="left")
    return np.asarray(np.floor(first * bins / len(values)), dtype=np.int64)
