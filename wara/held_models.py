"""Trained models held ready for whoever asks by messages: loaded under a key, let go when the key is dropped."""

from __future__ import annotations

import dataclasses
import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np

from wara.backbones import outline_backbone
from wara.errors import InputError
from wara.inference import Predictor
from wara.messages import Message, failure, refusal
from wara.training.methods import build
from wara.training.recipe import Recipe


class HeldModels:
    """The models of this process, and what can be asked of them; orders may come from several threads.

    A model stays as it was loaded for as long as its key is known, whatever becomes of its folder.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Predictor] = {}
        self._lock = threading.Lock()

    def answer(self, order: dict[str, Any], body: bytes) -> Message:
        """Return what comes of an order, of the kind "done"; what cannot be is "refused" or has "failed".

        Args:
            order: the ``task`` with what it needs: "load", "answer" and "explain" for a model, named by ``key``,
                ``run``, ``backbone`` and ``device``, the latter two with the ``threshold`` that loading told; "fits"
                for a recipe on a backbone that is not here yet. ``drop`` has keys that nobody will name again.
            body: the squares of all files (n, size, size, 3) uint8 for "answer", an image file for "explain".
        """
        try:
            with self._lock:
                for key in order.get("drop", ()):
                    self._loaded.pop(key, None)
            found, said = getattr(self, f"_{order['task']}")(order, body)
            return {"kind": "done", **found}, said
        except InputError as error:
            return refusal(error), b""
        except Exception as error:
            return failure(error), b""

    def _load(self, order: dict[str, Any], body: bytes) -> Message:
        model = Predictor.load(Path(order["run"]), device=order["device"], backbone=order["backbone"])
        with self._lock:
            self._loaded[order["key"]] = model
        gc.collect()
        gc.freeze()  # what stays is not looked through again and again
        return {
            "classes": model.classes,
            "size": model.reader.size,
            "fit": model.reader.fit,
            "frames": model.view.frames,
            "window": model.view.window,
            "threshold": model.answers.threshold,
        }, b""

    def _get(self, order: dict[str, Any]) -> Predictor:
        """Return a model, anew where the process that loaded it has ended.

        Raises:
            InputError: it judges by another rule now than when whoever asks first had it loaded.
        """
        if order["key"] not in self._loaded:
            self._load(order, b"")
        model = self._loaded[order["key"]]
        if model.answers.threshold != order["threshold"]:
            raise InputError(
                "The model's operating point was changed while its images were classified",
                remedy="Classify them again, so that all are judged by one rule.", code="model-changed",
            )  # fmt: skip
        return model

    def _fits(self, order: dict[str, Any], body: bytes) -> Message:
        recipe = Recipe(**order["recipe"])
        build(outline_backbone(order["name"], image_size=recipe.image_size), recipe)
        return {}, b""

    def _answer(self, order: dict[str, Any], body: bytes) -> Message:
        model = self._get(order)
        size = model.reader.size
        squares = np.frombuffer(body, np.uint8).reshape(-1, size, size, 3)
        return {"answers": [dataclasses.asdict(one) for one in model.answers_of(list(squares), order["counts"])]}, b""

    def _explain(self, order: dict[str, Any], body: bytes) -> Message:
        from wara.analysis.explain import Explainer
        from wara.analysis.explanation_figure import draw_explanation
        from wara.analysis.style import to_png

        found = Explainer(self._get(order)).explain(body, order["name"], target=order["target"])
        figures = [to_png(draw_explanation(found, theme=theme), 1.6) for theme in order["themes"]]
        return {"explanation": found.to_json(), "sizes": [len(figure) for figure in figures]}, b"".join(figures)
