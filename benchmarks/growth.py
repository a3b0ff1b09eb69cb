"""How the cost of the work grows: with images, with classes, and with the grid of tokens.

    python -m benchmarks.growth [--quick] [--json FILE] [--figure FILE]

Trainings of one pass by the worker that the app starts, on drawn images, the embedded backbone, WaRA: 100 to 10,000
images of two classes, and 2 to 100 classes of 1,000 images; what each phase took, beside what the smallest of them
would give in proportion. Then training steps on grids of 14 x 14 to 64 x 64 tokens (one image a step, since attention
grows with the square of their number), WaRA beside LoRA. A figure shows all of it.
"""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import jobs, report
from benchmarks.drawn import LABELS_FILE, write_table
from benchmarks.jobs import Job
from benchmarks.processes import ROOT
from benchmarks.timing import in_turn
from benchmarks.upload import draw
from wara.analysis.style import (
    CLASS_COLOURS,
    METHOD_COLOURS,
    METHOD_LABELS,
    METHOD_MARKERS,
    THEMES,
    heading,
    new_figure,
    style_axes,
    to_png,
)
from wara.training.recipe import Recipe

PHASES = ("starting", "reading", "training", "testing", "analysing")
MARKERS = ("o", "s", "^", "D", "v")
SIDES = ("train",) * 7 + ("val",) + ("test",) * 2
GRID_METHODS = ("lora", "wara")
PATCH = 16
QUICK = {"images": "100,200", "classes": "2,4", "images_of_classes": 100, "grids": "14,20", "rounds": 1}
Found = dict[int, Job]


def main() -> None:
    """Measure, print the table, write the JSON and the figure."""
    parser = report.parser_of(__doc__, "100 and 200 images, two and four classes, two grids")
    parser.add_argument("--images", default="100,1000,10000")
    parser.add_argument("--classes", default="2,10,30,100")
    parser.add_argument("--images-of-classes", type=int, default=1000, help="images where classes grow")
    parser.add_argument("--grids", default="14,28,44,64", help="tokens a side")
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--rounds", type=int, default=2, help="of the grids; trainings run once")
    parser.add_argument("--figure", type=Path, help="where the figure goes; else beside the JSON")
    if parser.parse_args().quick:
        parser.set_defaults(**QUICK)
    options = parser.parse_args()
    by_images = {n: _job(options.backbone, n, 2) for n in _numbers(options.images)}
    by_classes = {n: _job(options.backbone, options.images_of_classes, n) for n in _numbers(options.classes)}
    grids = {side: _steps(options.backbone, side, options.rounds) for side in _numbers(options.grids)}
    rows = growth_rows("images", by_images, in_proportion=True)
    rows += growth_rows("classes", by_classes, in_proportion=False)
    rows += [
        report.compare(f"training step, {side} x {side} tokens", *_sides(found, "step_s"), peer_name="lora", unit="s")
        for side, found in grids.items()
    ]
    rows += [
        report.compare(f"memory, {side} x {side} tokens", *_sides(found, "memory_mb"), peer_name="lora", unit="MiB")
        for side, found in grids.items()
    ]
    path = report.destination(options, "growth")
    report.publish(path, rows)
    figure = options.figure or (path.with_suffix(".png") if path is not None else None)
    if figure is not None:
        figure.write_bytes(draw_growth(by_images, by_classes, grids))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


