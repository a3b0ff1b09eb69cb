"""What bad input of each kind is told: builds each, gives it to the program, prints the answers (docs/bad-input.md).

    python -m tools.bad_input --write      # without --write it prints

Nothing here words an answer: every sentence is the program's own, from the API, the reading of images or the command
line, in a data folder made for the purpose.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fastapi.testclient import TestClient

from backend.decoding import Decoders
from backend.main import create_app
from backend.settings import Settings
from tools.bad_input_cases import DECODERS, IMAGES, ORDERS, UPLOADS, WEIGHTS, Files, make_zip, picture, study
from wara import cli
from wara.errors import InputError, UnreadableImage
from wara.imaging import read_square

DOCUMENT = Path(__file__).parent.parent / "docs" / "bad-input.md"
API = "/api/v1"
Row = tuple[str, str]
_HEAD = """# What bad input is told

Every sentence below is the program's own: `python -m tools.bad_input --write` builds each bad input, gives it to the
program and writes this page; a test compares the two. An answer says what was wrong, the value seen, and what to do.
"""
_ANSWER_SECONDS = 60


def document() -> str:
    """Return the page."""
    parts = [
        _HEAD,
        _section(
            "Image files",
            "Given to *Classify* or *Data*, or on the command line. In a data set such a file is passed over and\n"
            "listed with its reason; it stops none of the others.",
            [*_images(), *_decoders()],
        ),
    ]
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder) / "data") as http:
        orders, weights, requests = _orders(http), _weights(http), _requests(http)
        parts += [
            _section("Data sets", "Uploaded to `POST /api/v1/datasets`, or on the page *Data*.", _uploads(http)),
            _section("Trainings", "Asked for by `POST /api/v1/jobs`, or on the page *Train*.", orders),
            _section("Weights files", "Added by `POST /api/v1/backbones`, or on the page *Train*.", weights),
            _section("Other requests", "", requests),
        ]
    parts.append(_section("Command line", "On stderr, with exit status 2.", _commands()))
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.name} instead of printing it")
    options = parser.parse_args(arguments)
    text = document()
    if options.write:
        DOCUMENT.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


def _images() -> Iterator[Row]:
    for kind, (name, make) in IMAGES.items():
        try:
            _, image = read_square(make(), name, 64)
        except UnreadableImage as error:
            yield kind, error.sentence()
            continue
        grey = "grey" if image.greyscale else "colour"
        yield kind, f"*Is read*: {image.width} x {image.height} pixels, {image.bits} bits, {grey}."


def _decoders() -> Iterator[Row]:
    for kind, (make, memory_mb, limit_s, size) in DECODERS.items():
        decoders = Decoders(1, memory_mb=memory_mb, limit_s=limit_s)
        try:
            list(decoders.squares(make(), "scan.tif", size))
            raise InputError("This bad input was not refused", seen=kind, remedy="Mend the case.")
        except UnreadableImage as error:
            yield kind, error.sentence()
        finally:
            decoders.close()


@contextlib.contextmanager
def _server(folder: Path, **options: Any) -> Iterator[Any]:
    settings = Settings(data_dir=folder, front_end=False, min_free_mb=1, device="cpu", log_level="error", **options)
    with TestClient(create_app(settings), base_url="http://127.0.0.1:7860") as client:
        yield client


def _uploads(http: Any) -> Iterator[Row]:
    for kind, make in UPLOADS.items():
        yield kind, _uploaded(http, make())
    first = _upload(http, study(5)).json()["id"]
    yield "the same data a second time", _said(_upload(http, study(5)))
    http.delete(f"{API}/datasets/{first}")
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder) / "data", max_upload_mb=1) as small:
        yield "more than WARA_MAX_UPLOAD_MB (1 here)", _said(_upload(small, {"a/1.png": bytes(2_000_000)}))
    yield "no file in the upload", _said(http.post(f"{API}/datasets", files=[("name", (None, b"nothing"))]))


def _uploaded(http: Any, files: Files) -> str:
    """What an upload is told: refused at once, found wanting as it is checked, or used with a finding."""
    answer = _upload(http, files)
    if answer.status_code != 201:
        return _said(answer)
    address = f"{API}/datasets/{answer.json()['id']}"
    found = _await(lambda: _settled(http, address))
    try:
        if found["status"] != "ready":
            return str(found["error"]["detail"])
        findings = http.get(f"{address}/report").json()["findings"]
        serious = [finding["sentence"] for finding in findings if finding["severity"] == "serious"]
        return f"*Is kept, and the data report says*: {' '.join(serious)}"
    finally:
        http.delete(address)


def _settled(http: Any, address: str) -> Any:
    found = http.get(address).json()
    return found if found["status"] in ("ready", "failed", "mapping") else None


def _upload(http: Any, files: Files) -> Any:
    return http.post(f"{API}/datasets", files=[("files", (name, data)) for name, data in files.items()])


def _orders(http: Any) -> list[Row]:
    dataset = _upload(http, study(5)).json()["id"]
    _await(lambda: _settled(http, f"{API}/datasets/{dataset}"))
    plain = {"dataset_id": dataset, "backbone": "vit_tiny_untrained"}
    rows = [(kind, _said(http.post(f"{API}/jobs", json=plain | change))) for kind, change in ORDERS.items()]
    http.delete(f"{API}/datasets/{dataset}")
    return rows


def _weights(http: Any) -> list[Row]:
    return [
        (kind, _said(http.post(f"{API}/backbones", files={"file": (file, make())}, data={"name": name})))
        for kind, (name, file, make) in WEIGHTS.items()
    ]


def _requests(http: Any) -> list[Row]:
    json = {"content-type": "application/json"}
    return [
        ("a model that is not there", _said(http.get(f"{API}/models/none/card"))),
        ("a body that is no JSON", _said(http.post(f"{API}/jobs", content=b"{", headers=json))),
        ("an address that is not there", _said(http.get(f"{API}/nothing"))),
        ("a method that the address does not take", _said(http.put(f"{API}/health"))),
        ("a page of another site", _said(http.post(f"{API}/jobs", json={}, headers={"origin": "http://evil.example"}))),
        ("a host name that is not allowed", _said(http.get(f"{API}/health", headers={"host": "evil.example"}))),
    ]


def _commands() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "empty").mkdir()
        for name, content in study(3).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        (root / "full").mkdir()
        (root / "full" / "notes.txt").write_text("something else")
        (root / "set.zip").write_bytes(make_zip({"a/1.png": picture(0)})[:60])
        data, run, gone = str(root / "study"), str(root / "run"), "deit_tiny_patch16_224:gone.safetensors"
        commands: dict[str, list[str]] = {
            "a folder that is not there": ["check", str(root / "nothing")],
            "an empty folder": ["check", str(root / "empty")],
            "a zip that is cut off": ["check", str(root / "set.zip")],
            "a table that is not there": ["check", data, "--labels", str(root / "none.csv")],
            "a pattern that cannot be read": ["check", data, "--pattern", r"(?P<patient>\d+"],
            "an output that holds something else": ["train", data, "--out", str(root / "full")],
            "--option without a value": ["train", data, "--out", run, "--option", "augment"],
            "an option that is not known": ["train", data, "--out", run, "--option", "colour=red"],
            "a device that is not there": ["train", data, "--out", run, "--device", "tpu"],
            "a backbone that is not known": ["train", data, "--out", run, "--backbone", "vit_huge_nonsense"],
            "a weights file that is not there": ["train", data, "--out", run, "--backbone", gone],
            "a folder that is no run": ["predict", str(root / "empty"), str(root / "study/benign/0.png")],
            "an export format that is not known": ["export", run, "--format", "tflite", "--out", str(root / "x")],
        }
        for kind, words in commands.items():
            yield kind, _command(words, root)


def _command(words: list[str], root: Path) -> str:
    """Run a command in this process and return what it says on its way out."""
    said = io.StringIO()
    with (
        patch.object(sys, "argv", ["wara", *words]), contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(said), contextlib.suppress(SystemExit),
    ):  # fmt: skip
        cli.main()
    return said.getvalue().strip().replace(f"{root}/", "").removeprefix("Error: ")


def _said(answer: Any) -> str:
    problem = answer.json()
    if "detail" not in problem:
        raise InputError("This bad input was not refused", seen=answer.text[:200], remedy="Mend the case.")
    return str(problem["detail"])


def _await(ask: Callable[[], Any]) -> Any:
    end = time.monotonic() + _ANSWER_SECONDS
    while not (answer := ask()):
        if time.monotonic() > end:
            raise TimeoutError("The server did not come to an end with a data set")
        time.sleep(0.02)
    return answer


def _section(title: str, about: str, rows: Iterator[Row] | list[Row]) -> str:
    lines = [f"| {_cell(kind)} | {_cell(answer)} |" for kind, answer in rows]
    head = [f"## {title}", "", *([about, ""] if about else [])]
    return "\n".join([*head, "| what comes in | what is said |", "|---|---|", *lines, ""])


def _cell(text: str) -> str:
    flat = " ".join(text.split())
    return flat.replace("|", "\\|").replace("&", "&amp;").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main())
