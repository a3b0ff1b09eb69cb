"""The most memory that a training takes, beside fine-tuning the whole network with the same batch.

    python -m benchmarks.memory [--quick] [--batch N] [--json FILE]

Largest resident memory of whole processes, watched from outside: the worker that the app starts, from reading the
images to the last figure, for WaRA, Tiny-WaRA and full fine-tuning; and ``benchmarks/peers/lora_script.py`` for LoRA
and full fine-tuning in float32, its DataLoader in the same process so that nothing is left out. DeiT-Tiny with drawn
values on drawn images: what is learned does not change how much memory it takes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import jobs, report
from benchmarks.drawn import draw_study
from benchmarks.peers.running import run_lora_script
from benchmarks.timing import in_turn

METHODS = ("wara", "tiny-wara", "full")
SCRIPTS = {"full fine-tuning by a script": "full", "LoRA script": "lora"}
FULL = "full"


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = report.parser_of(__doc__, "batch 8, one round")
    parser.add_argument("--model", default="deit_tiny_patch16_224", help="a timm name")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6, help="the memory is full after two or three")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS[:2]), help="of ours, beside full fine-tuning")
    if parser.parse_args().quick:
        parser.set_defaults(batch=8, rounds=1, steps=3)
    options = parser.parse_args()
    methods = options.methods.split(",")
    with tempfile.TemporaryDirectory() as folder:
        scratch, data = Path(folder), Path(folder) / "drawn"
        weights = jobs.weights_of(options.model, None, scratch)
        labels = draw_study(data, {"train": options.batch * options.steps, "val": options.batch, "test": options.batch})

        def ours(method: str) -> float:
            recipe = {"batch_size": options.batch, "epochs": 1}
            spec = f"{options.model}:{weights}"
            return jobs.train(data, labels, backbone=spec, method=method, recipe=recipe).peak_mb

        def script(method: str) -> float:
            settings = {"model": options.model, "weights": weights, "batch": options.batch}
            return run_lora_script(data, labels, **settings, method=method, epochs=1, workers=0).peak_mb

        steps: dict[str, Callable[[], float]] = {method: partial(ours, method) for method in (*methods, FULL)}
        steps |= {name: partial(script, method) for name, method in SCRIPTS.items()}
        found = in_turn(steps, options.rounds)
    peers = {"full fine-tuning by the app": FULL, **{name: name for name in SCRIPTS}}
    rows = [
        report.compare(f"{method}: peak memory", found[method], found[peer], peer_name=name, unit="MiB")
        for method in methods
        for name, peer in peers.items()
    ]
    print(f"{options.model}, batch {options.batch}, {options.steps} steps\n")
    report.publish(report.destination(options, "memory"), rows)


if __name__ == "__main__":
    main()
