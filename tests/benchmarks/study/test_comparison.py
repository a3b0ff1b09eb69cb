"""Paired differences: the same as scikit-learn's and the library's own where these tell, and honest about seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.study.comparison import compare_methods, mean_of
from benchmarks.study.plan import Cell, Study, study_of
from benchmarks.study.results import Floats, Ints, Results, cell_entry, encode_numbers, encode_scores
from benchmarks.study.writing import tables
from wara.evaluation.comparison import compare

REPLICATES = 300
CLASSES = ["healthy", "ill"]


def study_of_seeds(seeds: list[int], **more: Any) -> Study:
    return study_of("small", {
        "methods": [
            {"name": "probe", "base": "linear-probe"}, {"name": "lora", "base": "lora"},
            {"name": "wara", "base": "wara"},
        ],
        "reference": "lora", "probe": "probe", "data": {"demo": {"folder": "demo"}}, "sizes": [50], "seeds": seeds,
        "protocol": {"backbone": "vit_tiny_untrained"}, **more,
    })  # fmt: skip


@pytest.fixture(scope="module")
def truth() -> tuple[Ints, Ints]:
    """Targets and patients of 160 images, two a patient."""
    return np.repeat(np.arange(80) % 2, 2), np.repeat(np.arange(80), 2)


def scores_of(cell: Cell, targets: Ints) -> Floats:
    strength = {"probe": 0.3, "lora": 0.9, "wara": 1.2}[cell.method.name]
    noise = np.random.default_rng([cell.seed, len(cell.method.name)]).normal(0, 1, len(targets))
    ill = 1 / (1 + np.exp(-(strength * targets + noise)))
    return np.stack([1 - ill, ill], axis=1)


def results_of(study: Study, truth: tuple[Ints, Ints], path: Path, *, without: str = "") -> Results:
    results = Results(path)
    results.add({
        "kind": "data", "data": "demo", "classes": CLASSES, "test_targets": encode_numbers(truth[0]),
        "test_groups": encode_numbers(truth[1]),
    })  # fmt: skip
    for cell in study.test_cells("demo", 50, {}):
        if cell.method.name != without:
            results.add(cell_entry(cell, {
                "adapter": 10, "trained": 12, "seconds": 1.0, "images_per_second": 50.0, "peak_memory_mb": 500.0,
                "device": "CPU", "precision": "float32", "test_scores": encode_scores(scores_of(cell, truth[0])),
            }))  # fmt: skip
    return results


def test_of_one_seed_the_difference_and_interval_are_those_of_the_paired_bootstrap(
    truth: tuple[Ints, Ints], tmp_path: Path
) -> None:
    study = study_of_seeds([4])
    rows = compare_methods(study, results_of(study, truth, tmp_path / "r.jsonl"), replicates=REPLICATES)
    cells = {cell.method.name: cell for cell in study.test_cells("demo", 50, {})}
    expected = compare(
        scores_of(cells["wara"], truth[0]), scores_of(cells["lora"], truth[0]), truth[0], CLASSES,
        [str(patient) for patient in truth[1]], replicates=REPLICATES, seed=0,
    )  # fmt: skip
    found = rows["wara", 8]["demo", 50].difference
    assert found is not None and found.seeds == 1
    for mine, theirs in ((found.value, "difference"), (found.low, "low"), (found.high, "high")):
        assert mine == pytest.approx(expected[theirs], abs=2e-3)  # scores are kept to a thousandth


def test_areas_are_means_over_seeds_of_what_scikit_learn_gives(truth: tuple[Ints, Ints], tmp_path: Path) -> None:
    study = study_of_seeds([0, 1, 2])
    rows = compare_methods(study, results_of(study, truth, tmp_path / "r.jsonl"), replicates=REPLICATES)
    for label, by_place in rows.items():
        cells = [cell for cell in study.test_cells("demo", 50, {}) if cell.method.name == label[0]]
        areas = [roc_auc_score(truth[0], scores_of(cell, truth[0])[:, 1]) for cell in cells]
        row = by_place["demo", 50]
        assert row.area.value == pytest.approx(np.mean(areas), abs=1e-3)
        assert row.area.low < np.mean(areas) < row.area.high
    assert rows["lora", 8]["demo", 50].difference is None
    probe = rows["probe", None]["demo", 50].difference  # of a method without a rank: from the first rank's reference
    assert probe is not None and probe.high < 0 and probe.clear


def test_seeds_that_disagree_widen_the_interval(truth: tuple[Ints, Ints], tmp_path: Path) -> None:
    one, many = study_of_seeds([1]), study_of_seeds([1, 2, 3])
    alone = compare_methods(one, results_of(one, truth, tmp_path / "a.jsonl"), replicates=REPLICATES)
    rows = compare_methods(many, results_of(many, truth, tmp_path / "b.jsonl"), replicates=REPLICATES)
    estimates = [rows[label][place].area for label, by in rows.items() for place in by]
    mean = mean_of(estimates)
    assert mean.value == pytest.approx(np.mean([estimate.value for estimate in estimates]))
    assert mean.high - mean.low < max(estimate.high - estimate.low for estimate in estimates)
    one_seed = alone["wara", 8]["demo", 50].area
    assert one_seed.seeds == 1 and rows["wara", 8]["demo", 50].area.seeds == 3
    spread = np.std(rows["wara", 8]["demo", 50].area.drawn)
    assert spread > np.std(one_seed.drawn) / np.sqrt(3)  # more than if the three were independent images


def test_a_method_that_is_the_reference_again_differs_by_nothing(truth: tuple[Ints, Ints], tmp_path: Path) -> None:
    study = study_of_seeds([0, 1])
    results = results_of(study, truth, tmp_path / "r.jsonl")
    lora = {cell.seed: cell for cell in study.test_cells("demo", 50, {}) if cell.method.name == "lora"}
    for cell in study.test_cells("demo", 50, {}):
        if cell.method.name == "wara":
            results.cells[cell.key]["test_scores"] = results.cells[lora[cell.seed].key]["test_scores"]
    found = compare_methods(study, results, replicates=50)["wara", 8]["demo", 50].difference
    assert found is not None and (found.value, found.low, found.high) == (0, 0, 0) and not found.clear


def test_what_is_not_done_yet_is_left_out_of_the_tables(truth: tuple[Ints, Ints], tmp_path: Path) -> None:
    study = study_of_seeds([0, 1])
    results = results_of(study, truth, tmp_path / "r.jsonl", without="lora")
    rows = compare_methods(study, results, replicates=50)
    assert set(rows) == {("probe", None), ("wara", 8)}
    text = tables(study, rows, results)
    assert "| wara, rank 8 | 10 | – |" in text and "lora, rank" not in text


def test_what_is_kept_of_the_gain_is_counted_on_seeds_that_all_have(truth: tuple[Ints, Ints], tmp_path: Path) -> None:
    few = study_of_seeds([0, 1])
    more = study_of_seeds([0, 1], more_seeds={"methods": ["lora", "probe"], "sizes": [50], "seeds": [2, 3]})
    kept = []
    for study in (few, more):
        results = results_of(study, truth, tmp_path / f"{study.more_seeds is None}.jsonl")
        rows = compare_methods(study, results, replicates=50)
        summary = tables(study, rows, results).split("####")[1]
        kept.append([line.split("|")[-2].strip() for line in summary.splitlines() if line.startswith("| wara")])
    assert len(rows["lora", 8]["demo", 50].areas) == 4 and len(rows["wara", 8]["demo", 50].areas) == 2
    assert kept[0] == kept[1]
