"""The README's picture is drawn from a run's own numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tools import picture_of_scales
from wara.demo_drawing import CLASSES


def test_the_picture_shows_every_class_and_its_numbers_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = {name: [0.5 + 0.1 * place, 0.3, 0.1, 0.1 - 0.1 * place] for place, name in enumerate(CLASSES[:2])}
    data = {
        "method": "wara", "bands": ["A1", "H1", "V1", "D1"], "levels": 1, "patch_size": 16, "layers": ["blocks.0"],
        "classes": list(shares), "n_images": {"overall": 6, "per_class": dict.fromkeys(shares, 3)},
        "overall": {"update": [[0.55, 0.3, 0.1, 0.05]]},
        "per_class": {name: {"update": [row]} for name, row in shares.items()},
    }  # fmt: skip
    (tmp_path / "energy.json").write_text(json.dumps(data), encoding="utf-8")

    code = picture_of_scales.main([str(tmp_path / "energy.json"), str(tmp_path / "out.png")])

    with Image.open(tmp_path / "out.png") as picture:
        assert code == 0 and picture.width == 1350
    assert "fine_cluster {'coarse (over 32 px)': 1.09" in capsys.readouterr().out
