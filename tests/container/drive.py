"""What check.sh asks of a running container, over HTTP from outside, with the standard library alone."""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

CLASSIFIED = 6
# A proxy that is set for the internet must not be asked for an address of this machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def say(text: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{text}\n")


def call(address: str, path: str, *, body: bytes | None = None, kind: str = "application/json") -> Any:
    """Ask the API, and end with the problem's own sentence where it refuses."""
    request = urllib.request.Request(f"{address}/api/v1/{path}", data=body, headers={"Content-Type": kind})
    try:
        with _opener.open(request, timeout=120) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"{path}: {error.code} {error.read().decode(errors='replace')}")


def upload(address: str, path: str, files: dict[str, bytes]) -> Any:
    """Send files with their relative paths as the browser does."""
    mark = uuid.uuid4().hex
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in files.items()
    ]
    body = b"".join(parts) + f"--{mark}--\r\n".encode()
    return call(address, path, body=body, kind=f"multipart/form-data; boundary={mark}")


def wait(address: str, since: float, limit: float) -> None:
    """Print the seconds since ``since`` at which the server says that it is well."""
    while time.time() - since < limit:
        try:
            with _opener.open(f"{address}/api/v1/health", timeout=5) as answer:
                if json.load(answer)["status"] == "ok":
                    say(f"{time.time() - since:.1f}")
                    return
        except (OSError, ValueError):
            pass
        time.sleep(0.2)
    sys.exit(f"The server did not answer within {limit:.0f} s.")


def until(address: str, path: str, field: str, ends: tuple[str, ...], limit: float) -> Any:
    """Poll a data set or a job until it has come to one of its ends; the first of them is the good one."""
    begun = time.monotonic()
    while time.monotonic() - begun < limit:
        answer = call(address, path)
        if answer[field] == ends[0]:
            return answer
        if answer[field] in ends:
            sys.exit(f"{path}: {answer[field]}, {answer['error']}")
        time.sleep(0.3)
    sys.exit(f"{path}: still {answer[field]} after {limit:.0f} s")


def classify(address: str, model: str, folder: Path) -> list[dict[str, Any]]:
    """Classify a few of the images; every one must be read."""
    chosen = sorted((folder / "images").rglob("*.*"))[:: max(1, 36 // CLASSIFIED)]
    answer = upload(address, f"models/{model}/predict", {path.name: path.read_bytes() for path in chosen})
    if answer["passed_over"]:
        sys.exit(f"{answer['passed_over']} of {len(chosen)} images could not be classified")
    items: list[dict[str, Any]] = answer["items"]
    return items


def work(address: str, folder: Path, limit: float) -> None:
    """Upload the images, train one pass over them, classify some, and note what must still be there later."""
    images = folder / "images"
    files = {f"check/{p.relative_to(images).as_posix()}": p.read_bytes() for p in images.rglob("*.*")}
    dataset = upload(address, "datasets", files)["id"]
    ready = until(address, f"datasets/{dataset}", "status", ("ready", "failed"), limit)
    offered = [item for item in call(address, "backbones")["items"] if item["available"]]
    backbone = next((item for item in offered if item["source"] == "embedded"), offered[-1])
    order = {"dataset_id": dataset, "backbone": backbone["id"], "recipe": {"epochs": 1, "batch_size": 8}}
    begun = time.monotonic()
    job = call(address, "jobs", body=json.dumps(order).encode())["id"]
    done = until(address, f"jobs/{job}", "state", ("succeeded", "failed", "cancelled"), limit)
    seconds = time.monotonic() - begun
    items = classify(address, done["model_id"], folder)
    noted = {"dataset": dataset, "images": ready["images"], "job": job, "model": done["model_id"], "items": items}
    (folder / "noted.json").write_text(json.dumps(noted), encoding="utf-8")
    say(f"  {ready['images']} images, {backbone['label']}: trained in {seconds:.1f} s, {len(items)} classified")


def still_there(address: str, folder: Path) -> None:
    """Find data set, training and model again, and the same answers of the model."""
    noted = json.loads((folder / "noted.json").read_text(encoding="utf-8"))
    images = {item["id"]: item["images"] for item in call(address, "datasets")["items"]}
    jobs = {item["id"]: item["state"] for item in call(address, "jobs")["items"]}
    models = [item["id"] for item in call(address, "models")["items"]]
    if images != {noted["dataset"]: noted["images"]}:
        sys.exit(f"The data set is not there as it was: {images}")
    if jobs != {noted["job"]: "succeeded"} or models != [noted["model"]]:
        sys.exit(f"The training or its model is not there as it was: {jobs}, {models}")
    for before, after in zip(noted["items"], classify(address, noted["model"], folder), strict=True):
        apart = max(
            abs(before["probabilities"][name] - after["probabilities"][name]) for name in after["probabilities"]
        )
        if apart > 1e-4:
            sys.exit(f"The model answers differently: {before['file']}, {apart:.2g} apart")
    say(f"  the data set of {noted['images']} images, the training and its model are there, with the same answers")


def health_command(inspected: Any) -> None:
    """Print the image's HEALTHCHECK command, words ended by NUL; docker and podman keep it in different places."""
    image = inspected[0]
    check = (image.get("Config") or {}).get("Healthcheck") or image.get("HealthCheck") or image.get("Healthcheck")
    if not check or check["Test"][0] != "CMD":
        sys.exit("The image has no HEALTHCHECK. With buildah, build in docker's format (--format docker).")
    sys.stdout.write("".join(f"{word}\0" for word in check["Test"][1:]))


def main() -> None:
    """Do the one step that check.sh asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    for step in ("wait", "work", "still-there", "health-command"):
        one = steps.add_parser(step)
        if step != "health-command":
            one.add_argument("address")
        if step in ("work", "still-there"):
            one.add_argument("folder", type=Path)
        if step == "wait":
            one.add_argument("--since", type=float, required=True)
        if step in ("wait", "work"):
            one.add_argument("--limit", type=float, default=300.0)
    given = parser.parse_args()
    if given.step == "wait":
        wait(given.address, given.since, given.limit)
    elif given.step == "work":
        work(given.address, given.folder, given.limit)
    elif given.step == "still-there":
        still_there(given.address, given.folder)
    else:
        health_command(json.load(sys.stdin))


if __name__ == "__main__":
    main()
