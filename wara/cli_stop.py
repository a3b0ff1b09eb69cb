"""Ctrl-C while a run trains: the first ends it after its step, with what was done kept; the second ends it at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def stopping_by_keys(told: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Yield what says whether Ctrl-C was pressed inside the ``with`` block.

    Until it is asked for the first time nobody would hear, so that a press raises KeyboardInterrupt as usual.

    Args:
        told: called at the first press; a second one raises KeyboardInterrupt.
    """
    asked, heard = threading.Event(), threading.Event()

    def is_asked() -> bool:
        heard.set()
        return asked.is_set()

    if threading.current_thread() is not threading.main_thread():
        yield is_asked  # signals are the main thread's
        return
    before = signal.getsignal(signal.SIGINT)

    def pressed(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not heard.is_set():
            raise KeyboardInterrupt
        asked.set()
        told()

    signal.signal(signal.SIGINT, pressed)
    try:
        yield is_asked
    finally:
        signal.signal(signal.SIGINT, before)
