"""``python -m wara.inference_apart``: hold models in a process of its own, and answer and explain images by them.

Who asks then shares neither the interpreter's lock nor memory with a network: a server stays as quick as it is without
one, and goes on when one takes too much. Orders come on standard input and answers go to standard output
(`wara.messages`), each with its order's number. What takes seconds and no model waits for no other: a model is loaded,
and a recipe tried, beside the answers of those that are here. The process ends when its input does, whatever it is at.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING

from wara.messages import Message, failure, read_message, standard_streams, write_message
from wara.waiting import wait_briefly

if TYPE_CHECKING:
    from wara.held_models import HeldModels

_BESIDE = ("load", "fits")


class _Answers:
    """Where answers go, from several threads."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()

    def give(self, models: HeldModels, order: Message) -> None:
        try:
            head, body = models.answer(*order)
            self.send({"number": order[0]["number"], **head}, body)
        except BaseException:
            os._exit(1)  # in whatever thread: whoever asked must not wait for ever

    def send(self, head: dict[str, object], body: bytes = b"") -> None:
        with self._lock:
            write_message(self._file, head, body)
            self._file.flush()


def _read_all(orders: IO[bytes], waiting: SimpleQueue[Message]) -> None:
    """Read the next order while the one before it is worked on; end the process when there are no more."""
    try:
        while (order := read_message(orders)) is not None:
            waiting.put(order)
    finally:
        os._exit(0)  # nobody waits for an answer any more


def main() -> int:
    """Answer orders until there are no more."""
    wait_briefly()  # before numpy is imported
    with standard_streams() as (orders, file):
        answers, waiting = _Answers(file), SimpleQueue[Message]()
        threading.Thread(target=_read_all, args=(orders, waiting), daemon=True).start()
        try:
            from wara.held_models import HeldModels
        except Exception as error:
            # No image was seen yet: its words name what is not installed, and no patient.
            answers.send({"number": None, **failure(error), "error": str(error)})
            return 1
        models, beside = HeldModels(), ThreadPoolExecutor(1)
        while True:
            order = waiting.get()
            if order[0]["task"] in _BESIDE:
                beside.submit(answers.give, models, order)
            else:
                answers.give(models, order)


if __name__ == "__main__":
    sys.exit(main())
