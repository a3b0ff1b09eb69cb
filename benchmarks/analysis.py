"""What the analysis costs: measuring and drawing it for 1,000 images, beside the forward passes alone.

    python -m benchmarks.analysis [--quick] [--images N] [--backbone SPEC] [--json FILE]

A WaRA model is trained for one pass on drawn images. In every round, in turn and in the same precision: the forward
passes alone on images that lie in memory, as timm and PEFT compute them under autocast; ours with the analysis
measured, by the short ways that our passes take; measured and drawn; and, as a process
of its own with all that comes to it (imports, decoding, the scales of each class, their check), ``python -m wara
analyse``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import jobs, report
from benchmarks.processes import watch
from benchmarks.timing import interleaved
from benchmarks.upload import draw
from wara.analysis import study
from wara.analysis.images import labelled_batches
from wara.inference import Predictor
from wara.training.device import autocast

PEER = "forward passes alone"
Batches = list[tuple[Tensor, Tensor]]


class Sides:
    """What is measured, on one model and the same images.

    Args:
        predictor: the trained model.
        data: the images' folder.
        out: a folder for figures.
    """

    def __init__(self, predictor: Predictor, data: Path, out: Path) -> None:
        self.predictor, self.data, self.out = predictor, data, out
        self.batches: Batches = [(images, targets) for images, targets, _ in labelled_batches(predictor, data)]

    def forward(self) -> None:
        """The forward passes alone."""
        with torch.inference_mode(), self._precision():
            for images, _ in self.batches:
                self.predictor.model(images)

    def measured(self) -> dict[str, dict[str, object]]:
        """The analysis over the same images, without its figures."""
        model, classes = self.predictor.model, self.predictor.classes
        found = study.measure(model, self._stream(), classes, precision=self.predictor.recipe["precision"])
        assert found is not None  # the model has adapted layers
        return found

    def drawn(self) -> None:
        """The analysis and its figures."""
        study.write(self.out, self.measured())

    def _precision(self) -> torch.autocast | object:
        return autocast(self.predictor.device, self.predictor.recipe["precision"])

    def _stream(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.batches


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = report.parser_of(__doc__, "100 images, two rounds")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="embedded", help="a spec, as of python -m wara train")
    if parser.parse_args().quick:
        parser.set_defaults(images=100, rounds=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        draw(scratch / "some", 60)
        draw(scratch / "images", options.images)
        job = scratch / "job"
        jobs.train(scratch / "some", None, backbone=options.backbone, recipe={"epochs": 1, "bootstrap": 10}, keep=job)
        run = job / "run"
        sides = Sides(Predictor.load(run, backbone=options.backbone), scratch / "images", scratch / "figures")
        command = ["-m", "wara", "analyse", str(run), str(scratch / "images"), "--out", str(scratch / "all")]
        command += ["--backbone", options.backbone] if ":" in options.backbone else []
        for warm_up in (sides.forward, sides.drawn):  # the command starts cold, as it does for a user
            warm_up()
        names = {
            "measured": sides.measured,
            "measured and drawn": sides.drawn,
            "python -m wara analyse, start to end": partial(watch, command),
        }
        seconds = interleaved({PEER: sides.forward, **names}, options.rounds, warm_up=0)
    print(f"{options.images:,} images, backbone {options.backbone.partition(':')[0]}\n")
    rows = [report.compare(name, seconds[name], seconds[PEER], peer_name=PEER, unit="s") for name in names]
    report.publish(report.destination(options, "analysis"), rows, images=options.images)


if __name__ == "__main__":
    main()
