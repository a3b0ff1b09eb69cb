"""Answers of a made-up model for validation and test images, which tests of several modules measure."""

import numpy as np

from wara.evaluation.answers import fit_answers
from wara.evaluation.predictions import Predictions


def answered(k=2, n=240, per_patient=1, **options):
    """Return the predictions by side, and the answers that were learned on the validation images."""
    rng = np.random.default_rng(1)
    sides, raw = {}, {}
    for name in ("val", "test"):
        targets = (np.arange(n) // per_patient) % k
        rows = np.exp(2 * rng.normal(size=(n, k)) + 3 * np.eye(k)[targets])
        raw[name] = rows / rows.sum(axis=1, keepdims=True), targets
    answers = fit_answers(*raw["val"], **options)
    for name, (rows, targets) in raw.items():
        calibrated = answers.calibrated(rows)
        sides[name] = Predictions(
            name, [f"{name}{i}.png" for i in range(n)], targets, answers.labels(calibrated), calibrated, rows,
            answers.sets(calibrated), None,
            [f"p{i // per_patient}" if per_patient > 1 else None for i in range(n)],
            {"sex": ["F", "M"] * (n // 2), "age": ["30", None] * (n // 2)},
        )  # fmt: skip
    return sides, answers
