"""What an exported ONNX file says of itself: how to prepare an image, how to read the answer, what it is not for.

Written into the file (``metadata_props``) and beside it, so that a program without this library gives the same answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx

import wara
from wara.inference import Predictor

FORMAT = 1
NOTICE = "A research tool, not a medical device. It must not be used for diagnosis or to decide on treatment."
# Of metadata_props: the prefix keeps its keys apart from those of other programs.
PREFIX = "wara."
_OVERSAMPLING, _GAP = 2, 3  # as in wara.imaging: read.py and fit.py; a test follows these notes and compares
_FITS = {
    "pad": """
        scale = size / max(height, width); resize to max(1, round(width * scale)) x max(1, round(height * scale)), where
        round() takes a half to the even number; place it on a black (0) square of size x size, at left =
        (size - width) // 2 and top = (size - height) // 2""",
    "crop": """
        cut the square of side = min(height, width) at left = (width - side) // 2 and top = (height - side) // 2; then
        resize it to size x size""",
    "stretch": "resize to size x size, whatever the proportions",
}
_FRAMES = {
    "first": "Of several frames the first is taken.",
    "middle": "Of several frames the one with the index count // 2, from 0, is taken.",
    "all": (
        "Every frame is an image: average the softmax of the logits over the frames, take the logarithm of the mean as "
        "logits, and go on from there."
    ),
}


def notes(predictor: Predictor) -> dict[str, Any]:
    """Return all that a program needs beside the network, as plain data for JSON.

    Args:
        predictor: the run, loaded.

    Returns:
        ``notice``, ``program``, ``model``, ``classes``, ``input``, ``preprocessing`` (with ``steps`` in words and the
        numbers of each), ``output``, ``temperature``, ``operating_point`` (None where the most probable class is
        taken), ``reading`` (steps in words), ``not_in_this_file``.
    """
    recipe, size = predictor.recipe, predictor.backbone.size
    point = predictor.answers.operating_point
    fit = str(recipe["image"]["fit"])
    return {
        "format": FORMAT,
        "notice": NOTICE,
        "program": f"WaRA Studio {wara.__version__}",
        "model": {
            "method": recipe["method"],
            "backbone": recipe["backbone"]["name"],
            "backbone_sha256": recipe["backbone"]["sha256"],
            "trained_with": recipe.get("packages", {}),
            "data_fingerprint": recipe["data"]["fingerprint"],
        },
        "classes": list(predictor.classes),
        "input": {
            "name": "images", "type": "float32", "layout": "NCHW", "channels": "RGB", "shape": ["batch", 3, size, size],
        },
        "preprocessing": {
            "size": size,
            "fit": fit,
            "interpolation": "bicubic (a = -0.5), antialiased: Pillow's Image.resize with BICUBIC and reducing_gap=3.0",
            "mean": list(predictor.backbone.mean),
            "std": list(predictor.backbone.std),
            "steps": [*_decoding(predictor), *_fitting(predictor, fit)],
        },
        "output": {"name": "logits", "type": "float32", "shape": ["batch", len(predictor.classes)]},
        "temperature": predictor.answers.temperature.value,
        "operating_point": None if point is None else {"class": predictor.classes[1], **point.to_dict()},
        "reading": _reading(predictor),
        "not_in_this_file": "Prediction sets and the warning for images unlike the training images stay in the app.",
    }  # fmt: skip


