"""How long threads that compute together wait for each other awake: briefly, so that processes can share the cores."""

from __future__ import annotations

import os

# Of libgomp, which torch's builds for Linux use: turns of its loop, about 150 microseconds. Most gaps between an
# operation and the next are shorter; with a third of them one image through a small network took twice as long.
_TURNS = "3000"


def wait_briefly() -> None:
    """Let threads that compute sleep soon when others are not there yet; to be called before numpy is imported.

    By itself libgomp waits awake for 300,000 turns, milliseconds, at the end of every operation. Where a training and
    the server compute on the same cores, one's waiting threads then hold the core that the other's working thread
    needs, and both come nearly to a halt. numpy's own threads (OpenBLAS) wait awake behind every product; ours are
    small, and beside them a network took twice as long to answer, so there numpy computes in one thread. Processes that
    are started later inherit both. Nothing is done where the environment says how to wait, or how many threads.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _TURNS)
