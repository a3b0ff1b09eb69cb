"""The results file: repaired after a kill, scores kept closely enough, rates chosen as the protocol says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.study.plan import Cell, Study, study_of
from benchmarks.study.results import (
    Results,
    cell_entry,
    choose_rates,
    decode_numbers,
    decode_scores,
    encode_numbers,
    encode_scores,
)
from wara.errors import InputError


@pytest.fixture(scope="module")
def study() -> Study:
    return study_of("small", {
        "methods": [{"name": "lora", "base": "lora"}, {"name": "probe", "base": "linear-probe", "rate": 0.01}],
        "data": {"demo": {"drawn": {"train": 9, "val": 9, "test": 9}}}, "sizes": [20], "seeds": [0, 1],
        "tune_seeds": [0, 1], "rates": [0.5, 2.0], "protocol": {"backbone": "vit_tiny_untrained"},
    })  # fmt: skip


def add(results: Results, cell: Cell, area: float | None, loss: float | None = 1.0) -> None:
    results.add(cell_entry(cell, {"val_auroc": area, "val_loss": loss}))


def lora_cells(study: Study) -> dict[tuple[int, float], Cell]:
    return {(cell.seed, cell.rate): cell for cell in study.tune_cells("demo", 20) if cell.method.name == "lora"}


def test_a_half_written_last_line_is_cut_off_and_its_cell_is_missing_again(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    cells = list(study.tune_cells("demo", 20))
    before = Results(path)
    for cell in cells[:2]:
        add(before, cell, 0.7)
    whole = path.read_bytes()
    add(before, cells[2], 0.7)
    path.write_bytes(path.read_bytes()[:-9])
    after = Results(path)
    assert path.read_bytes() == whole
    assert after.missing(cells) == cells[2:]
    add(after, cells[2], 0.7)
    assert Results(path).missing(cells) == cells[3:]


def test_a_damaged_line_inside_is_told_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"kind":"data","data":"demo"}\n{"kind":"tune","k\n{"kind":"data","data":"other"}\n')
    with pytest.raises(InputError, match=r"results\.jsonl, line 2"):
        Results(path)


@pytest.mark.parametrize("classes", [2, 4])
def test_kept_scores_give_the_probabilities_back(classes: int) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (500, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    kept = decode_scores(encode_scores(probabilities), classes)
    assert np.abs(kept - probabilities).max() < 5e-4
    assert len(encode_scores(probabilities)) < 500 * (classes - 1) * 3


def test_certain_scores_are_kept_within_range() -> None:
    kept = decode_scores(encode_scores(np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])), 2)
    assert kept[0, 1] < 1e-13 and kept[1, 1] > 1 - 1e-13 and kept[2, 1] == 0.5


def test_numbers_come_back() -> None:
    numbers = np.array([0, 3, 70_000])
    assert decode_numbers(encode_numbers(numbers)).tolist() == numbers.tolist()


def test_the_rate_with_the_best_mean_over_tuning_seeds_is_chosen(study: Study, tmp_path: Path) -> None:
    results, cells = Results(tmp_path / "results.jsonl"), lora_cells(study)
    for (seed, rate), area in {(0, 5e-4): 0.9, (1, 5e-4): 0.6, (0, 2e-3): 0.8, (1, 2e-3): 0.8}.items():
        assert choose_rates(results, study.tune_cells("demo", 20)) == {}  # not before all are there
        add(results, cells[seed, rate], area)
    assert choose_rates(results, study.tune_cells("demo", 20)) == {("lora", 8, "demo", 20): 2e-3}


def test_of_equal_rates_the_smaller_loss_decides_and_a_diverged_training_loses(study: Study, tmp_path: Path) -> None:
    cells = lora_cells(study)
    equal, broken = Results(tmp_path / "equal.jsonl"), Results(tmp_path / "broken.jsonl")
    for (_, rate), cell in cells.items():
        add(equal, cell, 0.8, loss=0.5 if rate == 2e-3 else 0.6)
        add(broken, cell, *((None, None) if rate == 2e-3 else (0.4, 2.0)))
    assert set(choose_rates(equal, cells.values()).values()) == {2e-3}
    assert set(choose_rates(broken, cells.values()).values()) == {5e-4}


def test_a_cell_is_another_one_when_anything_that_decides_it_changes(study: Study) -> None:
    cell = next(study.tune_cells("demo", 20))
    changes: list[dict[str, Any]] = [
        {"rate": 0.5}, {"seed": 9}, {"rank": 4}, {"kind": "test"}, {"source": {"folder": "x"}},
        {"method": dataclasses.replace(cell.method, options={"bias": "all"})},
        {"protocol": dataclasses.replace(cell.protocol, clip=2.0)},
    ]  # fmt: skip
    keys = {cell.key, *(dataclasses.replace(cell, **change).key for change in changes)}
    assert len(keys) == len(changes) + 1
    assert dataclasses.replace(cell, kind="test").training == cell.training
    assert Cell.from_dict(cell.to_dict()) == cell
