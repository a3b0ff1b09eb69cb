"""Small real images, and a client with the few steps that many tests of the server share."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from backend.jobs.process import ROOT, ProcessIdentity
from backend.main import create_app
from backend.settings import Settings

API = "/api/v1"
Upload = list[tuple[str, tuple[str, bytes, str]]]


def png(seed: int, *, coarse: bool = False, size: int = 48) -> bytes:
    """A grey texture; coarse ones have large patches, fine ones small."""
    step = 12 if coarse else 2
    texture = np.random.default_rng(seed).integers(0, 256, (size // step, size // step), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(texture).resize((size, size), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png(seed))).save(buffer, "JPEG")
    return buffer.getvalue()


def dicom_without_pixels() -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PatientID = "SECRET-4711"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def five_channel_tiff() -> bytes:
    """An uncompressed 4x4 TIFF with five samples a pixel, which no colour model knows."""
    entries = [
        (256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200),
        (277, 3, 1, 5), (278, 3, 1, 4), (279, 4, 1, 80), (284, 3, 1, 1),
    ]  # fmt: skip
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", 0)
    return (head + body).ljust(200, b"\0") + bytes(range(80))


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def study(per_class: int = 12, *, start: int = 0) -> dict[str, bytes]:
    """Two classes that differ by scale, as a browser names the files of a chosen folder."""
    return {
        f"study/{name}/{name}_{index}.png": png(start + index, coarse=name == "coarse")
        for name in ("coarse", "fine")
        for index in range(per_class)
    }


def as_form(files: dict[str, bytes]) -> Upload:
    return [("files", (name, data, "application/octet-stream")) for name, data in files.items()]


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Ask again until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.02)
    return answer


def start_instead(monkeypatch: pytest.MonkeyPatch, module: Any, program: str, *arguments: str) -> None:
    """Let a module that starts ``python -m NAME ...`` start this program in its place, with more arguments."""
    start = subprocess.Popen

    def started(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", program, *command[3:], *arguments], **options)

    monkeypatch.setattr(module.subprocess, "Popen", started)


class Studio:
    """A client of one server, with the few steps that many tests share."""

    def __init__(self, client: Any) -> None:
        self.http = client

    def upload(self, files: dict[str, bytes], **fields: str) -> Any:
        return self.http.post(f"{API}/datasets", files=as_form(files), data=fields)

    def dataset(self, dataset_id: str) -> dict[str, Any]:
        return self.http.get(f"{API}/datasets/{dataset_id}").json()

    def checked(self, dataset_id: str) -> dict[str, Any]:
        def settled() -> dict[str, Any] | None:
            found = self.dataset(dataset_id)
            return found if found["status"] in ("ready", "failed") else None

        return wait_until(settled)

    def ready(self, files: dict[str, bytes], **fields: str) -> dict[str, Any]:
        answer = self.upload(files, **fields)
        assert answer.status_code == 201, answer.text
        found = self.checked(answer.json()["id"])
        assert found["status"] == "ready", found
        return found

    def train(
        self, dataset_id: str, *, method: str = "wara", priority: str = "normal", **recipe: Any
    ) -> dict[str, Any]:
        order = {
            "dataset_id": dataset_id,
            "method": method,
            "backbone": "vit_tiny_untrained",
            "preset": "quick",
            "priority": priority,
            "recipe": {"epochs": 2, "batch_size": 8, "bootstrap": 20, "rank": 4} | recipe,
        }
        answer = self.http.post(f"{API}/jobs", json=order)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def job(self, job_id: str) -> dict[str, Any]:
        return self.http.get(f"{API}/jobs/{job_id}").json()

    def ended(self, job_id: str) -> dict[str, Any]:
        def over() -> dict[str, Any] | None:
            found = self.job(job_id)
            return found if found["state"] in ("succeeded", "failed", "cancelled") else None

        return wait_until(over, 300)


READY = "WaRA Studio is ready: "


class Server:
    """``python -m backend`` on a data folder, on any free port."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.extra = environment
        self.process: subprocess.Popen[str] | None = None
        self.client: httpx.Client | None = None

    def start(self) -> Studio:
        with (self.folder.parent / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "backend"],
                cwd=ROOT,
                env={**os.environ, **self.environment()},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(READY), self.log()
        self.client = httpx.Client(base_url=line.removeprefix(READY).strip(), timeout=60, trust_env=False)
        return Studio(self.client)

    def environment(self) -> dict[str, str]:
        return {
            "WARA_DATA_DIR": str(self.folder), "WARA_PORT": "0", "WARA_FRONT_END": "false", "WARA_DEVICE": "cpu",
            "WARA_MIN_FREE_MB": "1", **self.extra,
        }  # fmt: skip

    def log(self) -> str:
        return (self.folder.parent / "server.log").read_text()

    def stop(self, number: signal.Signals) -> int:
        assert self.process is not None and self.process.stdout is not None
        if self.client is not None:
            self.client.close()
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code

    def worker(self, job_id: str) -> ProcessIdentity:
        found = ProcessIdentity.noted_in(self.folder / "jobs" / job_id)
        assert found is not None
        return found


def settings_for(folder: Path, **values: Any) -> Settings:
    return Settings(data_dir=folder, front_end=False, min_free_mb=1, device="cpu", **values)


def serve(settings: Settings) -> TestClient:
    return TestClient(create_app(settings), base_url="http://127.0.0.1:7860")


def assert_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Check the form that every error has, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["code"] == code, problem
    assert problem["type"] == f"about:blank#{code}"
    assert (
        problem["title"] and problem["remedy"] in problem["detail"] and problem["detail"].startswith(problem["title"])
    )
    assert "Traceback" not in answer.text and "/site-packages/" not in answer.text
    return problem
