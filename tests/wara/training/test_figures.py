"""The figures of a run say of what its intervals are."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.wara.analysis.conftest import CLASSES, CONFIGS, small_model
from wara.evaluation.metrics import evaluate
from wara.training.figures import write_figures


@pytest.mark.parametrize(
    ("patients", "drawn"),
    [
        ([None, None, None, None], "images"),
        (["p1", "p2", None, "p1"], "patients"),
        (["file-0a", "file-0a", "file-0b", "file-0b"], "files"),
    ],
)
def test_scales_of_classes_are_over_patients_only_where_some_are_known(
    patients: list[str | None], drawn: str, tmp_path: Path
) -> None:
    images, targets = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 0, 1])
    parts = [(images[:2], targets[:2]), (images[2:], targets[2:])]
    batches: Any = SimpleNamespace(device=torch.device("cpu"), evaluation=lambda: iter(parts))
    metrics = {"test": evaluate(np.eye(2)[targets], targets, CLASSES, replicates=5)}
    write_figures(tmp_path, small_model(CONFIGS["wara"]()), batches, tuple(CLASSES), "float32", metrics, [], patients)
    assert json.loads((tmp_path / "class_scales.json").read_text())["interval"] == drawn
