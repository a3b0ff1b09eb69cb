"""The figures of a run: learning, confusion, ROC, reliability, and the two analyses on test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wara.analysis import study
from wara.analysis.style import to_png
from wara.data.batches import Batches
from wara.evaluation.calibration import reliability
from wara.evaluation.curve_figures import draw_curves, draw_reliability
from wara.evaluation.curves import all_curves
from wara.evaluation.figures import draw_confusion, draw_history
from wara.evaluation.predictions import Predictions
from wara.training.device import set_fused_attention

_MOST_REPLICATES = 500  # behind the bands, which are drawn and not read off
# Which scales each class used takes forward and backward passes, so at the end of a training few images must do.
_CLASS_SCALES_IMAGES = 12


def write_figures(
    folder: Path,
    model: nn.Module,
    batches: Batches,
    classes: tuple[str, ...],
    precision: str,
    metrics: dict[str, Any],
    history: list[dict[str, Any]],
    patients: Sequence[str | None],
) -> None:
    """Draw all figures of a run into a folder, with the data behind the analyses as JSON.

    ``patients`` names the patient of each image of ``batches``, None where it is not known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.png").write_bytes(to_png(draw_history(history)))
    (folder / "confusion.png").write_bytes(to_png(draw_confusion(metrics["test"], classes)))
    model.eval()
    set_fused_attention(model, batches.device, training=False)
    measured = study.measure(model, batches.evaluation(), classes, precision=precision)
    if measured is not None:
        study.write(folder, measured)
        per_class = max(2, _CLASS_SCALES_IMAGES // len(classes))
        scales = study.measure_class_scales(model, _with_patients(batches, patients), classes, per_class=per_class)
        if scales is not None:
            study.write_class_scales(folder, scales)


def _with_patients(
    batches: Batches, patients: Sequence[str | None]
) -> Iterator[tuple[Tensor, Tensor, Sequence[str | None]]]:
    start = 0
    for images, targets in batches.evaluation():
        yield images, targets, patients[start : start + len(targets)]
        start += len(targets)


def write_curves(folder: Path, test: Predictions, classes: tuple[str, ...], replicates: int, seed: int) -> None:
    """Draw ROC, precision-recall and reliability curves of the test images into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {"replicates": min(replicates, _MOST_REPLICATES), "seed": seed}
    groups = test.groups()
    found = all_curves(test.probabilities, test.targets, classes, groups, **options)
    points, raw = (
        reliability(rows, test.targets, groups, **options) for rows in (test.probabilities, test.uncalibrated)
    )
    positive = classes[1] if len(classes) == 2 else None
    (folder / "curves.png").write_bytes(to_png(draw_curves(found)))
    (folder / "reliability.png").write_bytes(to_png(draw_reliability(points, raw, positive=positive)))
