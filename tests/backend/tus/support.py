"""A client of the upload protocol, in the few words that its tests need."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from tests.backend.support import API, Studio

UPLOADS = f"{API}/uploads"
VERSION = {"Tus-Resumable": "1.0.0"}
CHUNK = {**VERSION, "Content-Type": "application/offset+octet-stream"}


def packed(files: dict[str, bytes]) -> bytes:
    """Many files as one upload."""
    head = json.dumps([[name, len(data)] for name, data in files.items()])
    return head.encode() + b"\n" + b"".join(files.values())


def metadata(**values: str) -> dict[str, str]:
    pairs = (f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())
    return {"Upload-Metadata": ",".join(pairs)}


def checksum(data: bytes, algorithm: str = "sha256") -> dict[str, str]:
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"}


class Sender:
    """Sends to one server by the protocol."""

    def __init__(self, studio: Studio, folder: Path) -> None:
        self.http = studio.http
        self.folder = folder

    def dataset(self, **fields: str) -> str:
        answer = self.http.post(f"{API}/datasets", files={"finish": (None, "false")}, data=fields)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def begin(self, dataset: str, length: int, **values: str) -> Any:
        headers = {**VERSION, "Upload-Length": str(length), **metadata(dataset=dataset, **values)}
        return self.http.post(UPLOADS, headers=headers)

    def begun(self, dataset: str, length: int, **values: str) -> str:
        answer = self.begin(dataset, length, **values)
        assert answer.status_code == 201, answer.text
        return answer.headers["location"]

    def patch(self, url: str, offset: int, data: bytes, **headers: str) -> Any:
        return self.http.patch(url, content=data, headers={**CHUNK, "Upload-Offset": str(offset)} | headers)

    def offset(self, url: str) -> int:
        answer = self.http.head(url, headers=VERSION)
        assert answer.status_code == 200, answer.status_code
        return int(answer.headers["upload-offset"])

    def send(self, dataset: str, data: bytes, **values: str) -> str:
        url = self.begun(dataset, len(data), **values)
        answer = self.patch(url, 0, data, **checksum(data))
        assert answer.status_code == 204, answer.text
        return url

    def arrived(self, dataset: str) -> dict[str, Any]:
        return self.http.get(f"{API}/datasets/{dataset}/arrived").json()

    def names(self, dataset: str) -> list[str]:
        """What has arrived, as the server lists it for itself."""
        manifest = self.folder / "staging" / dataset / "manifest.jsonl"
        return [json.loads(line)["name"] for line in manifest.read_text().splitlines()] if manifest.exists() else []

    def finish(self, dataset: str) -> Any:
        return self.http.post(f"{API}/datasets/{dataset}/finish")
