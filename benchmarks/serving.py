"""How fast images are classified over HTTP: 64 clients at once, and one alone, beside the bare backbone.

    python -m benchmarks.serving [--quick] [--clients N] [--rounds N] [--json FILE]

A real server classifies by a WaRA model of the demo (embedded backbone, 224 px). In every round, in turn: the bare
backbone runs forward in a loop on batches of 32 in float32, nothing decoded; 64 clients send one drawn JPEG each to
``/predict``, take the answer and send the next; the bare backbone runs on one image at a time; one client does. The
server and whoever measures share the machine; the bare backbone has it for itself.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image

from benchmarks import report
from benchmarks.server import Server, good, running
from wara.backbones import load_backbone

PIXELS = 224
BATCH = 32
BOUNDARY = "----wara-serving"
TRAINING = {"method": "wara", "backbone": "embedded", "preset": "quick", "recipe": {"epochs": 1}}


def requests(model_id: str, number: int) -> list[bytes]:
    """Return whole HTTP requests, each with one drawn JPEG of another content."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        body = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{index}.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode() + buffer.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode()  # fmt: skip
        head = (
            f"POST /api/v1/models/{model_id}/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def ask(address: str, sent: Sequence[bytes], clients: int) -> list[float]:
    """Send every request by clients that each wait for their answer; return the seconds of each."""
    parts = urlsplit(address)
    left = iter(sent)
    seconds: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for request in left:
            start = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            status = int(head.split(b" ", 2)[1])
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            if status != 200 or b'"error":null' not in body:
                raise SystemExit(f"The server answered {status}: {body[:300]!r}")
            seconds.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds


def train(server: Server) -> str:
    """Draw the demo, train on it for one pass, return the model's id."""
    dataset = good(server.client.post("/api/v1/datasets/demo")).json()["id"]
    while good(server.client.get(f"/api/v1/datasets/{dataset}")).json()["status"] != "ready":
        time.sleep(0.2)
    job = good(server.client.post("/api/v1/jobs", json=TRAINING | {"dataset_id": dataset})).json()["id"]
    while (now := good(server.client.get(f"/api/v1/jobs/{job}")).json())["state"] not in ("succeeded", "failed"):
        time.sleep(0.5)
    if now["state"] == "failed":
        raise SystemExit(f"The training failed: {now['error']}")
    return str(good(server.client.get("/api/v1/models")).json()["items"][0]["id"])


def forward(model: torch.nn.Module, images: torch.Tensor, seconds: float) -> float:
    """Run a bare model in a loop for some seconds; return the seconds of one image."""
    done, start = 0, time.perf_counter()
    with torch.inference_mode():
        while (spent := time.perf_counter() - start) < seconds:
            model(images)
            done += len(images)
    return spent / done


def percentile(seconds: list[float], share: float) -> float:
    """Return a percentile in milliseconds."""
    return 1000 * float(np.percentile(seconds, 100 * share))


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = report.parser_of(__doc__, "500 images, 2 rounds")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--images", type=int, default=1500, help="of all clients together, a round")
    parser.add_argument("--rounds", type=int, default=5)
    if parser.parse_args().quick:
        parser.set_defaults(images=500, rounds=2)
    options = parser.parse_args()
    number, rounds = options.images, options.rounds

    bare = load_backbone("embedded", 3).model.eval()
    many, one = torch.randn(BATCH, 3, PIXELS, PIXELS), torch.randn(1, 3, PIXELS, PIXELS)
    together: list[tuple[float, float]] = []  # images/s of the clients and of the bare backbone, round by round
    alone: list[tuple[float, float]] = []  # milliseconds of one image, in the same order
    shares: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), ("-m", "backend")) as server:
        sent = requests(train(server), number)
        address = str(server.client.base_url)
        asyncio.run(ask(address, sent[:200], options.clients))
        forward(bare, many, 2)
        before = server.all_memory_mb("VmRSS")
        server.forget_peak()
        for _ in range(rounds):
            peer = 1 / forward(bare, many, 4)
            start = time.perf_counter()
            seconds = asyncio.run(ask(address, sent, options.clients))
            together.append((number / (time.perf_counter() - start), peer))
            shares.append((percentile(seconds, 0.5), percentile(seconds, 0.99)))
            single = 1000 * forward(bare, one, 2)
            alone.append((percentile(asyncio.run(ask(address, sent[:100], 1)), 0.5), single))
        peak = server.all_memory_mb("VmHWM")

    over = statistics.median(ours - peer for ours, peer in alone)
    print(f"{number:,} images a round, {options.clients} clients; one image alone takes {over:+.1f} ms over the peer\n")
    p50, p99 = zip(*shares, strict=True)
    bare_name = "bare backbone, float32"
    report.publish(
        report.destination(options, "serving"),
        [
            report.compare(f"{options.clients} clients", *zip(*together, strict=True),
                           peer_name=f"{bare_name}, batch {BATCH}", unit="images/s"),
            report.compare("one client", *zip(*alone, strict=True), peer_name=f"{bare_name}, one image", unit="ms"),
            report.compare("p99 of the clients", p99, p50, peer_name="p50", unit="ms"),
            report.row("memory, with models and decoders", peak, before, peer_name="before", unit="MiB", runs=rounds),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
