"""Exports of models for other programs, made when they are asked for; those that load the model by a process apart.

Tracing a model for ONNX changes PyTorch for the whole process while it lasts: predictions of other threads fail then.
"""

from __future__ import annotations

import logging
import sys
import zipfile
from pathlib import Path

from backend.apart import NoAnswer, work_apart
from backend.problems import RequestRefused

COMMAND = (sys.executable, "-m", "wara.export")
LIMIT_S = 600.0
NAMES = {"onnx": "model.onnx", "merged": "merged.safetensors", "peft": "peft.zip"}

log = logging.getLogger("backend.exports")


def make_export(
    run: Path,
    kind: str,
    folder: Path,
    *,
    backbone: str,
    offline: bool = True,
    command: tuple[str, ...] = COMMAND,
) -> Path:
    """Write an export into a folder.

    Args:
        run: the model's RUN folder.
        kind: "onnx" (a zip of the file, its notes and the model card), "merged" or "peft".
        folder: where to write; the caller removes it.
        backbone: spec of the model's backbone.
        offline: whether the hub must not be asked for its weights.
        command: what exports; reads an order on its standard input.

    Raises:
        InputError: the run cannot be written in this format, with the reason.
        RequestRefused: 503 where the export fails.
    """
    if kind == "peft":  # files of the run folder, packed
        from wara.export import export

        return export(run, kind, folder / NAMES[kind])
    order = {"run": str(run), "kind": kind, "out": str(folder / NAMES[kind]), "backbone": backbone}
    try:  # one at a time, by the lane: each holds a model of its own in memory
        found = work_apart(command, order, limit_s=LIMIT_S, offline=offline)
    except NoAnswer as error:
        log.error("An export failed: %s\n%s", error.kind, error.said)
        raise RequestRefused(
            503,
            "The model could not be exported",
            seen=error.kind,
            remedy="Try once more; if it fails again, the server's log says why.",
            code="export-failed",
        ) from error
    made = folder / str(found["file"])
    return _with_notes(made, run / "card.md") if kind == "onnx" else made


def _with_notes(onnx: Path, card: Path) -> Path:
    archive = onnx.with_name("onnx.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for file in (onnx, onnx.with_name(f"{onnx.name}.json"), card):
            target.write(file, file.name)
    return archive
