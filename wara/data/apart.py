"""``python -m wara.data.apart``: decode images in a process of its own, so that what a file does to it ends there.

Orders come on standard input and answers go to standard output (`wara.messages`); nothing that a damaged decoder could
write is ever run by who reads it. An order may hold many small files: what one costs on the way is then little. The
process ends when its input does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from wara.data.seen import see
from wara.errors import InputError, UnreadableImage
from wara.imaging import DicomView, read_squares
from wara.messages import Message, failure, read_message, refusal, standard_streams, write_message

# Answers wait this long for the next ones: each that is sent by itself wakes who reads it.
_GATHER_S = 0.02


def answer(order: dict[str, Any], data: bytes) -> Iterator[Message]:
    """Yield for each file of an order an answer for each of its images, and how it ended: "end", "refused", "failed".

    Args:
        order: the ``task`` ("see" or "squares") with its options, and ``files``, each a name, a frame's number and the
            number of its bytes.
        data: the files' bytes, one file after the other.
    """
    start = 0
    for name, frame, size in order["files"]:
        yield from _answer(order, name, frame, data[start : start + size])
        start += size


def _answer(order: dict[str, Any], name: str, frame: int | None, data: bytes) -> Iterator[Message]:
    try:
        view = DicomView(order["frames"], order["window"])
        if order["task"] == "see":
            for seen in see(data, name, view, frame, order["thumbnail"]):
                yield seen.as_message()
        else:
            for square, image in read_squares(data, name, order["size"], order["fit"], view, frame):
                facts = {f.name: getattr(image, f.name) for f in dataclasses.fields(image) if f.name != "pixels"}
                yield {"kind": "square", "shape": square.shape, **facts}, np.ascontiguousarray(square).tobytes()
        yield {"kind": "end"}, b""
    except InputError as error:
        yield refusal(error), b""
    except MemoryError:
        what = "The image does not fit into memory"
        yield refusal(UnreadableImage(what, seen=name, remedy="Export it smaller.", code="too-large")), b""
    except Exception as error:
        yield failure(error), b""


def _limit(memory_mb: int) -> None:
    """Take no more memory than this, and leave no dump of it behind; systems without such limits go without."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))


def main() -> int:
    """Answer orders until there are no more."""
    _limit(int(sys.argv[1]))
    with standard_streams() as (orders, answers):
        while (order := read_message(orders)) is not None:
            sent = time.monotonic()
            for head, body in answer(*order):
                write_message(answers, head, body)
                if time.monotonic() - sent > _GATHER_S:
                    answers.flush()
                    sent = time.monotonic()
            answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
