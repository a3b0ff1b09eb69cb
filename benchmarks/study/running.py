"""The cells of a study over processes: rates first, then what is reported; what is left, and how long."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.study.images import Images, located, open_images
from benchmarks.study.plan import TEST, Cell, Study
from benchmarks.study.results import Results, cell_entry, choose_rates
from benchmarks.study.training import Place, run_cell
from benchmarks.workers import Died, Task, spread
from wara.backbones import outline_backbone
from wara.errors import InputError
from wara.training.device import resolve_device

# A cell that takes longer hangs.
_LIMIT_SECONDS = 6 * 3600
# Guesses for what was never run: images a second of a training step, and how much cheaper looking at one is.
_IMAGES_PER_SECOND = 20.0
_LOOKING = 0.35


@dataclass(frozen=True)
class Setting:
    """Where a study runs.

    Attributes:
        out: folder of results, states and figures.
        cache: folder of pixels.
        shared: folder of data and weights, or None.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        workers: processes beside this one; 0 runs the cells in this one.
    """

    out: Path
    cache: Path
    shared: Path | None
    device: str
    workers: int

    @property
    def results(self) -> Path:
        """The results file."""
        return self.out / "results.jsonl"

    @property
    def states(self) -> Path:
        """Folder of trained tensors that test cells take over."""
        return self.out / "states"


def run_study(study: Study, setting: Setting) -> int:
    """Run every cell that is not in the results; return how many could not be run.

    Raises:
        InputError: data, backbone or results cannot be read.
    """
    results = Results(setting.results)
    pixels = study.protocol.image_size or outline_backbone(study.protocol.backbone.partition(":")[0]).size
    failed = 0
    for data, size in study.blocks():
        tune = list(study.tune_cells(data, size))
        whole = not results.missing(tune) and not results.missing(
            study.test_cells(data, size, choose_rates(results, tune))
        )
        if whole:
            continue
        _keep_test_entry(study, data, open_images(data, study.data[data], pixels, setting.cache, setting.shared),
                         results)  # fmt: skip
        failed += _run(results.missing(tune), study, results, setting, pixels)
        test = list(study.test_cells(data, size, choose_rates(results, tune)))
        _drop_states(tune, test, setting)
        failed += _run(results.missing(test), study, results, setting, pixels)
        _drop_states(test, [], setting)
    return failed


def seconds_left(study: Study, results: Results) -> dict[tuple[str, int], tuple[int, int, float]]:
    """Return by data set and size: cells in all, cells to run, and seconds of one process for these.

    What a method took tells what it will take; of methods that were never run, a guess.
    """
    speeds: dict[str, list[float]] = {}
    for entry in results.cells.values():
        speeds.setdefault(entry["cell"]["method"]["name"], []).append(entry["images_per_second"])
    usual = sorted(speed for found in speeds.values() for speed in found)
    guess = usual[len(usual) // 2] if usual else _IMAGES_PER_SECOND
    left: dict[tuple[str, int], tuple[int, int, float]] = {}
    for data, size in study.blocks():
        tune = list(study.tune_cells(data, size))
        chosen = choose_rates(results, tune)
        # A rate that is not chosen yet: any stands for it, its cell takes as long.
        test = [
            *study.test_cells(data, size, {cell.group: chosen.get(cell.group, cell.rate)
                                           for cell in study.groups(data, size)})
        ]  # fmt: skip
        missing = results.missing([*tune, *test])
        trained: set[str] = {cell.training for cell, _ in results.found(tune)}
        seconds = 0.0
        for cell in missing:
            found = speeds.get(cell.method.name)
            speed = sum(found) / len(found) if found else guess
            if cell.training not in trained:
                trained.add(cell.training)
                seconds += cell.size * cell.protocol.epochs_of(cell.size) / speed
                seconds += _LOOKING * (cell.protocol.val_images or 0) / guess
            if cell.kind == TEST:
                seconds += _LOOKING * (cell.protocol.test_images or 0) / guess
        left[data, size] = len(tune) + len(test), len(missing), seconds
    return left


def _keep_test_entry(study: Study, data: str, images: Images, results: Results) -> None:
    entry = images.test_entry(data, study.protocol)
    known = results.data.get(data)
    if known is None:
        results.add(entry)
    elif known != entry:
        raise InputError(
            "The results are of other test images", seen=data, code="results",
            remedy="Use the data that the study began with, or another --out.",
        )  # fmt: skip


def _run(cells: Sequence[Cell], study: Study, results: Results, setting: Setting, pixels: int) -> int:
    if not cells:
        return 0
    # The children read it when they import torch: one thread each, or they are in each other's way.
    if resolve_device(setting.device).type == "cpu":
        os.environ["OMP_NUM_THREADS"] = "1"
    series = [[_task(cell, study, results, setting, pixels)] for cell in cells]
    failed, began = 0, time.perf_counter()
    by_key = {cell.key: cell for cell in cells}
    if setting.workers:
        answers = spread(_work, series, setting.workers, _LIMIT_SECONDS)
    else:
        kept: dict[str, Any] = {}
        answers = ((task, _work(task, kept)) for [task] in series)
    for number, ((key, _), found) in enumerate(answers, 1):
        cell = by_key[key]
        reason = found.reason if isinstance(found, Died) else found.get("error")
        if reason is None:
            results.add(cell_entry(cell, found))
        failed += reason is not None
        spent = time.perf_counter() - began
        what = reason or " ".join(
            f"{name} {found[name]:.3f}" for name in ("val_auroc", "test_auroc") if found.get(name) is not None
        )
        print(
            f"{number}/{len(cells)} {cell.data} {cell.size} {cell.kind} {cell.method.name} rank {cell.rank} "
            f"seed {cell.seed} rate {cell.rate:g}: {what}; {spent * (len(cells) - number) / number / 60:.0f} min left",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    return failed


def _task(cell: Cell, study: Study, results: Results, setting: Setting, pixels: int) -> Task:
    twin = next((entry for tuned in study.tune_cells(cell.data, cell.size) if tuned.training == cell.training
                 and (entry := results.cells.get(tuned.key))), None) if cell.kind == TEST else None  # fmt: skip
    order = {
        "cell": cell.to_dict(), "before": twin, "keep": cell.kind != TEST and cell.seed in study.seeds,
        "pixels": pixels, "cache": str(setting.cache), "shared": setting.shared and str(setting.shared),
        "device": setting.device, "states": str(setting.states),
    }  # fmt: skip
    return cell.key, json.dumps(order)


def _work(task: Task, kept: dict[str, Any]) -> dict[str, Any]:
    """Run a cell in a process of its own; what is opened stays open for the next one."""
    order = json.loads(task[1])
    cell = Cell.from_dict(order["cell"])
    shared = order["shared"] and Path(order["shared"])
    device = _device(order["device"])
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        if cell.data not in kept:
            kept[cell.data] = open_images(cell.data, cell.source, order["pixels"], Path(order["cache"]), shared)
        place = Place(kept[cell.data], located(cell.protocol.backbone, shared), device, Path(order["states"]))
        return run_cell(cell, place, keep=order["keep"], before=order["before"])
    except InputError as error:
        return {"error": str(error)}


def _device(name: str) -> torch.device:
    """Return the device of this process; several GPUs are shared out by the processes' numbers."""
    device = resolve_device(name)
    if device.type != "cuda":
        return device
    number = multiprocessing.current_process().name.rpartition("-")[2]
    return torch.device("cuda", (int(number) - 1 if number.isdigit() else 0) % torch.cuda.device_count())


def _drop_states(cells: Iterable[Cell], needed: Iterable[Cell], setting: Setting) -> None:
    wanted = {cell.training for cell in needed}
    for cell in cells:
        if cell.training not in wanted:
            (setting.states / f"{cell.training}.safetensors").unlink(missing_ok=True)
