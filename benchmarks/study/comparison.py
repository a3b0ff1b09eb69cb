"""What the test cells of a study say: each method's AUROC, and how it differs from the reference's, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.study.plan import Cell, Study
from benchmarks.study.results import Floats, Results, choose_rates, decode_numbers, decode_scores
from wara.evaluation.bootstrap import group_classes, replicate_weights
from wara.evaluation.weighted import WeightedMetrics

_TAIL = 0.025
_PATIENTS, _SEEDS = 0, 1  # of the draws
Label = tuple[str, int | None]
Place = tuple[str, int]


@dataclass(frozen=True)
class Area:
    """AUROC of one test cell: of the test images, and of every draw of their patients (R,)."""

    value: float
    drawn: Floats


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval; `drawn` are the means of the draws (R,)."""

    value: float
    low: float
    high: float
    seeds: int
    drawn: Floats

    @property
    def clear(self) -> bool:
        """Whether the interval does not hold 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Row:
    """A method at one rank on one data set and size.

    Attributes:
        cells: its test cells' lines by seed.
        areas: AUROC by seed.
        area: mean AUROC.
        difference: mean of the differences from the reference of the same seeds; None of the reference itself, and
            where the reference has no common seed.
        rate: the chosen step size.
    """

    cells: dict[int, dict[str, Any]]
    areas: dict[int, float]
    area: Estimate
    difference: Estimate | None
    rate: float

    def mean(self, name: str) -> float | None:
        """Return the mean over seeds of what the lines hold under a name; None where one has nothing."""
        values = [entry[name] for entry in self.cells.values()]
        return None if any(value is None for value in values) else float(np.mean(values))


def compare_methods(study: Study, results: Results, *, replicates: int) -> dict[Label, dict[Place, Row]]:
    """Return what is known of every method and rank, by data set and size, in the order of the study.

    The reference of a method with a rank is that of the same rank, of one without a rank that of the study's first.
    """
    rows: dict[Label, dict[Place, Row]] = {}
    for place in study.blocks():
        cells = study.test_cells(*place, choose_rates(results, study.tune_cells(*place)))
        areas = _areas(results, place[0], cells, replicates)
        for label, by_seed in areas.items():
            reference = areas.get(_reference(study, label, areas), {})
            difference = None if label[0] == study.reference else _difference(by_seed, reference)
            found = {seed: entry for seed, (_, entry) in by_seed.items()}
            rate = next(iter(found.values()))["cell"]["rate"]
            areas_by_seed = {seed: area.value for seed, (area, _) in by_seed.items()}
            area = _estimate({seed: area for seed, (area, _) in by_seed.items()})
            rows.setdefault(label, {})[place] = Row(found, areas_by_seed, area, difference, rate)
    order = {method.name: number for number, method in enumerate(study.methods)}
    return dict(sorted(rows.items(), key=lambda item: (order[item[0][0]], item[0][1] or 0)))


def mean_of(estimates: Iterable[Estimate]) -> Estimate:
    """Return the mean of estimates of different data sets or sizes, each weighing the same."""
    some = list(estimates)
    drawn = np.mean([estimate.drawn for estimate in some], axis=0)
    value = float(np.mean([estimate.value for estimate in some]))
    return Estimate(value, *_interval(drawn), min(estimate.seeds for estimate in some), drawn)


Seeds = dict[int, tuple[Area, dict[str, Any]]]


def _areas(results: Results, data: str, cells: Iterable[Cell], replicates: int) -> dict[Label, Seeds]:
    areas: dict[Label, Seeds] = {}
    if data not in results.data:
        return areas
    known = results.data[data]
    targets, groups = decode_numbers(known["test_targets"]), decode_numbers(known["test_groups"])
    count = int(groups.max()) + 1
    strata = group_classes(groups, count, targets)
    weights = np.concatenate(list(replicate_weights(groups, count, replicates, _PATIENTS, strata)))
    everyone = np.ones((1, len(targets)))
    for cell, entry in results.found(cells):
        metrics = WeightedMetrics(decode_scores(entry["test_scores"], len(known["classes"])), targets)
        area = Area(float(metrics(everyone)["auroc"][0]), metrics(weights)["auroc"])
        areas.setdefault((cell.method.name, cell.rank), {})[cell.seed] = area, entry
    return areas


def _reference(study: Study, label: Label, areas: Mapping[Label, Any]) -> Label:
    same = study.reference, label[1]
    return same if same in areas else (study.reference, study.ranks[0])


def _difference(first: Seeds, second: Seeds) -> Estimate | None:
    both = sorted(set(first) & set(second))
    if not both:
        return None
    return _estimate({
        seed: Area(first[seed][0].value - second[seed][0].value, first[seed][0].drawn - second[seed][0].drawn)
        for seed in both
    })  # fmt: skip


def _estimate(by_seed: dict[int, Area]) -> Estimate:
    """Return the mean over seeds; its draws take seeds and patients anew, both with replacement.

    Every seed sees the same drawn patients, since the test images are the same for all (Owen 2007, *The pigeonhole
    bootstrap*, of two crossed factors: a little too wide rather than too narrow). One seed says nothing of others.
    """
    values = np.stack([area.drawn for _, area in sorted(by_seed.items())])
    seeds, replicates = values.shape
    chosen = np.random.default_rng(_SEEDS).integers(seeds, size=(seeds, replicates))
    drawn = np.take_along_axis(values, chosen, axis=0).mean(axis=0)
    value = float(np.mean([area.value for area in by_seed.values()]))
    return Estimate(value, *_interval(drawn), seeds, drawn)


def _interval(drawn: Floats) -> tuple[float, float]:
    low, high = np.nanquantile(drawn, (_TAIL, 1 - _TAIL))
    return float(low), float(high)
