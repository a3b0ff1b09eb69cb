"""``python -m tests.crash --rounds 20``: kill -9 at random moments, look what is left, print a table."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """Run the rounds; return 1 when one found something lost or different."""
    options = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--seed", type=int, default=0, help="of victims, moments and delays")
    options.add_argument("--folder", type=Path, help="where the server works; a temporary folder unless named")
    chosen = options.parse_args()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["WARA_OFFLINE"] = "true"

    from tests.crash.rounds import HEAD, Bench, plan

    with tempfile.TemporaryDirectory(prefix="wara-crash-") as temporary:
        root = chosen.folder or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        os.environ["WARA_HOME"] = str(root / "home")
        began = time.monotonic()
        bench = Bench(root, chosen.seed)
        failed = 0
        try:
            sys.stdout.write(f"undisturbed run: {bench.begin()}\n\n{HEAD}\n")
            for number, (victim, moment) in enumerate(plan(chosen.rounds, chosen.seed), 1):
                row = bench.round(number, victim, moment)
                failed += not row.ok
                sys.stdout.write(f"{row}\n")
                sys.stdout.flush()
        finally:
            bench.close()
        minutes = (time.monotonic() - began) / 60
        sys.stdout.write(f"\n{chosen.rounds - failed} of {chosen.rounds} rounds ok, {minutes:.1f} min\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
