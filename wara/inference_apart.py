"""``python -m wara.inference_apart``: hold models in a process of its own, and answer and explain images by them.

Who asks then shares neither the interpreter's lock nor memory with a network: a server stays as quick as it is without
one, and goes on when one takes too much. Orders come on standard input and answers go to standard output, in the same
order (`wara.messages`). The process ends when its input does, whatever it is at.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from wara.waiting import wait_briefly

if __name__ == "__main__":
    wait_briefly()  # before what is imported below imports numpy

import numpy as np

from wara.backbones import outline_backbone
from wara.errors import InputError
from wara.inference import Predictor
from wara.messages import Message, failure, read_message, refusal, standard_streams, write_message
from wara.training.methods import build
from wara.training.recipe import Recipe


class Models:
    """The models of this process: loaded when an order first names them; the one not used for longest is let go.

    Args:
        capacity: models in memory at once.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()

    def answer(self, order: dict[str, Any], body: bytes) -> Message:
        """Return what comes of an order, of the kind "done"; what cannot be is "refused" or has "failed".

        Args:
            order: the ``task`` with what it needs: "load", "forget", "answer" and "explain" for a model, named by
                ``run``, ``backbone`` and ``device``; "fits" for a recipe on a backbone that is not here yet.
            body: the squares of all files (n, size, size, 3) uint8 for "answer", an image file for "explain".
        """
        try:
            found, said = getattr(self, f"_{order['task']}")(order, body)
            return {"kind": "done", **found}, said
        except InputError as error:
            return refusal(error), b""
        except Exception as error:
            return failure(error), b""

    def _get(self, order: dict[str, Any]) -> Predictor:
        run = order["run"]
        if run not in self._loaded:
            while len(self._loaded) >= self._capacity:
                self._loaded.popitem(last=False)
            self._loaded[run] = Predictor.load(Path(run), device=order["device"], backbone=order["backbone"])
            gc.collect()
            gc.freeze()  # what stays is not looked through again and again
        self._loaded.move_to_end(run)
        return self._loaded[run]

    def _load(self, order: dict[str, Any], body: bytes) -> Message:
        model = self._get(order)
        return {
            "classes": model.classes,
            "size": model.reader.size,
            "fit": model.reader.fit,
            "frames": model.view.frames,
            "window": model.view.window,
            "threshold": model.answers.threshold,
        }, b""

    def _forget(self, order: dict[str, Any], body: bytes) -> Message:
        self._loaded.pop(order["run"], None)
        return {}, b""

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


def _read_all(orders: IO[bytes], waiting: SimpleQueue[Message]) -> None:
    """Read the next order while the one before it is worked on; end the process when there are no more."""
    try:
        while (order := read_message(orders)) is not None:
            waiting.put(order)
    finally:
        os._exit(0)  # nobody waits for an answer any more


def main() -> int:
    """Answer orders until there are no more."""
    models = Models(int(sys.argv[1]))
    waiting: SimpleQueue[Message] = SimpleQueue()
    with standard_streams() as (orders, answers):
        threading.Thread(target=_read_all, args=(orders, waiting), daemon=True).start()
        while True:
            write_message(answers, *models.answer(*waiting.get()))
            answers.flush()


if __name__ == "__main__":
    sys.exit(main())
