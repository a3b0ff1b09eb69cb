"""How well frozen features tell classes apart: a linear probe of backbones on data folders, with intervals.

    python -m tools.probe_backbone --data FOLDER [--data ...] --backbone LABEL=SPEC [--backbone ...] [--on val|test]

The features are the input of the head. A logistic regression is fitted on the training images; how strongly it is held
back is chosen by AUROC on the validation images; the test images are looked at once, at the end. `SPEC` is what
`--backbone` of the command line takes; `SPEC@random` has the same architecture with weights that learned nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from wara.backbones import load_backbone
from wara.data.batches import Batches
from wara.data.catalogue import read_catalogue
from wara.data.ingest import ingest
from wara.data.sources import open_source
from wara.data.split import make_split
from wara.evaluation.metrics import auroc, evaluate
from wara.training.device import autocast, resolve_device

Features = dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]
STRENGTHS = tuple(10.0**power for power in (-4, -3, -2, -1, 0, 1))


def features_of(
    spec: str, data: Path, work: Path, device: torch.device
) -> tuple[Features, list[str], list[str | None]]:
    """Return features and classes by side of the split, the class names, and the patients of the test images."""
    plain, _, random = spec.partition("@")
    with open_source(data) as source:
        labels = data / "labels.csv"
        catalogue = read_catalogue(source, labels if labels.exists() else None)
        backbone = load_backbone(plain, 0)
        if random:
            torch.manual_seed(0)
            backbone.model.init_weights()  # type: ignore[operator]
        store_file = work / f"{catalogue.fingerprint[:24]}-{backbone.size}.pixels"
        catalogue, store = ingest(source, catalogue, size=backbone.size, store=store_file)
    assert store is not None
    split, index = make_split(catalogue, 0), {name: i for i, name in enumerate(catalogue.classes)}
    model = backbone.model.to(device).eval()
    found: Features = {}
    for side in ("train", "val", "test"):
        rows = [row for row, name in enumerate(split) if name == side]
        targets = [index[catalogue.items[row].label] for row in rows]
        batches = Batches(store, rows, targets, mean=backbone.mean, std=backbone.std, device=device, batch_size=64)
        parts = []
        with torch.inference_mode(), autocast(device, "auto"):
            for images, _ in batches.evaluation():
                parts.append(model(images).float().cpu().numpy())
        found[side] = (np.concatenate(parts).astype(np.float64), np.asarray(targets))
    patients = [catalogue.items[row].patient for row, name in enumerate(split) if name == "test"]
    return found, list(catalogue.classes), patients


def probe(features: Features, classes: list[str], patients: list[str | None], on: str) -> dict[str, Any]:
    """Fit a linear probe, choose its strength on validation images, and measure it on one side of the split."""
    scaler = StandardScaler().fit(features["train"][0])
    inputs = {side: scaler.transform(values) for side, (values, _) in features.items()}
    best: tuple[float, float, Any] | None = None
    for strength in STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=3000, class_weight="balanced")
        fitted.fit(inputs["train"], features["train"][1])
        value = auroc(fitted.predict_proba(inputs["val"]), features["val"][1]) or 0.0
        if best is None or value > best[0]:
            best = (value, strength, fitted)
    assert best is not None
    measured = evaluate(
        best[2].predict_proba(inputs[on]), features[on][1], classes, patients if on == "test" else None, 1000, 0
    )
    return {key: measured[key] for key in ("auroc", "n_images", "n_groups")} | {"strength": best[1]}


def main(arguments: list[str] | None = None) -> int:
    """Probe every backbone on every data folder and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--backbone", action="append", required=True, help="LABEL=SPEC or LABEL=SPEC@random")
    parser.add_argument("--on", choices=("val", "test"), default="test")
    parser.add_argument("--work", type=Path, help="where decoded images are kept; a temporary folder by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for label, _, spec in (text.partition("=") for text in options.backbone):
            for data in options.data:
                given = features_of(spec, data, options.work or Path(temporary), resolve_device(options.device))
                rows.setdefault(label, {})[data.name] = probe(*given, options.on)
    names = [data.name for data in options.data]
    print(f"| backbone | {' | '.join(f'{name}, AUROC ({options.on})' for name in names)} |\n|---|{'---|' * len(names)}")
    for label, by_data in rows.items():
        cells = [by_data[name]["auroc"] for name in names]
        print(f"| {label} | {' | '.join('{value:.3f} [{low:.3f}, {high:.3f}]'.format(**cell) for cell in cells)} |")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
