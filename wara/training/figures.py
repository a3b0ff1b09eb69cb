"""The figures of a run: learning curves, confusion matrix, and the two analyses on test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wara.analysis import study
from wara.analysis.style import to_png
from wara.data.batches import Batches
from wara.evaluation.figures import draw_confusion, draw_history
from wara.training.device import autocast, set_fused_attention

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
    groups: Sequence[str],
) -> None:
    """Draw all figures of a run into a folder, with the data behind the analyses as JSON.

    ``groups`` names the patient of each image of ``batches``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.png").write_bytes(to_png(draw_history(history)))
    (folder / "confusion.png").write_bytes(to_png(draw_confusion(metrics["test"], classes)))
    model.eval()
    set_fused_attention(model, batches.device, training=False)
    measured = study.measure(model, batches.evaluation(), classes, context=autocast(batches.device, precision))
    if measured is not None:
        study.write(folder, measured)
        per_class = max(2, _CLASS_SCALES_IMAGES // len(classes))
        scales = study.measure_class_scales(model, _grouped(batches, groups), classes, per_class=per_class)
        if scales is not None:
            study.write_class_scales(folder, scales)


def _grouped(batches: Batches, groups: Sequence[str]) -> Iterator[tuple[Tensor, Tensor, Sequence[str]]]:
    start = 0
    for images, targets in batches.evaluation():
        yield images, targets, groups[start : start + len(targets)]
        start += len(targets)
