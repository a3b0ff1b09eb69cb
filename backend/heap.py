"""The server's memory: one heap for all its threads, tidied every now and then, so that it does not grow with use."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

from wara.heap import of_glibc

_M_ARENA_MAX = -8  # of glibc's malloc.h
_TIDY_EVERY_S = 30.0
_is_servers_own = False


def share_one_heap() -> bool:
    """Have all threads of this process take memory from one heap; return whether they will.

    glibc gives threads heaps ("arenas") of their own, up to eight a core, and keeps in each what was freed there. After
    10,000 uploads in ever other threads 497 MB were held so and not used; with one heap the process ended 74 MB above
    its start, with two 166 MB. To be called before there are threads: glibc reads the limit when a second thread first
    asks for memory.

    Nothing is done where the C library has no such thing (macOS, musl), or where ``MALLOC_ARENA_MAX`` says otherwise.
    """
    global _is_servers_own
    _is_servers_own = True
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    mallopt = of_glibc("mallopt")
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, 1))


def keep_tidy() -> None:
    """From now on give back every half minute what is not used; to be called once all is imported.

    Python looks through all objects only when a quarter of as many new ones have come, which beside 780,000 of the
    start is so rare that tracebacks and answers lie about meanwhile, with the images that they hold. Those of the start
    are therefore left out of the search, which then takes milliseconds. Nothing is done in a process that holds other
    things beside a server, as tests do.
    """
    if not _is_servers_own:
        return
    gc.collect()
    gc.freeze()
    threading.Thread(target=_tidy, args=(of_glibc("malloc_trim"),), name="tidy", daemon=True).start()


def _tidy(trim: Any) -> None:
    rest = threading.Event()
    while not rest.wait(_TIDY_EVERY_S):
        gc.collect()
        if trim is not None:
            trim(0)
