"""Peak memory of whole processes, ours and the peers'."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.processes import watch
from tests.benchmarks.commands import in_its_time, run_benchmark


@in_its_time
def test_the_whole_network_is_measured_by_us_and_by_a_script(tmp_path: Path) -> None:
    written = run_benchmark("memory", tmp_path, "--batch", "4", "--steps", "1", "--methods", "wara")

    peers = {row["peer_name"]: row["peer"] for row in written["rows"]}
    assert set(peers) == {"full fine-tuning by the app", "full fine-tuning by a script", "LoRA script"}
    assert len({row["ours"] for row in written["rows"]}) == 1
    # A process that has imported torch and run a network; a step of four images tells little more.
    assert all(300 < value < 5_000 for value in peers.values()), peers


def test_the_peak_of_a_process_is_seen_from_outside() -> None:
    small, large = (
        watch(["-c", f"import time; held = b'x' * {size}; time.sleep(0.3); print(len(held))"])
        for size in (1, 200 * 2**20)
    )

    assert large.output.strip() == str(200 * 2**20)
    assert 150 < large.peak_mb - small.peak_mb < 250


def test_a_process_that_fails_ends_the_benchmark_with_its_code() -> None:
    with pytest.raises(SystemExit, match="ended with code 3"):
        watch(["-c", "import sys; sys.exit(3)"])
