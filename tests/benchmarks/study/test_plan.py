"""A study is read from YAML, whole or not at all; the studies that come with the project are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.method_study import STUDIES
from benchmarks.study.methods import BASES
from benchmarks.study.plan import part_of, quick, read_study, study_of
from wara.errors import InputError


def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((STUDIES / "quick.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_studies_are_whole(path: Path) -> None:
    study = read_study(path)
    assert {method.base for method in study.methods} <= BASES.keys()
    for data, size in study.blocks():
        cells = [*study.tune_cells(data, size), *study.test_cells(data, size, {})]
        assert cells and len({cell.key for cell in cells}) == len(cells)
    small = quick(study)
    assert [method.name for method in small.methods] == [method.name for method in study.methods]


def test_methods_without_a_rank_run_once_and_a_rank_of_its_own_counts() -> None:
    more = values() | {"ranks": [2, 4]}
    more["methods"].append({"name": "tiny", "base": "tinylora", "rank": 3})
    cells = list(study_of("x", more).groups("demo", 20))
    ranks = [(cell.method.name, cell.rank) for cell in cells]
    assert ranks == [
        ("linear-probe", None), ("lora", 2), ("lora", 4), ("conv-lora", 2), ("conv-lora", 4), ("wara", 2), ("wara", 4),
        ("tiny", 3),
    ]  # fmt: skip


def test_every_method_has_a_grid_of_the_same_width_around_its_centre() -> None:
    study = study_of("x", values())
    assert {method.name: study.rates_of(method) for method in study.methods} == {
        "linear-probe": (0.0015, 0.006), "lora": (5e-4, 2e-3), "conv-lora": (5e-4, 2e-3), "wara": (5e-4, 2e-3),
    }  # fmt: skip


def test_some_methods_get_more_seeds_at_some_sizes_and_the_others_keep_theirs() -> None:
    plain = study_of("x", values() | {"sizes": [10, 20]})
    more = {"methods": ["lora", "wara"], "sizes": [20], "seeds": [7, 8]}
    study = study_of("x", values() | {"sizes": [10, 20], "more_seeds": more})
    chosen = {cell.group: cell.rate for size in (10, 20) for cell in plain.groups("demo", size)}
    for size, added in ((10, set()), (20, {("lora", 7), ("wara", 7), ("lora", 8), ("wara", 8)})):
        before = {cell.key for cell in plain.test_cells("demo", size, chosen)}
        cells = {cell.key: cell for cell in study.test_cells("demo", size, chosen)}
        assert before < cells.keys() or (not added and before == cells.keys())
        assert {(cells[key].method.name, cells[key].seed) for key in cells.keys() - before} == added


def test_epochs_by_size_reach_the_cells() -> None:
    more = values() | {"sizes": [10, 20]}
    more["protocol"]["epochs"] = {10: 7, 20: 5}
    study = study_of("x", more)
    assert {size: cell.protocol.epochs for size in (10, 20) for cell in study.groups("demo", size)} == {10: 7, 20: 5}


def test_a_part_of_a_study_has_the_same_cells_and_what_it_has_not_is_told() -> None:
    study = study_of("x", values() | {"sizes": [10, 20]})
    part = part_of(study, ["wara", "lora"], None, ["20"])
    assert list(part.blocks()) == [("demo", 20)]
    whole = {cell.key for cell in study.tune_cells("demo", 20)}
    assert len(list(part.tune_cells("demo", 20))) == 4
    assert {cell.key for cell in part.tune_cells("demo", 20)} < whole
    with pytest.raises(InputError, match="none of these sizes"):
        part_of(study, None, None, ["50"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sizes": [21]}, "one ladder"),
        ({"seeds": []}, "nothing to run"),
        ({"reference": "loro"}, "reference is none of the methods"),
        ({"data": {"demo": {}}}, "says not where"),
        ({"protocol": {"backbone": "embedded", "epoch": 3}}, "epoch"),
        ({"protocol": {"backbone": "embedded", "epochs": {50: 3}}}, "epochs of a size"),
        ({"methods": [{"base": "lora"}]}, "no name"),
        ({"methods": [{"name": "a", "base": "lora"}] * 2}, "Two methods"),
        ({"rank": [8]}, "rank"),
        ({"more_seeds": {"methods": ["loro"], "sizes": [20], "seeds": [9]}}, "More seeds .* loro"),
        ({"more_seeds": {"methods": ["lora"], "sizes": [20], "seeds": [0]}}, "A seed is named twice"),
    ],
)
def test_what_is_wrong_is_told(change: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        study_of("x", values() | change)


def test_a_file_that_is_no_yaml_is_told(tmp_path: Path) -> None:
    for text in ("a: [", "- 3"):
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(InputError, match=r"study"):
            read_study(tmp_path / "s.yaml")