@functools.cache  # the smallest number of classes is a size of its own as well
def _job(backbone: str, images: int, classes: int) -> Job:
    """Train one pass on so many drawn images of so many classes, seven in ten for training."""
    with tempfile.TemporaryDirectory() as folder:
        files = [path.relative_to(folder).as_posix() for path in draw(Path(folder), images, 224)]
        rows = [
            # Classes in turn; the side changes once each class was there.
            {"file": file, "label": f"class {place % classes:03d}", "split": SIDES[place // classes % len(SIDES)]}
            for place, file in enumerate(files)
        ]
        labels = write_table(Path(folder) / LABELS_FILE, rows)
        return jobs.train(Path(folder), labels, backbone=backbone, recipe={"epochs": 1})


def _steps(backbone: str, side: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Measure a few training steps of one image on a grid, each method in a process of its own."""
    return in_turn({method: lambda method=method: _warm_up(backbone, side, method) for method in GRID_METHODS}, rounds)


def _warm_up(backbone: str, side: int, method: str) -> dict[str, float]:
    recipe = Recipe.from_preset(backbone=backbone, method=method, image_size=side * PATCH, batch_size=1)
    order = json.dumps({"recipe": recipe.to_dict(), "num_classes": 2})
    command = [sys.executable, "-m", "wara.training.estimate"]
    done = subprocess.run(command, input=order, cwd=ROOT, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    if "problem" in answer:
        raise SystemExit(f"{side} x {side} tokens were refused: {answer['problem']}")
    found = answer["warm_up"]
    return {"step_s": statistics.median(found["step_s"]), "memory_mb": found["memory_mb"]}


def _sides(found: dict[str, list[dict[str, float]]], what: str) -> tuple[list[float], list[float]]:
    ours, peer = ([run[what] for run in found[method]] for method in ("wara", "lora"))
    return ours, peer


def growth_rows(of: str, found: Found, *, in_proportion: bool) -> list[dict[str, Any]]:
    """Return a row a size and phase, beside the smallest size.

    Args:
        of: what grows.
        found: the trainings by size.
        in_proportion: whether the peer is the smallest size's time as many times as it is larger, or that time itself.
    """
    smallest = min(found)
    rows = []
    for size in sorted(found):
        times = size / smallest if in_proportion else 1.0
        peer_name = f"{smallest} {of}" + (", in proportion" if in_proportion else "")
        for phase in PHASES:
            rows.append(
                report.row(f"{phase}, {size} {of}", found[size].phases[phase], found[smallest].phases[phase] * times,
                           peer_name=peer_name, unit="s", runs=1)
            )  # fmt: skip
        rows.append(
            report.row(f"memory, {size} {of}", found[size].peak_mb, found[smallest].peak_mb,
                       peer_name=f"{smallest} {of}", unit="MiB", runs=1)
        )  # fmt: skip
    return rows


def draw_growth(by_images: Found, by_classes: Found, grids: dict[int, dict[str, list[dict[str, float]]]]) -> bytes:
    """Return the figure as PNG: seconds by phase over images and over classes, and of a training step over grids."""
    theme = THEMES["light"]
    figure = new_figure(12.0, 4.2, theme)
    heading(figure, "Cost as the work grows", "one training of one pass; lines of slope 1 grow in proportion", theme,
            left=0.3)  # fmt: skip
    axes = figure.subplots(1, 3, gridspec_kw={"left": 0.06, "right": 0.98, "top": 0.78, "bottom": 0.14, "wspace": 0.26})
    for place, label, found in ((axes[0], "images", by_images), (axes[1], "classes", by_classes)):
        sizes = sorted(found)
        for index, phase in enumerate(PHASES):
            seconds = [max(found[size].phases[phase], 1e-2) for size in sizes]
            place.plot(sizes, seconds, color=CLASS_COLOURS[index], marker=MARKERS[index], label=phase)
        _on_logarithms(place, label, "seconds", sizes)
    for method in GRID_METHODS:
        seconds = [statistics.median(run["step_s"] for run in grids[side][method]) for side in grids]
        axes[2].plot(list(grids), seconds, color=METHOD_COLOURS[method], marker=METHOD_MARKERS[method],
                     label=METHOD_LABELS[method])  # fmt: skip
    _on_logarithms(axes[2], "tokens a side", "seconds of a training step of one image", list(grids))
    for place in axes:
        style_axes(place, theme, grid="y")
        place.legend(frameon=False, fontsize=8)
    return to_png(figure)


def _on_logarithms(axes: Any, across: str, up: str, sizes: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel(across)
    axes.set_ylabel(up)


if __name__ == "__main__":
    main()
