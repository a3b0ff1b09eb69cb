"""How a process of its own is told what to do and answers: lengths, a JSON object, bytes; nothing that is ever run."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import traceback
from collections.abc import Iterator
from typing import IO, Any

from wara.errors import InputError, UnreadableImage

_LENGTHS = struct.Struct("<IQ")
Message = tuple[dict[str, Any], bytes]


def write_message(file: IO[bytes], head: dict[str, Any], *body: bytes | memoryview) -> None:
    """Write one order or answer, its bytes in one piece or several; it is on its way when the file is flushed."""
    for piece in packed(head, *body):
        file.write(piece)


def packed(head: dict[str, Any], *body: bytes | memoryview) -> list[bytes | memoryview]:
    """Return one order or answer as it is written.

    Raises:
        TypeError: the head holds what JSON has no form for.
    """
    text = json.dumps(head).encode()
    return [_LENGTHS.pack(len(text), sum(len(piece) for piece in body)) + text, *body]


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


def refusal(error: InputError) -> dict[str, Any]:
    """Return an error that a person is meant to read as the head of an answer; `refused` makes it one again."""
    said = {"what": error.what, "remedy": error.remedy, "seen": error.seen, "code": error.code}
    return {"kind": "refused", "unreadable": isinstance(error, UnreadableImage), **said}


def refused(head: dict[str, Any]) -> InputError:
    """Return the error of an answer of the kind "refused"."""
    kind = UnreadableImage if head["unreadable"] else InputError
    return kind(head["what"], seen=head["seen"], remedy=head["remedy"], code=head["code"])


def failure(error: Exception) -> dict[str, Any]:
    """Return an error that nobody foresaw as the head of an answer, for a log: where it was, and its kind.

    Its own words are left out; they may quote a header.
    """
    frames = "".join(traceback.format_tb(error.__traceback__))
    return {"kind": "failed", "said": f"{frames}{type(error).__name__}"}


@contextlib.contextmanager
def standard_streams() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Give this process's standard input and output for orders and answers, and to everybody else nothing.

    Libraries of C print to the descriptor itself, where it would stand among the answers.
    """
    with os.fdopen(os.dup(0), "rb") as orders, os.fdopen(os.dup(1), "wb") as answers:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        with contextlib.suppress(BrokenPipeError):
            yield orders, answers
