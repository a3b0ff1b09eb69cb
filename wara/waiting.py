"""How long threads that compute together wait for each other awake: briefly, so that processes can share the cores."""

from __future__ import annotations

import os

# Of libgomp, which torch's builds for Linux use: turns of its loop, about 50 microseconds. The gaps between an
# operation and the next are shorter.
_TURNS = "1000"


def wait_briefly() -> None:
    """Let threads of OpenMP sleep soon when others are not there yet; to be called before torch is imported.

    By itself libgomp waits awake for 300,000 turns, milliseconds, at the end of every operation. Where a training and
    the server compute on the same cores, one's waiting threads then hold the core that the other's working thread
    needs, and both come nearly to a halt. Processes that are started later inherit it. Nothing is done where the
    environment says how to wait.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _TURNS)