def _decoding(predictor: Predictor) -> list[str]:
    twice, view = _OVERSAMPLING * predictor.backbone.size, predictor.view
    return [
        _line(f"""
            PNG, JPEG, TIFF, WebP, BMP: turn it upright by its EXIF orientation. A JPEG is decoded at 1/2, 1/4 or 1/8 of
            its scale where its shorter side keeps at least {_OVERSAMPLING} * size = {twice} pixels (Pillow:
            Image.draft(None, ({twice}, {twice})) before loading). Lay transparency over black; turn palettes and CMYK
            into RGB. Grey of 16 or 32 bits or float, and RGB of 16 bits (one min and max for its channels, wholly
            transparent pixels left out): (v - min) / (max - min) * 255, rounded, min and max of the image itself.
        """),
        _line(f"""
            DICOM, grey: {_FRAMES[view.frames]} Modality LUT where there is one, else v * RescaleSlope +
            RescaleIntercept. Then way of showing number {view.window} of the file, its VOI LUTs counted first and its
            windows after them. A window (centre c, width w, function LINEAR): low = c - 0.5 - (w - 1) / 2, high = c -
            0.5 + (w - 1) / 2; LINEAR_EXACT: low = c - w / 2, high = c + w / 2; both: (v - low) / (high - low) * 255;
            SIGMOID: 255 / (1 + exp(-4 (v - c) / w)). Rounded and clipped to 0 to 255. Without a window: low and high
            are the smallest and the largest value, PixelPaddingValue left out. MONOCHROME1: 255 - v at the end. DICOM,
            colour: palette or YBR to RGB, the whole range of the stored bits to 0 to 255.
        """),
        "Grey becomes RGB by repeating the one channel. Pixels are whole numbers from 0 to 255 here.",
    ]


def _fitting(predictor: Predictor, fit: str) -> list[str]:
    backbone = predictor.backbone
    means, stds = (", ".join(f"{n:g}" for n in numbers) for numbers in (backbone.mean, backbone.std))
    return [
        _line(f"""
            To the square, size = {backbone.size}, fit = {fit}: {_FITS[fit]}. An image that is square already is resized
            to size x size. Resizing: Pillow's Image.resize((width, height), Image.Resampling.BICUBIC,
            reducing_gap={_GAP}.0), to whole numbers from 0 to 255 again; without it where the size is right already.
        """),
        f"x = (pixel / 255 - mean) / std for each channel, mean = {means}, std = {stds} (R, G, B), as float32.",
        f"Order the axes as batch, channel, row, column: (batch, 3, {backbone.size}, {backbone.size}).",
    ]


def _line(text: str) -> str:
    return " ".join(text.split())


def _reading(predictor: Predictor) -> list[str]:
    point = predictor.answers.operating_point
    classes = ", ".join(predictor.classes)
    label = (
        "The label is the class with the highest probability."
        if point is None
        else f"The label is {predictor.classes[1]} where its probability is at least {point.threshold!r}, else "
        f"{predictor.classes[0]}."
    )
    return [
        f"probabilities = softmax(logits / temperature), temperature = {predictor.answers.temperature.value!r}, in the "
        f"order of the classes: {classes}.",
        label,
        "This file computes in float32, and so does the app where the run was trained with precision=float32 or the "
        "processor has no fast bfloat16. Elsewhere the app computes in bfloat16, and its probabilities may differ from "
        "these in the third, rarely in the second place after the point; near the threshold the label may, too.",
    ]


def write_into(path: Path, facts: dict[str, Any]) -> None:
    """Add the notes to an ONNX file, as its ``doc_string`` and its ``metadata_props``, one of them a top-level fact."""
    model = onnx.load(path)
    model.doc_string = NOTICE
    model.producer_name, model.producer_version = "WaRA Studio", wara.__version__
    values = {f"{PREFIX}{key}": value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    onnx.helper.set_model_props(model, values)
    onnx.save(model, path)


def read_from(path: Path) -> dict[str, Any]:
    """Return the notes of an ONNX file."""
    held = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    texts = ("notice", "program", "not_in_this_file")
    return {
        key.removeprefix(PREFIX): value if key.removeprefix(PREFIX) in texts else json.loads(value)
        for key, value in held.items()
        if key.startswith(PREFIX)
    }


def sidecar(path: Path) -> Path:
    """Return the name of the notes beside an ONNX file: ``model.onnx.json``."""
    return path.with_name(path.name + ".json")
