"""``python -m tests.load``: classifying, uploads, visits and a training at once; percentiles, errors and memory.

    pip install -r tests/load/requirements.txt
    python -m tests.load [--seconds 300] [--clients 76]

A real server with a model of the demo, whose training runs once more meanwhile. It fails on any 5xx but a 503 that says
when to come again, on any other unexpected refusal, and where the server's memory grows by more than a fifth between
the second and the last minute.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.server import good, running
from benchmarks.serving import TRAINING, train

HERE = Path(__file__).parent
SHOWN = ("50%", "95%", "99%", "100%")
WATCHED_EVERY_S = 5
# A department's hour, assumed: ten people at once who each make ten requests a minute, images they classify included.
REQUESTS_AN_HOUR = 6_000


def say(line: str) -> None:
    """Write a line."""
    sys.stdout.write(line + "\n")


def curve(memory: list[float], requests: int) -> str:
    """Return memory by minute, how it went in the second half, and how many hours of use the requests stand for."""
    minutes = [f"{value:,.0f}" for value in memory[:: 60 // WATCHED_EVERY_S]]
    later = memory[len(memory) // 2 :]
    slope = np.polyfit(np.arange(len(later)) * WATCHED_EVERY_S / 60, later, 1)[0] if len(later) > 1 else float("nan")
    hours = requests / REQUESTS_AN_HOUR
    return (
        f"By minute: {', '.join(minutes)}; in the second half {slope:+.1f} MiB a minute.\n"
        f"{requests:,} requests: {hours:.1f} hours of a department, at {REQUESTS_AN_HOUR:,} an hour (assumed)."
    )


def main() -> int:
    """Run the mix; print one table; return 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--clients", type=int, default=76, help="64 that classify to 4 that upload and 8 that look")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has locust, if not this one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(
        Path(folder) / "data", ("-m", "backend"), pages=True
    ) as server:
        model = train(server)
        dataset = good(server.client.get("/api/v1/datasets")).json()["items"][0]["id"]
        long = TRAINING | {"dataset_id": dataset, "recipe": {"epochs": 1000, "patience": 1000}}
        job = good(server.client.post("/api/v1/jobs", json=long)).json()["id"]
        memory: list[float] = []
        over = threading.Event()

        def watch() -> None:
            while not over.wait(WATCHED_EVERY_S):
                memory.append(server.all_memory_mb("VmRSS"))

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.monotonic()
        results = Path(folder) / "load"
        command = [
            options.python, "-m", "locust", "-f", str(HERE / "locustfile.py"), "--headless", "--only-summary",
            "-u", str(options.clients), "-r", "20", "-t", f"{options.seconds}s", "--host", str(server.client.base_url),
            "--csv", str(results),
        ]  # fmt: skip
        environment = os.environ | {"WARA_LOAD_MODEL": model, "WARA_LOAD_DATASET": dataset}
        with (Path(folder) / "locust.log").open("w") as log:
            subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
        seconds = time.monotonic() - began
        over.set()
        watcher.join()
        state = good(server.client.get(f"/api/v1/jobs/{job}")).json()["state"]
        good(server.client.post(f"/api/v1/jobs/{job}/cancel"))
        while good(server.client.get(f"/api/v1/jobs/{job}")).json()["state"] == "running":
            time.sleep(0.5)  # until then it writes into the folder that is to go
        table = results.with_name("load_stats.csv")
        if not table.exists():
            say((Path(folder) / "locust.log").read_text()[-2000:])
            return 1
        rows = list(csv.DictReader(table.open()))
    say(f"{options.clients} clients for {seconds:.0f} s; the training beside them: {state}\n")
    say("| request | number | per second | failed | p50 ms | p95 ms | p99 ms | longest ms |")
    say("|---|---|---|---|---|---|---|---|")
    failed = 0
    for row in rows:
        name = row["Name"] if row["Type"] != "busy" else f"told to come later: {row['Name']}"
        failed += int(row["Failure Count"]) if row["Name"] != "Aggregated" else 0
        times = " | ".join(f"{float(row[share]):,.0f}" for share in SHOWN)
        rate = float(row["Requests/s"])
        say(f"| {name} | {int(row['Request Count']):,} | {rate:,.1f} | {row['Failure Count']} | {times} |")
    settled = memory[len(memory) // 5] if memory else float("nan")
    shown = (memory[0], settled, max(memory), memory[-1])
    words = "\nServer's memory, MiB: {:,.0f} at first, {:,.0f} after a fifth, {:,.0f} at most, {:,.0f} at the end"
    say(words.format(*shown))
    say(curve(memory, sum(int(row["Request Count"]) for row in rows if row["Name"] == "Aggregated")))
    grown = memory[-1] > 1.2 * settled
    return int(failed > 0 or grown or state != "running")


if __name__ == "__main__":
    sys.exit(main())
