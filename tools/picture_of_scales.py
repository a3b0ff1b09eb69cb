"""The README's picture of the method: an example of each class of the demo above the scales that it called for.

    python -m tools.picture_of_scales runs/demo-1/analysis/subband_energy.json assets/screenshots/scales.png

The numbers are those of the run; the examples are drawn anew by `wara.demo_drawing`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from wara.analysis.figures import class_ratios, draw_classes
from wara.analysis.style import to_png
from wara.demo_drawing import CLASSES, render

_SEED, _SIDE = 5, 224


def main(arguments: list[str] | None = None) -> int:
    """Draw the picture and print the ratios that a caption needs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("energy", type=Path, help="subband_energy.json of a demo's analysis")
    parser.add_argument("out", type=Path, help="the PNG to write")
    options = parser.parse_args(arguments)
    data = json.loads(options.energy.read_text(encoding="utf-8"))
    examples = {
        label: np.rint(render(label, np.random.default_rng([_SEED, number, 3]), _SIDE) * 255).astype(np.uint8)
        for number, label in enumerate(CLASSES)
    }
    picture = Image.open(io.BytesIO(to_png(draw_classes(data, examples=examples), scale=1.5)))
    # 256 colours are enough for bars and grey images, at a third of the bytes.
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(options.out, optimize=True)
    for label, ratios in class_ratios(data).items():
        print(label, {scale: round(ratio, 2) for scale, ratio in ratios.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
