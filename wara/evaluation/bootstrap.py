"""Resampling of whole groups (patients) with replacement, as weights of the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CELLS_AT_ONCE = 1_000_000  # weights held at a time: 8 MB of float64, so memory stays flat however many replicates


def group_index(groups: Sequence[str | None] | None, n: int) -> tuple[Ints, int]:
    """Number the groups of ``n`` images.

    Args:
        groups: the group (patient) of each image; an image whose group is None or "" is a group of its own.
            None as a whole: every image is its own group.
        n: number of images.

    Returns:
        ``(index, count)``: for each image the number of its group in ``range(count)``, in order of first sight.

    Raises:
        ValueError: if ``groups`` is not as long as the images are many.
    """
    if groups is None:
        return np.arange(n, dtype=np.int64), n
    if len(groups) != n:
        raise ValueError(f"groups holds {len(groups)} names for {n} images; give one for each image")
    numbers: dict[object, int] = {}
    index = np.empty(n, dtype=np.int64)
    for i, group in enumerate(groups):
        key: object = group if group else ("image", i)
        index[i] = numbers.setdefault(key, len(numbers))
    return index, len(numbers)


def group_classes(index: Ints, count: int, targets: Ints) -> Ints:
    """Return the class (count,) under which each group is drawn: the last of the classes that its images have.

    With two classes a patient thus counts as positive where any image is, as a reader would call the patient.
    """
    classes = np.zeros(count, dtype=np.int64)
    np.maximum.at(classes, index, targets)
    return classes


def replicate_weights(
    index: Ints, count: int, replicates: int, seed: int, strata: Ints | None = None
) -> Iterator[Floats]:
    """Yield the bootstrap replicates as weights of images, in chunks of shape (chunk, n).

    A replicate draws ``count`` groups with replacement; the weight of an image is the number of times that its
    group was drawn. Weighted sums over the images then equal plain sums over the resampled set (Davison and
    Hinkley 1997, *Bootstrap Methods and their Application*, section 3.8, the case of resampling clusters).

    Args:
        index: (n,) group number of each image, from :func:`group_index`.
        count: number of groups.
        replicates: number of replicates in all.
        seed: seed of the draws; the same seed gives the same replicates whatever the chunking.
        strata: (count,) stratum of each group. As many groups are then drawn from each stratum as it has, so that
            every replicate holds as many patients of a class as the set (Efron and Tibshirani 1993, section 8.3).
    """
    rng = np.random.default_rng(seed)
    if strata is None:
        strata = np.zeros(count, dtype=np.int64)
    order = np.argsort(strata, kind="stable")
    sizes = np.bincount(strata[order]) if count else np.zeros(0, dtype=np.int64)
    sizes = sizes[sizes > 0]
    size = np.repeat(sizes, sizes)  # of the stratum of each place, and where that stratum begins
    start_of = np.repeat(np.cumsum(sizes) - sizes, sizes)
    chunk = max(1, _CELLS_AT_ONCE // max(1, len(index)))
    for start in range(0, replicates, chunk):
        rows = min(chunk, replicates - start)
        drawn = order[start_of + np.floor(rng.random((rows, count)) * size).astype(np.int64)]
        # One bincount over all rows: much faster than rng.multinomial, and the same distribution.
        flat = drawn + (np.arange(rows) * count)[:, None]
        counts = np.bincount(flat.ravel(), minlength=rows * count).reshape(rows, count)
        yield counts[:, index].astype(np.float64)
