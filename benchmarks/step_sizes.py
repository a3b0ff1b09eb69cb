"""Which step size a method should have by default: the app's trainings at several, without a look at test images.

    python -m benchmarks.step_sizes DATA --backbone SPEC [--method wara] [--rates 0.001,0.002,0.003] [--head 0.003]
        [--option readout=none] [--json FILE]

DATA holds labels.csv (file, label, split, perhaps patient). All images are of its training side: some train, some
choose the pass, and the others, on which nothing is trained, say how good the model became; patients are on one side.
The first step size is the peer.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import jobs, report
from benchmarks.drawn import LABELS_FILE, draw_study, write_table

SIDES = ("train", "val", "test")
QUICK: dict[str, Any] = {"train": 12, "val": 6, "test": 6, "rates": "0.001,0.002"}


def main() -> None:
    """Train at each step size, print the table, write the JSON."""
    parser = _parser()
    if parser.parse_args().quick:
        parser.set_defaults(**QUICK)
    options = parser.parse_args()
    rates = [float(rate) for rate in options.rates.split(",")]
    recipe: dict[str, Any] = {"epochs": 1} if options.quick else {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if options.data is None:
            options.data = scratch / "drawn"
            draw_study(options.data, {"train": 60, "val": 3, "test": 3})
        counts = {side: getattr(options, side) for side in SIDES}
        labels = inner_sides(options.data / LABELS_FILE, scratch / "sides.csv", counts, seed=options.seed)
        found = {rate: _train(options, labels, rate, recipe) for rate in rates}
    named = " ".join([f"{options.method} in {options.target}" if options.target else options.method, *options.option])
    head = "" if options.head is None else f", head {options.head:g}"
    what = f"{options.data.name}, {options.train} images, {options.backbone.partition(':')[0]}, {named}{head}"
    first = rates[0]
    rows = [
        report.row(f"{what}, step size {rate:g}", found[rate]["test_auroc"], found[first]["test_auroc"],
                   peer_name=f"step size {first:g}", unit="AUROC", runs=1) | found[rate]
        for rate in rates
    ]  # fmt: skip
    settings = {"preset": options.preset, "seed": options.seed, **counts}
    report.publish(options.json, rows, settings=settings)


def _parser() -> argparse.ArgumentParser:
    parser = report.parser_of(__doc__, "drawn images, one pass")
    parser.add_argument("data", type=Path, nargs="?", help="folder with labels.csv; without it images are drawn")
    parser.add_argument("--backbone", default="embedded", help="a spec, as of python -m wara train")
    parser.add_argument("--method", default="wara")
    parser.add_argument("--target", help="qkv or proj; else the method's usual one")
    parser.add_argument("--option", action="append", default=[], help="KEY=VALUE, any other option of the training")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--rates", default="0.001,0.002,0.003")
    parser.add_argument("--head", type=float, help="step size of the head; else the method's usual one")
    parser.add_argument("--train", type=int, default=200, help="images to train on")
    parser.add_argument("--val", type=int, default=100, help="images that choose the pass")
    parser.add_argument("--test", type=int, default=600, help="other training images, that say how good it is")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _train(options: argparse.Namespace, labels: Path, rate: float, recipe: Mapping[str, Any]) -> dict[str, Any]:
    # A head that is all there is has the step size itself.
    named = dict(pair.split("=", 1) for pair in options.option)
    fields = {"learning_rate": rate, "seed": options.seed, "target": options.target, **recipe, **named}
    if options.method == "linear-probe":
        fields["head_learning_rate"] = rate
    elif options.head is not None:
        fields["head_learning_rate"] = options.head
    job = jobs.train(options.data, labels, backbone=options.backbone, method=options.method, preset=options.preset,
                     recipe={"bootstrap": 10, **fields})  # fmt: skip
    curve = [point["val_auroc"] for point in job.curve]
    return {"test_auroc": job.metrics["test"]["auroc"]["value"], "val_auroc": curve}


def inner_sides(table: Path, target: Path, counts: Mapping[str, int], *, seed: int = 0) -> Path:
    """Write a table whose sides all are of another table's training side, patients whole, and return it.

    Args:
        table: columns file, label and split, and perhaps patient.
        target: where to.
        counts: images a side; a last patient may make it more.
        seed: of the draw.

    Raises:
        SystemExit: there are too few training images.
    """
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    patients: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        patients.setdefault(row.get("patient") or row["file"], []).append(row)
    order = sorted(patients)
    random.Random(seed).shuffle(order)
    left = iter(order)
    chosen: list[dict[str, str]] = []
    for side, count in counts.items():
        held = 0
        while held < count:
            patient = next(left, None)
            if patient is None:
                raise SystemExit(f"{table.name} has {len(rows)} training images; {sum(counts.values())} are needed.")
            held += len(patients[patient])
            chosen += [{"file": row["file"], "label": row["label"], "split": side} for row in patients[patient]]
    return write_table(target, chosen)


if __name__ == "__main__":
    main()
