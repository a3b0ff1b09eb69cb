"""An evaluation as the backend answers it, of a made-up model, for tests of what the page makes of it."""

from __future__ import annotations

from typing import Any

# Who looks, on a server without accounts and on one with them.
ALONE: dict[str, Any] = {"id": None, "name": None, "role": None, "scopes": ["read", "write", "admin"]}
LOOKER: dict[str, Any] = {"id": "u1", "name": "Vera", "role": "viewer", "scopes": ["read"]}
METRIC: dict[str, Any] = {"value": 0.9634, "low": 0.948, "high": 0.976}


def evaluation(*classes: str, **changes: Any) -> dict[str, Any]:
    """What the backend knows of ten test images of each class, of which one of each is called wrongly."""
    names = list(classes or ("healthy", "ill"))
    matrix = [[9 if row == column else int(column == (row + 1) % len(names)) for column in range(len(names))]
              for row in range(len(names))]  # fmt: skip
    cells = [
        {"label": name, "predicted": called, "n": matrix[row][column],
         "files": [f"{name}/{called}{i}.png" for i in range(matrix[row][column])],
         "probabilities": [0.9] * matrix[row][column]}
        for row, name in enumerate(names) for column, called in enumerate(names) if matrix[row][column]
    ]  # fmt: skip
    band = {"low": [0.1, 0.9], "high": [0.3, 1.0]}
    curve = {
        "roc": {"false_alarms": [0.0, 0.1, 1.0], "sensitivity": [0.0, 0.8, 1.0], "auroc": 0.85,
                "band": {"false_alarms": [0.0, 1.0], **band}},
        "precision_recall": {"sensitivity": [0.5, 1.0], "precision": [1.0, 0.5], "average_precision": 0.8,
                             "prevalence": 0.5, "band": {"sensitivity": [0.5, 1.0], **band}},
    }  # fmt: skip
    of_point = ("sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value")
    shares = dict.fromkeys(of_point, METRIC)
    points = [{"stated": 0.2, "observed": 0.1, "low": 0.0, "high": 0.3, "n": 10}]
    measured = {
        "auroc": METRIC, "balanced_accuracy": METRIC, "accuracy": METRIC, "ece": METRIC, "n_groups": 10 * len(names),
        "n_images": 10 * len(names), "sensitivity": dict.fromkeys(names, METRIC),
    }  # fmt: skip
    two = len(names) == 2
    return {
        "classes": names, "n_images": 10 * len(names), "n_patients": None, "measured": measured, "patients": None,
        "warnings": [], "curves": dict.fromkeys(names[1:] if two else names, curve),
        "reliability": points, "reliability_uncalibrated": points, "temperature": 1.0, "calibration": None,
        "operating_point": {
            "threshold": 0.42, "criterion": "youden", "target": None, "positive": names[1], "sentence": "It is so.",
            "in_use": True, "from_training": True, "test": shares, "val": shares,
        } if two else None,
        "confusion": {"matrix": matrix, "cells": cells, "reading": "Read it so."},
        "confident_errors": [{"file": "a/b.png", "label": names[0], "predicted": names[1], "probability": 0.97,
                              "warning": True}],
        "images": {"a/b.png": "/thumbnail"}, "prediction_sets": None, "novelty": None, "subgroups": None,
    } | changes  # fmt: skip
