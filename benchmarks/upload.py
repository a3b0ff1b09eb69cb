"""How fast a folder of small images arrives: by packs over tus, as the page sends it, beside copying it on the disk.

    python -m benchmarks.upload [--quick] [--files N] [--rounds N] [--json FILE]

Small JPEG files are drawn, then in every round, in turn: copied by ``shutil.copytree``; sent to a real server in packs
of 8 MiB with sha256 (what ``assets/upload.js`` does, here by a client in Python); and sent as multipart forms of 100
files, the interface's older way. The server writes every byte to the disk before it acknowledges it; the copy is not
flushed. Peak memory is the server's own, after it has imported what it imports by itself.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import report
from benchmarks.server import Server, good, running
from benchmarks.timing import interleaved, ratio_of

PACK_BYTES = 8 * 1024 * 1024
PACK_FILES = 1000
FORM_FILES = 100
PIXELS = 192


def draw(folder: Path, files: int, pixels: int = PIXELS) -> list[Path]:
    """Write JPEG files of smooth noise, about 6 kB each at 192 pixels, in two class folders."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(files):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8))
        path = folder / "ab"[number % 2] / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((pixels, pixels), Image.Resampling.BICUBIC).save(path, "JPEG", quality=85)
        paths.append(path)
    return paths


def begin(server: Server) -> str:
    """Make a data set that receives; return its id."""
    answer = server.client.post("/api/v1/datasets", files={"finish": (None, "false")})
    return str(good(answer).json()["id"])


def end(server: Server, dataset: str, files: int) -> None:
    """Check that all has arrived, and delete it."""
    arrived = good(server.client.get(f"/api/v1/datasets/{dataset}/arrived")).json()
    if arrived["files"] != files or arrived["refused"]:
        raise SystemExit(f"{arrived['files']} of {files} files arrived, {arrived['refused_count']} were refused")
    good(server.client.delete(f"/api/v1/datasets/{dataset}"))


def send_packs(server: Server, root: Path, files: list[Path]) -> str:
    """Send a folder as the page does, but with the first bytes in a request of their own, as tus-js-client has it.

    Returns:
        The id of the data set, which still receives.
    """
    dataset = begin(server)
    version = {"Tus-Resumable": "1.0.0"}
    for pack in packs(files):
        head = json.dumps([[path.relative_to(root).as_posix(), path.stat().st_size] for path in pack]).encode() + b"\n"
        body = head + b"".join(path.read_bytes() for path in pack)
        named = f"dataset {base64.b64encode(dataset.encode()).decode()}"
        begun = server.client.post(
            "/api/v1/uploads", headers={**version, "Upload-Length": str(len(body)), "Upload-Metadata": named}
        )
        total = base64.b64encode(hashlib.sha256(body).digest()).decode()
        headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        headers["Upload-Checksum"] = f"sha256 {total}"
        good(server.client.patch(good(begun).headers["location"], content=body, headers=version | headers))
    return dataset


def send_by_tus(server: Server, root: Path, files: list[Path]) -> None:
    """Send a folder in packs, and delete what came of it."""
    end(server, send_packs(server, root, files), len(files))


def packs(files: list[Path]) -> Iterator[list[Path]]:
    """Divide files as ``assets/upload.js`` does."""
    pack: list[Path] = []
    size = 0
    for path in files:
        one = path.stat().st_size
        if pack and (len(pack) >= PACK_FILES or size + one > PACK_BYTES):
            yield pack
            pack, size = [], 0
        pack.append(path)
        size += one
    if pack:
        yield pack


def send_as_forms(server: Server, root: Path, files: list[Path]) -> None:
    """Send a folder as multipart forms."""
    dataset = begin(server)
    for start in range(0, len(files), FORM_FILES):
        form = [
            ("files", (path.relative_to(root).as_posix(), io.BytesIO(path.read_bytes())))
            for path in files[start : start + FORM_FILES]
        ]
        good(server.client.post(f"/api/v1/datasets/{dataset}/files", files=form))
    end(server, dataset, len(files))


def copy(root: Path, target: Path) -> None:
    """Copy a folder on the disk, and delete the copy."""
    shutil.copytree(root, target)
    shutil.rmtree(target)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="1,000 files, 3 rounds")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    number, rounds = (1_000, 3) if options.quick else (options.files, options.rounds)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "drawn"
        files = draw(root, number)
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        with running(Path(folder) / "data") as server:
            peaks: dict[str, list[float]] = {"tus packs": [], "multipart forms": []}
            before = server.memory_mb("VmRSS")

            def watched(name: str, send: Callable[[Server, Path, list[Path]], None]) -> None:
                server.forget_peak()
                send(server, root, files)
                peaks[name].append(server.memory_mb("VmHWM"))

            seconds = interleaved(
                {
                    "copying": lambda: copy(root, Path(folder) / "copy"),
                    "tus packs": lambda: watched("tus packs", send_by_tus),
                    "multipart forms": lambda: watched("multipart forms", send_as_forms),
                },
                rounds,
                warm_up=1,
            )
    print(f"{number:,} JPEG files, {megabytes:,.1f} MB in all, {rounds} rounds; server before: {before:,.0f} MB\n")
    print("| way | files/s | MB/s | time over copying | server's peak memory |\n|---|---|---|---|---|")
    rows = []
    for name, times in seconds.items():
        median = statistics.median(times)
        ratio, spread = ratio_of(times, seconds["copying"])
        peak = f"{max(peaks[name]):,.0f} MB" if name in peaks else ""
        print(f"| {name} | {number / median:,.0f} | {megabytes / median:,.1f} | {ratio:.2f} ± {spread:.2f} | {peak} |")
        if name != "copying":
            copied = statistics.median(seconds["copying"])
            rows.append(
                report.row(
                    name, number / median, number / copied, peer_name="copying", unit="files/s", runs=rounds,
                    spread=spread / ratio,
                )
            )  # fmt: skip
            rows.append(
                report.row(f"{name}, peak memory", max(peaks[name]), before, peer_name="server at rest", unit="MB",
                           runs=rounds)
            )  # fmt: skip
    report.write(options.json, rows)


if __name__ == "__main__":
    main()
