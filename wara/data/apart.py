"""``python -m wara.data.apart``: decode images in a process of its own, so that what a file does to it ends there.

Orders come on standard input and answers go to standard output, each as two lengths, a JSON object and bytes; nothing
that a damaged decoder could write is ever run by who reads it. An order may hold many small files: what one costs on
the way is then little. The process ends when its input does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import struct
import sys
import time
import traceback
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from wara.data.seen import see
from wara.errors import InputError, UnreadableImage
from wara.imaging import DicomView, read_squares

_LENGTHS = struct.Struct("<IQ")
# Answers wait this long for the next ones: each that is sent by itself wakes who reads it.
_GATHER_S = 0.02
Message = tuple[dict[str, Any], bytes]


def write_message(file: IO[bytes], head: dict[str, Any], body: bytes = b"") -> None:
    """Write one order or answer; it is on its way when the file is flushed."""
    text = json.dumps(head).encode()
    file.write(_LENGTHS.pack(len(text), len(body)) + text)
    file.write(body)


def read_message(file: IO[bytes]) -> Message | None:
    """Read one order or answer; None at the end of the stream, also within a message.

    Raises:
        ValueError: what stands there is no message.
    """
    lengths = file.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    text_length, body_length = _LENGTHS.unpack(lengths)
    text, body = file.read(text_length), file.read(body_length)
    if len(text) < text_length or len(body) < body_length:
        return None
    head = json.loads(text)
    if not isinstance(head, dict):
        raise ValueError("no message")
    return head, body


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
                facts = {f.name: getattr(seen, f.name) for f in dataclasses.fields(seen) if f.name != "thumbnail"}
                yield {"kind": "seen", **facts}, seen.thumbnail or b""
        else:
            for square, image in read_squares(data, name, order["size"], order["fit"], view, frame):
                facts = {f.name: getattr(image, f.name) for f in dataclasses.fields(image) if f.name != "pixels"}
                yield {"kind": "square", "shape": square.shape, **facts}, np.ascontiguousarray(square).tobytes()
        yield {"kind": "end"}, b""
    except InputError as error:
        unreadable = isinstance(error, UnreadableImage)
        said = {"what": error.what, "remedy": error.remedy, "seen": error.seen, "code": error.code}
        yield {"kind": "refused", "unreadable": unreadable, **said}, b""
    except MemoryError:
        said = {"what": "The image does not fit into memory", "remedy": "Export it smaller.", "code": "too-large"}
        yield {"kind": "refused", "unreadable": True, "seen": name, **said}, b""
    except Exception as error:
        # Without the error's own words, which may quote a header; who asked writes it to its log.
        frames = "".join(traceback.format_tb(error.__traceback__))
        yield {"kind": "failed", "said": f"{frames}{type(error).__name__}"}, b""


def _limit(memory_mb: int) -> None:
    """Take no more memory than this, and leave no dump of it behind; systems without such limits go without."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))


def main() -> int:
    """Answer orders until there are no more."""
    _limit(int(sys.argv[1]))
    # Decoders of C print to the descriptor itself, where it would stand among the answers.
    with os.fdopen(os.dup(1), "wb") as answers, os.fdopen(os.dup(0), "rb") as orders:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        with contextlib.suppress(BrokenPipeError):
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
