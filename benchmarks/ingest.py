"""How fast 10,000 images become a data set, from the first byte sent to the catalogue, beside decoding them.

    python -m benchmarks.ingest [--quick] [--files N] [--json FILE]

JPEG files are drawn, then in every round, in turn: decoded by Pillow in one loop; and sent to a real server in packs
over tus, as the page does, which checks, de-identifies, hashes and catalogues them and looks for leaks and copies,
until the report and the first page of pictures are there. Making a thumbnail of every image, which the server does
when one is first looked at, is measured behind it. Memory is the most that the server's own process took, and it
together with those that decode for it; "flat" means that ten times the images take no more.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from benchmarks import report
from benchmarks.server import Server, good, running
from benchmarks.timing import in_turn
from benchmarks.upload import draw, send_packs

PEER = "Pillow in one loop"
PAGE = 24
VIEWERS = 4
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Ingested:
    """Seconds from the start until each stage was done, and memory in MiB.

    Attributes:
        uploaded: the last byte was acknowledged.
        ready: every image is checked and catalogued.
        shown: the report and the first page of thumbnails are there.
        thumbnails: every thumbnail is.
        server_mb: most memory of the server's process.
        together_mb: most memory of it and of the processes that decode for it.
    """

    uploaded: float
    ready: float
    shown: float
    thumbnails: float
    server_mb: float
    together_mb: float


def ingest(server: Server, root: Path, files: list[Path]) -> Ingested:
    """Send a folder, wait for the check, look at the data set as the page does, and delete it."""
    server.forget_peak()
    start = time.perf_counter()
    seconds = []

    def done() -> None:
        seconds.append(time.perf_counter() - start)

    with _watched(server) as most:
        dataset = send_packs(server, root, files)
        done()
        good(server.client.post(f"/api/v1/datasets/{dataset}/finish"))
        while (now := good(server.client.get(f"/api/v1/datasets/{dataset}")).json())["status"] == "checking":
            time.sleep(0.05)
        if now["status"] != "ready" or now["images"] != len(files):
            raise SystemExit(
                f"The data set is {now['status']} with {now['images']} of {len(files)} images: {now['error']}"
            )
        done()
        good(server.client.get(f"/api/v1/datasets/{dataset}/report"))
        with ThreadPoolExecutor(VIEWERS) as viewers:
            list(viewers.map(partial(_look, server), _page(server, dataset, 0, PAGE)))
            done()
            for offset in range(PAGE, len(files), 500):
                list(viewers.map(partial(_look, server), _page(server, dataset, offset, 500)))
        done()
    found = Ingested(*seconds, server_mb=server.memory_mb("VmHWM"), together_mb=max(most))
    good(server.client.delete(f"/api/v1/datasets/{dataset}"))
    return found


def decode(files: list[Path]) -> float:
    """Decode files by Pillow, one after the other; return the seconds."""
    start = time.perf_counter()
    for path in files:
        with Image.open(path) as image:
            image.load()
    return time.perf_counter() - start


def _page(server: Server, dataset: str, offset: int, limit: int) -> list[str]:
    page = good(server.client.get(f"/api/v1/datasets/{dataset}/images", params={"offset": offset, "limit": limit}))
    return [str(item["url"]) for item in page.json()["items"]]


def _look(server: Server, url: str) -> None:
    good(server.client.get(f"/{url.lstrip('/')}"))


@contextmanager
def _watched(server: Server) -> Iterator[list[float]]:
    """Note the memory of the server and its children every tenth of a second."""
    ended = threading.Event()
    most: list[float] = []

    def look() -> None:
        process = psutil.Process(server.process.pid)
        while True:
            most.append(sum(_resident(each) for each in (process, *process.children(recursive=True))) / 2**20)
            if ended.wait(_LOOK_SECONDS):
                return

    thread = threading.Thread(target=look, name="watching-memory")
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended since it was listed
        return 0


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = report.parser_of(__doc__, "1,000 files, one round")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--pixels", type=int, default=224, help="height and width of the drawn images")
    parser.add_argument("--rounds", type=int, default=3)
    if parser.parse_args().quick:
        parser.set_defaults(files=1_000, rounds=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "drawn"
        files = draw(root, options.files, options.pixels)
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        with running(Path(folder) / "data") as server:
            tenth = ingest(server, root, files[: max(PAGE, len(files) // 10)])
            steps: dict[str, Any] = {PEER: partial(decode, files), "ours": partial(ingest, server, root, files)}
            found = in_turn(steps, options.rounds)
    print(f"{len(files):,} JPEG files of {options.pixels} x {options.pixels} pixels, {megabytes:,.0f} MB in all\n")
    report.publish(report.destination(options, "ingest"), rows_of(len(files), found["ours"], found[PEER], tenth))


def rows_of(files: int, ours: list[Ingested], peer: list[float], tenth: Ingested) -> list[dict[str, Any]]:
    """Return the rows: throughput up to each stage, and memory beside that of a tenth of the images."""
    stages = {
        "uploaded": "upload alone",
        "ready": "upload, check, de-identify, hash, catalogue",
        "shown": "the same with the report and the first page of thumbnails",
        "thumbnails": "the same with a thumbnail of every image",
    }
    rates = [files / seconds for seconds in peer]
    rows = [
        report.compare(text, [files / getattr(run, stage) for run in ours], rates, peer_name=PEER, unit="images/s")
        for stage, text in stages.items()
    ]
    few = "a tenth of the images"
    for field, text in (("server_mb", "server's peak memory"), ("together_mb", "with its decoders")):
        before = [getattr(tenth, field)] * len(ours)
        rows.append(report.compare(text, [getattr(run, field) for run in ours], before, peer_name=few, unit="MiB"))
    return rows


if __name__ == "__main__":
    main()
