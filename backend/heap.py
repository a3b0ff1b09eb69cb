"""One heap for all threads of the server, so that what they have freed goes back to the system."""

from __future__ import annotations

import ctypes
import os
import sys

_M_ARENA_MAX = -8  # of glibc's malloc.h


def share_one_heap() -> bool:
    """Have all threads of this process take memory from one heap; return whether they will.

    glibc gives threads heaps ("arenas") of their own, up to eight a core, and never gives back what lies free between
    blocks in use, nor up to 64 MB at the top of each. After uploads and explanations in ever other threads that came to
    500 MB held and not used. Most allocations are of Python's own pools or of whole tensors, and either holds no lock
    for long. To be called before there are threads: glibc reads the limit when a second thread first asks for memory.

    Nothing is done where the C library has no such thing (macOS, musl), or where ``MALLOC_ARENA_MAX`` says otherwise.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, 1))
