"""How fast a fine-tuning trains, and how soon it is as good, beside a timm + PEFT LoRA script.

    python -m benchmarks.training [--quick] [--data DIR --weights FILE] [--json FILE]

Our side is the worker that the app starts, with everything that it does (``benchmarks.jobs``); the peer is
``benchmarks/peers/lora_script.py`` in float32 and under bfloat16 autocast. Same backbone, rank, images, batch, steps
and passes; every run is a process of its own, in turn. First part: images a second of the training steps with their
data. Second part: seconds from the start of the process to the validation AUROC with which the script ended. DIR holds
labels.csv (file, label, split); without it images are drawn, and without FILE the backbone has drawn values, so that
the times mean something and the AUROCs do not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import jobs, report
from benchmarks.drawn import LABELS_FILE, draw_study, part_of
from benchmarks.jobs import Job
from benchmarks.peers.running import ScriptRun, run_lora_script
from benchmarks.timing import in_turn

FLOAT32, BFLOAT16 = "LoRA script, float32", "LoRA script, bfloat16 autocast"
FLAGS = {FLOAT32: (), BFLOAT16: ("--bf16",)}
WORKERS = (0, 1, 2)
# As the script: adapters in all blocks. By default WaRA has them in the upper half, beside a readout.
ALL_BLOCKS = ("wara:readout=none", "tiny-wara:readout=none")
TRIAL_STEPS = 6
EVALUATED = {"val": 12, "test": 12}  # where only the speed of training is asked for
QUICK = {"steps": 4, "epochs": 2, "rounds": 2, "batch": 8, "images": 32, "workers": 0}
# The intervals of the test images come after everything that is measured here.
UNMEASURED = {"bootstrap": 10}
Curve = list[dict[str, float]]


def main() -> None:
    """Measure both parts, print the table, write the JSON."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        options.weights = jobs.weights_of(options.model, options.weights, scratch)
        if options.data is None:
            training = max(options.images, options.steps * options.batch)
            options.data = scratch / "drawn"
            draw_study(options.data, {"train": training, "val": max(12, training // 5), "test": 12})
        options.labels = options.labels or options.data / LABELS_FILE
        if options.workers is None:
            options.workers = _fastest_workers(options, scratch)
        rows = _speed(options, scratch)
        curves: list[dict[str, Any]] = []
        if options.reach_rounds:
            reached, curves = _reach(options)
            rows += reached
    settings = {"peer_workers": options.workers, "batch": options.batch, "rank": options.rank, "steps": options.steps}
    print(f"{options.model}, rank {options.rank}, batch {options.batch}, {options.steps} steps a run; the script's "
          f"DataLoader has {options.workers} workers\n")  # fmt: skip
    report.publish(report.destination(options, "training"), rows, settings=settings, curves=curves)


def _options() -> argparse.Namespace:
    parser = report.parser_of(__doc__, "a few small steps of both, to try the command")
    parser.add_argument("--data", type=Path, help="folder with labels.csv")
    parser.add_argument("--labels", type=Path, help="the table, when it is not DATA/labels.csv")
    parser.add_argument("--model", default="deit_tiny_patch16_224", help="a timm name")
    parser.add_argument("--weights", type=Path, help="its pretrained weights")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40, help="of a run in the first part")
    parser.add_argument("--rounds", type=int, default=5, help="of the first part")
    parser.add_argument("--epochs", type=int, default=5, help="passes in the second part")
    parser.add_argument("--reach-rounds", type=int, default=1, help="of the second part, each another seed; 0: without")
    parser.add_argument("--images", type=int, default=600, help="drawn for training, where there is no DATA")
    parser.add_argument("--workers", type=int, help="of the script's DataLoader; else the fastest of 0, 1 and 2")
    parser.add_argument("--methods", default=",".join(ALL_BLOCKS), help="with options behind a colon, wara:rank=4")
    if parser.parse_args().quick:
        parser.set_defaults(**QUICK)
    options = parser.parse_args()
    options.methods = options.methods.split(",")
    return options


def _script(options: argparse.Namespace, labels: Path, peer: str, **more: Any) -> ScriptRun:
    settings = {"model": options.model, "weights": options.weights, "rank": options.rank, "batch": options.batch}
    return run_lora_script(options.data, labels, *FLAGS[peer], **settings, **{"workers": options.workers, **more})


def _job(options: argparse.Namespace, labels: Path, method: str, preset: str = "quick", **recipe: Any) -> Job:
    method, _, chosen = method.partition(":")
    rank = {"rank": options.rank} if method == "wara" else {}  # Tiny-WaRA's is that of its basis
    named = dict(pair.split("=", 1) for pair in chosen.split(":") if pair)
    fields = {"batch_size": options.batch, **rank, **UNMEASURED, **named, **recipe}
    backbone = f"{options.model}:{options.weights}"
    return jobs.train(options.data, labels, backbone=backbone, method=method, preset=preset, recipe=fields)


def _fastest_workers(options: argparse.Namespace, scratch: Path) -> int:
    """Return the number of DataLoader workers with which the script in float32 is fastest here."""
    steps = min(TRIAL_STEPS, options.steps)
    labels = part_of(options.labels, scratch / "trial.csv", {"train": steps * options.batch, **EVALUATED})
    speeds = {
        workers: _script(options, labels, FLOAT32, epochs=1, workers=workers).images_per_second for workers in WORKERS
    }
    return max(speeds, key=lambda workers: speeds[workers])


def _speed(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """Return the rows of images a second, the passes of both sides over the same images."""
    labels = part_of(options.labels, scratch / "part.csv", {"train": options.steps * options.batch, **EVALUATED})

    def ours(method: str) -> float:
        return float(_job(options, labels, method, epochs=1).metrics["images_per_second"])

    steps: dict[str, Callable[[], float]] = {method: partial(ours, method) for method in options.methods}
    for peer in FLAGS:
        steps[peer] = lambda peer=peer: _script(options, labels, peer, epochs=1).images_per_second
    found = in_turn(steps, options.rounds)
    return [
        report.compare(f"{method}: training", found[method], found[peer], peer_name=peer, unit="images/s")
        for method in options.methods
        for peer in FLAGS
    ]


def _reach(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the time to the script's last validation AUROC, and all curves; each round has its seed."""
    same = {"epochs": options.epochs, "patience": options.epochs}
    quick = {"min_steps": 0} if options.quick else {}
    rounds: list[dict[str, Curve]] = []
    for seed in range(options.reach_rounds):
        curves = {FLOAT32: _script(options, options.labels, FLOAT32, epochs=options.epochs, seed=seed).epochs}
        for method in options.methods:
            for preset, name, recipe in (("balanced", "same passes", same), ("quick", "preset quick", quick)):
                job = _job(options, options.labels, method, preset, seed=seed, **recipe)
                curves[f"{method}, {name}"] = job.curve
        rounds.append(curves)
    rows = [reached(name, rounds) for name in rounds[0] if name != FLOAT32]
    for method in options.methods:
        name = f"{method}, same passes"
        whole = [[curves[side][-1]["seconds"] for curves in rounds] for side in (name, FLOAT32)]
        rows.append(report.compare(f"{name}: start to last pass", *whole, peer_name=FLOAT32, unit="s"))
    found = []
    for seed, curves in enumerate(rounds):
        for name, curve in curves.items():
            points = [{key: point[key] for key in ("seconds", "val_auroc")} for point in curve]
            found.append({"name": name, "seed": seed, "points": points})
    return rows, found


def reached(name: str, rounds: list[dict[str, Curve]]) -> dict[str, Any]:
    """Return the row of one of our runs: seconds to the AUROC with which the script of the same round ended.

    The script's own time is that at which it was first as good as at its end, which may be before. Where one of our
    runs is never as good, there is no ratio; ``reached`` counts the rounds in which it was.
    """
    targets = [curves[FLOAT32][-1]["val_auroc"] for curves in rounds]
    ours, peer = (
        [seconds_to(target, curves[side]) for target, curves in zip(targets, rounds, strict=True)]
        for side in (name, FLOAT32)
    )
    title = f"{name}: time to the script's validation AUROC, {', '.join(f'{target:.3f}' for target in targets)}"
    theirs = [seconds for seconds in peer if seconds is not None]  # all: a curve reaches its own end
    there = [seconds for seconds in ours if seconds is not None]
    if len(there) < len(rounds):
        middle = statistics.median(theirs)
        found = report.row(title, None, middle, peer_name=FLOAT32, unit="s", runs=len(rounds))
    else:
        found = report.compare(title, there, theirs, peer_name=FLOAT32, unit="s")
    return found | {"reached": len(there)}


def seconds_to(target: float, curve: Curve) -> float | None:
    """Return the seconds after which a curve of validation AUROC is at least the target; None where it never is."""
    return next((point["seconds"] for point in curve if (point["val_auroc"] or 0.0) >= target), None)


if __name__ == "__main__":
    main()
