"""A trained run as a server uses it: files are read here, with limits; its network answers in a process of its own."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.model_process import ModelProcess
from backend.problems import RequestRefused, not_found
from wara.errors import InputError
from wara.imaging.view import DicomView
from wara.messages import Message
from wara.predictions import Decode, Prediction, Reader, ReadFile, answer_readable


class ServedModel:
    """One run, as it was when it was loaded; its network goes when nobody holds this any more.

    Args:
        process: holds the network.
        model_id: its name here.
        run: the RUN folder.
        backbone: spec of its backbone.
        device: "auto", "cpu", "cuda" or "mps".
        decode: how files become squares.

    Raises:
        RequestRefused: 404: the folder is gone.
        InputError: the folder is not a whole run, or the backbone is not the one that it was trained on.
    """

    def __init__(
        self, process: ModelProcess, model_id: str, run: Path, backbone: str, device: str, decode: Decode
    ) -> None:
        self.id = model_id
        self._process = process
        key = secrets.token_hex(8)
        weakref.finalize(self, process.drop, key)
        self._name: dict[str, Any] = {"key": key, "run": str(run), "backbone": backbone, "device": device}
        try:
            facts, _ = process.ask({"task": "load", **self._name})
        except InputError as error:
            if error.code != "run-missing":
                raise
            raise not_found("model", model_id) from error  # deleted since its row was read
        self.classes = tuple(facts["classes"])
        # Of two classes the operating point, as when the model was loaded.
        self.threshold: float | None = facts["threshold"]
        self._name["threshold"] = self.threshold
        self.reader = Reader(facts["size"], facts["fit"], DicomView(facts["frames"], facts["window"]), decode)

    def read(self, name: str, content: bytes | InputError) -> ReadFile:
        """Decode a file as the model takes it, or say why that cannot be."""
        return self.reader.read(name, content)

    def answer(self, files: Sequence[ReadFile]) -> list[Prediction]:
        """Classify files that were read, together; those that could not be read get their reason.

        Raises:
            RequestRefused: 409: the process ended, and the run judges by another rule or is gone since; or as there.
        """
        return answer_readable(files, self._answers_of)

    def explain(
        self, content: bytes, name: str, target: str | None, themes: Sequence[str]
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Return why an image got its class, as `wara.analysis.explain` has it, and its figure in each theme, as PNG.

        Raises:
            InputError: as there.
        """
        order = {"task": "explain", "name": name, "target": target, "themes": list(themes)}
        head, pictures = self._ask(order, [content])
        figures, start = [], 0
        for size in head["sizes"]:
            figures.append(pictures[start : start + size])
            start += size
        return head["explanation"], figures

    def _answers_of(self, squares: list[NDArray[np.uint8]], counts: list[int]) -> list[Prediction]:
        body = [np.ascontiguousarray(square).data.cast("B") for square in squares]
        head, _ = self._ask({"task": "answer", "counts": counts}, body)
        sets = [None if one["classes"] is None else tuple(one["classes"]) for one in head["answers"]]
        return [Prediction(**{**one, "classes": held}) for one, held in zip(head["answers"], sets, strict=True)]

    def _ask(self, order: dict[str, Any], body: Sequence[bytes | memoryview]) -> Message:
        try:
            return self._process.ask({**order, **self._name}, body)
        except InputError as error:
            if error.code not in ("model-changed", "run-missing", "run-incomplete"):
                raise
            raise RequestRefused(
                409, "The model was changed or deleted while it worked on this", remedy="Look at the models, and begin "
                "anew, so that all images are judged by one rule.", code="model-changed",
            ) from error  # fmt: skip
