"""A whole study of seconds by its command: paired, resumed after a kill with the same numbers, told in tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import method_study
from benchmarks.study.images import Images, apart, open_images
from benchmarks.study.methods import build
from benchmarks.study.plan import Cell, read_study
from wara.backbones import load_backbone
from wara.data.items import Item

STUDY = method_study.STUDIES / "quick.yaml"
MEASURED = ("seconds", "processor_seconds", "images_per_second", "peak_memory_mb")


def run(out: Path, *options: str) -> int:
    return method_study.main([str(STUDY), "--out", str(out), "--workers", "0", "--replicates", "50", *options])


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def findings(out: Path) -> dict[str, dict[str, Any]]:
    """Return what does not depend on how fast the machine is, by cell."""
    cells = [line for line in lines(out) if line["kind"] != "data"]
    return {line["key"]: {name: line[name] for name in line if name not in MEASURED} for line in cells}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("study")
    threads = torch.get_num_threads()
    assert run(folder) == 0
    yield folder
    torch.set_num_threads(threads)  # a cell takes one


@pytest.fixture(scope="module")
def images(out: Path) -> Images:
    study = read_study(STUDY)
    return open_images("demo", study.data["demo"], 64, out / "pixels", None)


def cells() -> list[Cell]:
    study = read_study(STUDY)
    return list(study.test_cells("demo", 20, {cell.group: 1e-3 for cell in study.groups("demo", 20)}))


def test_every_cell_is_a_line_and_rates_are_chosen_on_validation_images(out: Path) -> None:
    found = lines(out)
    kinds = [line["kind"] for line in found]
    assert {kind: kinds.count(kind) for kind in kinds} == {"data": 1, "tune": 8, "test": 8}
    for test in (line for line in found if line["kind"] == "test"):
        name = test["cell"]["method"]["name"]
        tuned = [line for line in found if line["kind"] == "tune" and line["cell"]["method"]["name"] == name]
        best = max(tuned, key=lambda line: (line["val_auroc"], -line["val_loss"]))
        assert test["cell"]["rate"] == best["cell"]["rate"]
        assert "test_auroc" in test
        assert not any("test_auroc" in line for line in tuned)


def test_a_test_cell_of_a_tuning_seed_is_that_training_and_its_tensors_are_gone(out: Path) -> None:
    found = lines(out)
    for test in (line for line in found if line["kind"] == "test" and line["cell"]["seed"] == 0):
        [twin] = [
            line for line in found
            if line["kind"] == "tune" and line["cell"] == test["cell"] | {"kind": "tune"}
        ]  # fmt: skip
        assert (test["val_auroc"], test["seconds"]) == (twin["val_auroc"], twin["seconds"])
    assert not list((out / "states").glob("*"))


def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(out: Path, tmp_path: Path) -> None:
    whole = (out / "results.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    # All trained tensors that test cells would take over are gone: they are trained again.
    (tmp_path / "results.jsonl").write_text("".join(whole[:10]) + whole[10][:40], encoding="utf-8")
    assert run(tmp_path, "--cache", str(out / "pixels")) == 0
    assert findings(tmp_path) == findings(out)


def test_methods_of_a_seed_share_images_order_changes_and_head(images: Images) -> None:
    device = torch.device("cpu")
    for seed in (0, 1):
        seen, heads = [], []
        for cell in (cell for cell in cells() if cell.seed == seed):
            torch.manual_seed(cell.seed)
            backbone = load_backbone("vit_tiny_untrained", 3, image_size=64)
            batches = images.batches("train", cell, backbone, device)
            seen.append(torch.cat([batch for batch, _ in batches.training(1)]))
            trained = [(n, p) for n, p in build(cell, backbone).named_parameters() if p.requires_grad]
            heads.append(next(p for name, p in trained if "head" in name and p.dim() == 2))
        assert len(seen) == 4
        assert all(torch.equal(one, seen[0]) for one in seen)
        assert all(torch.equal(one, heads[0]) for one in heads)


def test_no_side_holds_images_of_another(images: Images) -> None:
    cell = cells()[0]
    sides = [set(images.rows(side, cell)) for side in ("train", "val", "test")]
    assert [len(side) for side in sides] == [20, 18, 24]
    assert len(set.union(*sides)) == 62


def test_patients_of_two_sides_are_used_on_the_later_one_alone() -> None:
    sides = {"train": "aab", "val": "bc-", "test": "cd-"}
    items = [
        Item(f"{side}{n}", "x", patient=None if name == "-" else name)
        for side, names in sides.items() for n, name in enumerate(names)
    ]  # fmt: skip
    split = apart(items, [side for side in sides for _ in range(3)])
    assert split == ["train", "train", "unseen", "val", "unseen", "val", "test", "test", "test"]


def test_screening_takes_the_place_of_test_images_from_training_images_alone(images: Images, out: Path) -> None:
    source = read_study(STUDY).data["demo"] | {"screen": 9}
    screened = open_images("demo", source, 64, out / "pixels", None)
    assert set(screened.places("test")) < set(images.places("train"))
    assert set(screened.places("train")) == set(images.places("train")) - set(screened.places("test"))
    assert len(screened.places("test")) == 9 and screened.places("val") == images.places("val")


def test_tables_figures_and_a_page_are_made_of_the_results_alone(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "study.md"
    place = "<!-- results of quick -->old<!-- end of results of quick -->"
    page.write_text(f"Before.\n\n{place}\n\nAfter.\n", encoding="utf-8")
    for _ in range(2):  # a second time what stands there is replaced
        assert run(out, "--only-table", "--docs", str(page)) == 0
        text = page.read_text(encoding="utf-8")
    shown = capsys.readouterr().out
    for part in ("#### In short", "| wara, rank 2 |", "| linear-probe | 0 |", "#### Chosen step sizes"):
        assert part in shown and text.count(part) == shown.count(part) / 2
    assert text.startswith("Before.") and text.endswith("After.\n") and "old" not in text
    assert "differences_demo.png" in text
    assert all((out / name).stat().st_size > 5000 for name in ("differences_demo.png", "costs.png"))


def test_the_list_tells_what_is_left(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(out, "--list") == 0
    assert "| demo | 20 | 16 | 0 | 0 min |" in capsys.readouterr().out
    assert run(tmp_path, "--list") == 0
    assert "| demo | 20 | 16 | 16 |" in capsys.readouterr().out


def test_data_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.delenv("WARA_SHARED", raising=False)
    study = tmp_path / "far.yaml"
    study.write_text(STUDY.read_text().replace("{drawn: {train: 30, val: 18, test: 24}, pixels: 64}", "{folder: far}"))
    assert method_study.main([str(study), "--out", str(tmp_path), "--workers", "0"]) == 2
    assert "WARA_SHARED" in capsys.readouterr().err
