"""Memory that is not used any more goes back to the system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wara.heap import of_glibc

# Small pieces, so that they lie in the heap; a last one that stays keeps its end where it is.
PROGRAM = """
from pathlib import Path
from wara.heap import give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

pieces = [bytes(100_000) for _ in range(3000)]
kept = bytes(100_000)
full = resident()
pieces.clear()
before = resident()
give_back()
print(full, before, resident())
"""


@pytest.mark.skipif(of_glibc("malloc_trim") is None, reason="another C library than glibc")
def test_memory_of_what_is_gone_is_given_back() -> None:
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=True)
    full, before, after = map(int, ran.stdout.split())
    assert before > full - 50e6  # by itself the C library keeps it
    assert after < before - 200e6
