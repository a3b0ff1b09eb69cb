"""What the C library holds of memory that is not used any more, and how it is given back."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any


def give_back() -> None:
    """Give memory that nothing uses back to the system, between two parts of a work that need different amounts.

    A training's last step leaves hundreds of megabytes in the heap, beside which the analysis asks for its own. Nothing
    is done where the C library is not glibc.
    """
    gc.collect()
    trim = of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def of_glibc(name: str) -> Any:
    """Return a function of glibc, or None where another C library is in use."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
