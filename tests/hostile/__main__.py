"""``python -m tests.hostile``: thousands of bad uploads to a real server, and whether it is as it was afterwards."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import psutil

from backend.jobs.process import ROOT
from tests.backend.support import API, Server, Studio, study, wait_until
from tests.hostile.doors import OUTCOMES, Hostile

# A server that keeps what it was sent grows by far more; what an allocator holds back of a few images stays below.
MOST_GROWTH_MB = 300
MOST_LEFT_BYTES = 8 << 20
MEGABYTE = 1 << 20
# Of the loads these are the warm-up: every door once, all that is imported on first use.
WARM_UP = 11
# Of the memory that are shown.
STEPS = 10


@dataclass
class Outcome:
    """What a run found.

    Attributes:
        counted: files by kind and what became of them.
        seconds: by kind, shared out by the number of files of each load.
        faults: answers that must not be, and lines of the log about errors that nobody foresaw.
        same_process: whether the server of the beginning still runs.
        memory_mb: of the server and its decoders, after the warm-up, at the most, and at the end.
        memory_steps: the same at even steps of the run, to see whether it still rises.
        left_bytes: of files in the data folder at the end beyond those of the beginning.
        left_files: those files, but for the database.
    """

    counted: Counter[tuple[str, str]]
    seconds: dict[str, float]
    faults: list[str]
    same_process: bool
    memory_mb: tuple[float, float, float]
    memory_steps: list[float]
    left_bytes: int
    left_files: list[str]

    @property
    def good(self) -> bool:
        """Whether the server held."""
        first, _, last = self.memory_mb
        clean = not self.faults and not self.left_files and self.left_bytes < MOST_LEFT_BYTES
        return clean and self.same_process and last - first < MOST_GROWTH_MB


def run(folder: Path, uploads: int, seed: int) -> Outcome:
    """Start a server on an empty folder, train a small model, and send so many bad files through every door."""
    server = Server(folder / "data", WARA_LOG_LEVEL="info")
    (folder / "data").mkdir()
    studio = server.start()
    assert server.process is not None
    try:
        model_id = _train(studio)
        process = psutil.Process(server.process.pid)
        before = _files(folder / "data")
        hostile = Hostile(studio.http, model_id, ("Traceback", "/site-packages/", str(folder), str(ROOT)))
        counted: Counter[tuple[str, str]] = Counter()
        seconds: defaultdict[str, float] = defaultdict(float)
        memory: list[float] = []
        for turn, (door, rng, count) in enumerate(hostile.loads(uploads, seed)):
            began = time.perf_counter()
            found = door(rng, count)
            took = time.perf_counter() - began
            for (kind, _), number in found.items():
                seconds[kind] += took * number / found.total()
            counted += found
            if turn + 1 >= WARM_UP:
                memory.append(_memory_mb(process))
        wait_until(lambda: studio.http.get(f"{API}/health").status_code == 200)
        gc.collect()
        after = _files(folder / "data")
        new = {name: size for name, size in after.items() if name not in before and not name.startswith("wara.db")}
        log = server.log()
        hostile.faults += [line for line in log.splitlines() if "Unexpected error" in line]
        same = server.process.poll() is None and process.is_running()
        if hostile.faults:
            sys.stderr.write("\n".join(line for line in log.splitlines() if " INFO " not in line))
        memory = memory or [_memory_mb(process)]
        return Outcome(
            counted, dict(seconds), hostile.faults, same, (memory[0], max(memory), _memory_mb(process)),
            memory[:: max(1, len(memory) // STEPS)], sum(after.values()) - sum(before.values()), sorted(new),
        )  # fmt: skip
    finally:
        server.stop(signal.SIGTERM)


def _train(studio: Studio) -> str:
    dataset_id = studio.ready(study(6))["id"]
    job = studio.ended(studio.train(dataset_id, epochs=1, rank=2)["id"])
    assert job["state"] == "succeeded", job
    return str(job["model_id"])


def _files(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def _memory_mb(process: psutil.Process) -> float:
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / MEGABYTE


def table(found: Outcome) -> str:
    """Return what became of the files, a line a kind."""
    lines = [f"{'kind':10}{'generated':>10}" + "".join(f"{name:>13}" for name in OUTCOMES) + f"{'seconds':>10}"]
    kinds = sorted({kind for kind, _ in found.counted})
    for kind in kinds:
        numbers = [found.counted[kind, outcome] for outcome in OUTCOMES]
        lines.append(
            f"{kind:10}{sum(numbers):>10,}" + "".join(f"{n:>13,}" for n in numbers) + f"{found.seconds[kind]:>10.1f}"
        )
    totals = [sum(found.counted[kind, outcome] for kind in kinds) for outcome in OUTCOMES]
    whole = f"{'all':10}{sum(totals):>10,}" + "".join(f"{n:>13,}" for n in totals)
    first, most, last = found.memory_mb
    return "\n".join([
        *lines, f"{whole}{sum(found.seconds.values()):>10.1f}", "",
        f"server errors and answers that tell too much: {len(found.faults)}",
        f"crashes of the server: {0 if found.same_process else 1}",
        f"memory: {first:,.0f} MB after every door once, {most:,.0f} MB at the most, {last:,.0f} MB at the end",
        f"memory at even steps, MB: {', '.join(f'{value:,.0f}' for value in found.memory_steps)}",
        f"disk: {found.left_bytes:+,} bytes, {len(found.left_files)} files left behind",
    ])  # fmt: skip


def main() -> int:
    """Run, print the table; 1 where the server did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--uploads", type=int, default=10_000, help="bad files to send")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wara-hostile-") as folder:
        found = run(Path(folder), chosen.uploads, chosen.seed)
    sys.stdout.write(table(found) + "\n")
    for fault in found.faults[:50]:
        sys.stdout.write(f"{fault}\n")
    for name in found.left_files[:20]:
        sys.stdout.write(f"left behind: {name}\n")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
