"""A trained run as a file for other programs: ONNX, merged weights of the timm model, or the PEFT adapter."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any, cast

import peft
import torch
from safetensors.torch import save_file

from wara.errors import InputError
from wara.export_notes import notes, sidecar, write_into
from wara.inference import Predictor
from wara.training import outputs
from wara.training.methods import PEFT_METHODS
from wara.tuner import AdapterError
from wara.tuner.readout import readout_of

FORMATS = ("onnx", "merged", "peft")


def export(run: Path, kind: str, out: Path, *, backbone: str | None = None) -> Path:
    """Write a run as one file.

    Args:
        run: the RUN folder.
        kind: ``"onnx"`` (the whole model; input ``images`` (b, 3, S, S), output ``logits`` (b, k); how to prepare an
            image and how to read the answer stand in the file and beside it, as ``OUT.json``, see
            :func:`wara.export_notes.notes`), ``"merged"`` (safetensors of the timm model, where the update is a weight;
            the same notes in its metadata) or ``"peft"`` (zip of the adapter folder).
        out: the file to write.
        backbone: spec of the backbone, when its weights file has moved.

    Raises:
        InputError: an unknown format, or a run that cannot be written in it, with the reason.
    """
    if kind not in FORMATS:
        raise InputError(
            "Unknown export format", seen=kind, remedy=f"Use one of {', '.join(FORMATS)}.", code="export-format"
        )
    if out.is_dir():
        raise InputError(
            "The output is a folder, not a file", seen=out.name, remedy="Name a file with --out.", code="export-out"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    if kind == "peft":
        return _zip_adapter(run, out)
    predictor = Predictor.load(run, device="cpu", backbone=backbone)
    return _merged(predictor, out) if kind == "merged" else _onnx(predictor, out)


def _zip_adapter(run: Path, out: Path) -> Path:
    method = outputs.read_recipe(run)["method"]
    if method not in PEFT_METHODS:
        raise InputError(
            "This method has no adapter", seen=method, remedy="Export it as merged weights instead.",
            code="export-no-adapter",
        )  # fmt: skip
    files = sorted((run / outputs.ADAPTER).glob("*"))
    if not files:
        raise InputError(
            "The run holds no trained adapter", seen=run.name, remedy="Train the model to the end first.",
            code="run-incomplete",
        )  # fmt: skip
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    return out


def _merged(predictor: Predictor, out: Path) -> Path:
    model = predictor.model
    if readout_of(model) is not None:
        raise InputError(
            "The answers of this run follow from more than the weights of the network", seen="option readout",
            remedy="Export it as onnx, or train with the option readout set to none.", code="export-not-mergeable",
        )  # fmt: skip
    if isinstance(model, peft.PeftModel):
        try:
            model = cast(Any, model).merge_and_unload()
        except AdapterError as error:
            raise InputError(
                "The update of this run is not a weight", seen=str(error).rstrip("."),
                remedy="Export it as onnx or peft instead.", code="export-not-mergeable",
            ) from error  # fmt: skip
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, out, metadata={"architecture": predictor.backbone.name, "notes": json.dumps(notes(predictor))})
    return out


def _onnx(predictor: Predictor, out: Path) -> Path:
    model = predictor.model
    plain = cast(Any, model).get_base_model() if isinstance(model, peft.PeftModel) else model
    side = predictor.backbone.size
    example = torch.zeros(2, 3, side, side)
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the exporter warns of its own internals
            torch.onnx.export(
                plain.eval(),
                (example,),
                out,
                dynamo=True,
                external_data=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    facts = notes(predictor)
    write_into(out, facts)
    outputs.write_json(sidecar(out), facts)
    return out


def main() -> int:
    """Export by the order on standard input, ``{"run", "kind", "out", "backbone"}``, and print what came of it."""
    order: dict[str, Any] = json.loads(sys.stdin.read())
    try:
        path = export(Path(order["run"]), order["kind"], Path(order["out"]), backbone=order["backbone"])
        found: dict[str, Any] = {"file": path.name}
    except InputError as error:
        found = {"problem": {"what": error.what, "seen": error.seen, "remedy": error.remedy, "code": error.code}}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
