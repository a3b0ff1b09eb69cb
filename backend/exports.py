"""Exports of models for other programs, made when they are asked for; those that load the model by a process apart.

Tracing a model for ONNX changes PyTorch for the whole process while it lasts: predictions of other threads fail then.
"""

from __future__ import annotations

import logging
import sys
import threading
import zipfile
from pathlib import Path

from backend.apart import NoAnswer, work_apart
from backend.problems import RequestRefused, not_found

COMMAND = (sys.executable, "-m", "wara.export")
LIMIT_S = 600.0
NAMES = {"onnx": "model.onnx", "merged": "merged.safetensors", "peft": "peft.zip"}
# Each holds a model of its own in memory.
_ONE_AT_A_TIME = threading.Lock()

log = logging.getLogger("backend.exports")


def make_export(
    run: Path,
    kind: str,
    folder: Path,
    *,
    model_id: str,
    backbone: str,
    offline: bool = True,
    command: tuple[str, ...] = COMMAND,
) -> Path:
    """Write an export into a folder.

    Args:
        run: the model's RUN folder.
        kind: "onnx" (a zip of the file, its notes and the model card), "merged" or "peft".
        folder: where to write; the caller removes it.
        model_id: for the 404 of a model that was deleted meanwhile.
        backbone: spec of the model's backbone.
        offline: whether the hub must not be asked for its weights.
        command: what exports; reads an order on its standard input.

    Raises:
        InputError: the run cannot be written in this format, with the reason.
        RequestRefused: 404 where the model is gone, 503 where the export fails.
    """
    if kind == "peft":  # files of the run folder, packed
        from wara.export import export

        return export(run, kind, folder / NAMES[kind])
    order = {"run": str(run), "kind": kind, "out": str(folder / NAMES[kind]), "backbone": backbone}
    with _ONE_AT_A_TIME:
        try:
            found = work_apart(command, order, limit_s=LIMIT_S, offline=offline)
        except NoAnswer as error:
            if not run.is_dir():
                raise not_found("model", model_id) from error
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
