"""How to read each figure of a run: plain sentences, computed from the figure's own data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wara.evaluation.figures import best_row, numbers

_NO_PROGRESS = 0.005


def read_history(history: Sequence[Mapping[str, Any]]) -> str:
    """Say in plain words how the training went; rows as for :func:`wara.evaluation.figures.draw_history`."""
    if not history:
        return "No pass through the training images was finished, so there is nothing to see yet."
    how = (
        "On the left the error falls as the model learns; where that on validation images rises again while that on "
        "training images goes on falling, it has begun to learn by heart."
    )
    areas, best = numbers(history, "val_auroc"), best_row(history)
    if best is None or not np.isfinite(areas[best]):
        return how
    epoch = int(numbers(history, "epoch")[best])
    kept = f"The model of pass {epoch} was kept, with a validation AUROC of {areas[best]:.3f}"
    later = len(history) - 1 - best
    if later:
        return f"{how} {kept}; the {'pass' if later == 1 else f'{later} passes'} after it brought nothing better."
    rising = best > 0 and areas[best] - np.nanmax(areas[:best], initial=0.0) > _NO_PROGRESS
    return f"{how} {kept}; it was still getting better, so a longer training may help." if rising else f"{how} {kept}."


def read_confusion(metrics: Mapping[str, Any], classes: Sequence[str]) -> str:
    """Say in plain words what the confusion matrix shows.

    Args:
        metrics: result of :func:`wara.evaluation.metrics.evaluate`.
        classes: the class names, in the order of the matrix.
    """
    counts = np.array(metrics["confusion"], dtype=float)
    if not counts.sum():
        return "There was no image to test on."
    how = "Each row holds the images of one true class; what stands on the diagonal was recognised."
    found = {name: metrics["sensitivity"][name] for name in classes}
    weakest = min((n for n in classes if found[n]["value"] is not None), key=lambda name: float(found[name]["value"]))
    entry = found[weakest]
    span = "" if entry["low"] is None else f" (95 % interval {100 * entry['low']:.0f} to {100 * entry['high']:.0f} %)"
    least = f"Hardest is {weakest}: {100 * entry['value']:.0f} % of its images are recognised{span}."
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.sum():
        return f"{how} No image was taken for another class."
    row, column = divmod(int(wrong.argmax()), len(classes))
    times = int(wrong[row, column])
    of_row = int(counts[row].sum())
    mistake = f"The most frequent mistake: {classes[row]} taken for {classes[column]}, {times:,} of {of_row:,}."
    return f"{how} {least} {mistake}"
