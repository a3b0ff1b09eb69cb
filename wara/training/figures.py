"""The figures of a run: learning curves, confusion matrix, and the two analyses on test images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from wara.analysis import study
from wara.analysis.style import to_png
from wara.data.batches import Batches
from wara.evaluation.figures import draw_confusion, draw_history
from wara.training.device import autocast, set_fused_attention


def write_figures(
    folder: Path,
    model: nn.Module,
    batches: Batches,
    classes: tuple[str, ...],
    precision: str,
    metrics: dict[str, Any],
    history: list[dict[str, Any]],
) -> None:
    """Draw all figures of a run into a folder, with the data behind the analyses as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.png").write_bytes(to_png(draw_history(history)))
    (folder / "confusion.png").write_bytes(to_png(draw_confusion(metrics["test"], classes)))
    model.eval()
    set_fused_attention(model, batches.device, training=False)
    measured = study.measure(model, batches.evaluation(), classes, context=autocast(batches.device, precision))
    if measured is not None:
        study.write(folder, measured)
