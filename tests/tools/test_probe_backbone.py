"""A linear probe tells classes apart by frozen features, and a network that learned nothing can stand beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from tests.wara.support import draw_folder
from tools import probe_backbone


def test_a_probe_prints_and_writes_what_each_backbone_tells_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = draw_folder(tmp_path / "data", images_per_class=20), tmp_path / "probe.json"

    code = probe_backbone.main(
        ["--data", str(data), "--backbone", "small=vit_tiny_untrained", "--on", "val", "--device", "cpu",
         "--backbone", "drawn anew=vit_tiny_untrained@random", "--work", str(tmp_path), "--json", str(out)]
    )  # fmt: skip

    found = json.loads(out.read_text(encoding="utf-8"))
    assert code == 0 and list(found) == ["small", "drawn anew"]
    assert found["small"]["data"]["auroc"]["value"] > 0.9  # a bright square left or right
    assert "| small |" in capsys.readouterr().out


def test_how_strongly_a_probe_is_held_back_is_chosen_on_validation_images() -> None:
    rng = np.random.default_rng(0)
    features = {}
    for side, count in (("train", 60), ("val", 60), ("test", 60)):
        targets = np.arange(count) % 2
        features[side] = (rng.normal(size=(count, 40)) + targets[:, None] * (np.arange(40) == 0) * 2, targets)

    found = probe_backbone.probe(features, ["a", "b"], [None] * 60, "test")

    scaler = StandardScaler().fit(features["train"][0])
    judged = {}
    for strength in probe_backbone.STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=3000, class_weight="balanced")
        fitted.fit(scaler.transform(features["train"][0]), features["train"][1])
        scores = {side: fitted.predict_proba(scaler.transform(features[side][0]))[:, 1] for side in ("val", "test")}
        judged[strength] = [roc_auc_score(features[side][1], scores[side]) for side in ("val", "test")]
    assert judged[found["strength"]][0] == pytest.approx(max(on_val for on_val, _ in judged.values()))
    assert found["auroc"]["value"] == pytest.approx(judged[found["strength"]][1])
    assert found["n_images"] == 60
