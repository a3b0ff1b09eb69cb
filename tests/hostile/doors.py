"""Every way in for files from outside: each sends one load of bad files and says what became of each."""

from __future__ import annotations

import base64
import io
import json
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.backend.support import API, as_form, make_zip, png, wait_until
from tests.hostile import mutate

KINDS = ("png", "jpeg", "tiff", "webp", "bmp", "dicom")
SUFFIX = {"jpeg": "jpg", "tiff": "tif", "dicom": "dcm"}
OUTCOMES = ("refused", "passed over", "accepted")
# How many bad files one load holds; of the others each is a request of its own.
LOAD = 80
SHOWN = 12


@dataclass
class Found:
    """What became of the files of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Hostile:
    """Sends bad files through one door after the other.

    Args:
        client: of the server.
        model_id: a model to classify with.
        forbidden: texts that no answer may hold, such as the server's folders.
    """

    def __init__(self, client: httpx.Client, model_id: str, forbidden: tuple[str, ...]) -> None:
        self.http = client
        self.model_id = model_id
        self.forbidden = forbidden
        self.faults: list[str] = []

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request and note what must not be in an answer."""
        answer = self.http.request(method, f"{API}{path}", **options)
        if answer.status_code >= 500:
            self.faults.append(f"{answer.status_code} {method} {path}: {answer.text[:300]}")
        if "image/" not in answer.headers.get("content-type", ""):
            told = [text for text in self.forbidden if text in answer.text]
            if told:
                self.faults.append(f"{method} {path} tells {told[0]!r}: {answer.text[:300]}")
        return answer

    def images(self, rng: random.Random, count: int) -> tuple[dict[str, bytes], dict[str, str]]:
        """Return bad images under names of two classes, and the kind of each."""
        files, kinds = {}, {}
        for index in range(count):
            kind = rng.choice(KINDS)
            name = f"study/{'ab'[index % 2]}/bad_{index}.{SUFFIX.get(kind, kind)}"
            files[name], kinds[name] = mutate.image(kind, rng), kind
        return files, kinds

    def settle(self, answer: httpx.Response, kinds: dict[str, str]) -> Counter[tuple[str, str]]:
        """Wait for the check of a data set, look at all that it shows, delete it; count what became of each file."""
        if answer.status_code >= 300:
            return Counter((kind, "refused") for kind in kinds.values())
        dataset_id = answer.json()["id"]

        def over() -> dict[str, Any] | None:
            found = self.ask("GET", f"/datasets/{dataset_id}").json()
            return found if found["status"] not in ("checking", "receiving") else None

        found = wait_until(over, 300)
        counted: Counter[tuple[str, str]] = Counter()
        if found["status"] == "ready":
            report = self.ask("GET", f"/datasets/{dataset_id}/report").json()
            over_names = {entry["file"].rpartition("/")[2] for entry in report["passed_over"]["list"]}
            listed = self.ask("GET", f"/datasets/{dataset_id}/images", params={"limit": 500}).json()["items"]
            shown = [index for index, item in enumerate(listed) if "bad_" in item["file"]][:SHOWN]
            for index in shown:
                self.ask("GET", f"/datasets/{dataset_id}/images/{index}/thumbnail")
                self.ask("GET", f"/datasets/{dataset_id}/images/{index}/view")
                self.ask("GET", f"/datasets/{dataset_id}/images/{index}/text")
            for name, kind in kinds.items():
                counted[kind, "passed over" if name.rpartition("/")[2] in over_names else "accepted"] += 1
        else:
            self.ask("POST", f"/datasets/{dataset_id}/mapping/preview")
            counted = Counter((kind, "refused") for kind in kinds.values())
        self.ask("DELETE", f"/datasets/{dataset_id}")
        return counted

    def form(self, rng: random.Random, count: int) -> Counter[tuple[str, str]]:
        """A data set as a form."""
        files, kinds = self.images(rng, count)
        return self.settle(self.ask("POST", "/datasets", files=as_form(good(rng) | files)), kinds)

    def packed(self, rng: random.Random, count: int) -> Counter[tuple[str, str]]:
        """A data set as a pack, by tus."""
        files, kinds = self.images(rng, count)
        files = good(rng) | files
        begun = self.ask("POST", "/datasets", files=[("finish", (None, b"false"))]).json()["id"]
        pack = (
            json.dumps([[name, len(data)] for name, data in files.items()]).encode() + b"\n" + b"".join(files.values())
        )
        if rng.random() < 0.1:
            pack = mutate.raw(pack[:200], rng) + pack[200:]
        where = base64.b64encode(begun.encode()).decode()
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(pack)), "Upload-Metadata": f"dataset {where}",
                   "Content-Type": "application/offset+octet-stream"}  # fmt: skip
        sent = self.ask("POST", "/uploads", headers=headers, content=pack)
        if sent.status_code >= 300:
            self.ask("DELETE", f"/datasets/{begun}")
            return Counter((kind, "refused") for kind in kinds.values())
        return self.settle(self.ask("POST", f"/datasets/{begun}/finish"), kinds)

    def zipped(self, rng: random.Random, count: int) -> Counter[tuple[str, str]]:
        """A data set as a sound zip of bad images."""
        files, kinds = self.images(rng, count)
        return self.settle(self.ask("POST", "/datasets", files=as_form({"s.zip": make_zip(good(rng) | files)})), kinds)

    def predicted(self, rng: random.Random, count: int) -> Counter[tuple[str, str]]:
        """Images to classify."""
        files, kinds = self.images(rng, count)
        answer = self.ask("POST", f"/models/{self.model_id}/predict", files=as_form(files))
        return self._answered(answer, kinds)

    def batched(self, rng: random.Random, count: int) -> Counter[tuple[str, str]]:
        """A batch of images, as the page Classify sends it."""
        files, kinds = self.images(rng, count)
        named = [{"name": name, "size": len(data)} for name, data in files.items()]
        begun = self.ask("POST", f"/models/{self.model_id}/batches", json={"files": named}).json()["id"]
        answer = self.ask("POST", f"/batches/{begun}/files", files=as_form(files))
        for path in ("", ".csv", "/rows", "/patients", "/patients.csv"):
            self.ask("GET", f"/batches/{begun}{path}")
        self.ask("DELETE", f"/batches/{begun}")
        return self._answered(answer, kinds)

    def _answered(self, answer: httpx.Response, kinds: dict[str, str]) -> Counter[tuple[str, str]]:
        if answer.status_code >= 300:
            return Counter((kind, "refused") for kind in kinds.values())
        items = answer.json()["items"]
        if len(items) != len(kinds):
            self.faults.append(f"{len(items)} answers for {len(kinds)} files")
        return Counter(
            (kind, "accepted" if item["error"] is None else "passed over")
            for kind, item in zip(kinds.values(), items, strict=False)
        )

    def archive(self, rng: random.Random, count: int) -> Counter[tuple[str, str]]:
        """Bad zips, each as a data set, to classify, or as a batch."""
        counted: Counter[tuple[str, str]] = Counter()
        for _ in range(count):
            file, choice = as_form({"s.zip": mutate.archive(rng)}), rng.random()
            if choice < 0.6:
                counted += self.settle(self.ask("POST", "/datasets", files=file), {"s.zip": "zip"})
                continue
            if choice < 0.8:
                answer = self.ask("POST", f"/models/{self.model_id}/predict", files=file)
            else:
                answer = self.ask("POST", f"/models/{self.model_id}/batches/zip", files=file)
                if answer.status_code == 201:
                    self._wait_for_batch(answer.json()["id"])
            counted["zip", "refused" if answer.status_code >= 300 else "accepted"] += 1
        return counted

    def _wait_for_batch(self, batch_id: str) -> None:
        wait_until(lambda: self.ask("GET", f"/batches/{batch_id}").json()["state"] != "running", 120)
        self.ask("DELETE", f"/batches/{batch_id}")

    def table(self, rng: random.Random, count: int) -> Counter[tuple[str, str]]:
        """Bad tables of labels beside good images."""
        counted: Counter[tuple[str, str]] = Counter()
        for _ in range(count):
            names = [f"{index}.png" for index in range(6)]
            pictures = {f"scans/{name}": png(rng.randrange(10**6)) for name in names}
            file = {f"scans/labels.{rng.choice(('csv', 'csv', 'csv', 'tsv', 'xlsx'))}": mutate.table(names, rng)}
            fields = {"labels": next(iter(file))} if rng.random() < 0.4 else {}
            answer = self.ask("POST", "/datasets", files=as_form(pictures | file), data=fields)
            counted += self.settle(answer, {"labels.csv": "table"})
        return counted

    def mapping(self, rng: random.Random, count: int) -> Counter[tuple[str, str]]:
        """Bad answers to the question where labels stand."""
        names = [f"scans/{'ab'[index % 2]}_{index}.png" for index in range(6)]
        files = {name: png(rng.randrange(10**6)) for name in names}
        files["scans/labels.csv"] = b"name,class\n" + b"\n".join(name.encode() + b",a" for name in names)
        begun = self.ask("POST", "/datasets", files=as_form(files), data={"ask": "true"}).json()["id"]
        counted: Counter[tuple[str, str]] = Counter()
        for _ in range(count):
            options = {"content": mutate.document(rng), "headers": {"Content-Type": "application/json"}}
            answer = self.ask("POST", f"/datasets/{begun}/mapping/preview", **options)
            if answer.status_code < 300 and answer.json()["problem"] is not None:
                answer = self.ask("PUT", f"/datasets/{begun}/mapping", **options)
            counted["mapping", "refused" if answer.status_code >= 300 else "accepted"] += 1
        self.settle(httpx.Response(200, json={"id": begun}), {})
        return counted

    def weights(self, rng: random.Random, count: int) -> Counter[tuple[str, str]]:
        """Bad weights files."""
        counted: Counter[tuple[str, str]] = Counter()
        for _ in range(count):
            name, data = mutate.weights(rng)
            answer = self.ask(
                "POST", "/backbones", files={"file": (name, data)}, data={"name": "deit_tiny_patch16_224"}
            )
            counted["weights", "refused" if answer.status_code >= 300 else "accepted"] += 1
        return counted

    def model(self, rng: random.Random, count: int) -> Counter[tuple[str, str]]:
        """A model to bring in, sound but for one of its files, or as a damaged zip."""
        whole = self.ask("GET", f"/models/{self.model_id}/download").content
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        read = [name for name in files if not name.endswith((".png", ".html", ".md"))]
        counted: Counter[tuple[str, str]] = Counter()
        for _ in range(count):
            name = rng.choice(read)
            one_bad = files | {name: mutate.raw(files[name], rng)}
            data = mutate.raw(whole, rng) if rng.random() < 0.2 else make_zip(one_bad)
            answer = self.ask("POST", "/models", files={"file": ("model.zip", data)})
            counted["model", "refused" if answer.status_code >= 300 else "accepted"] += 1
            if answer.status_code == 201:
                made = answer.json()["id"]
                for path in ("", "/card", "/evaluation", "/figures", "/analysis/subband-energy"):
                    self.ask("GET", f"/models/{made}{path}")
                self.ask("DELETE", f"/models/{made}")
        return counted

    def named(self, rng: random.Random, count: int) -> Counter[tuple[str, str]]:
        """Good images under bad names."""
        counted: Counter[tuple[str, str]] = Counter()
        for _ in range(count):
            name, data = mutate.name(rng), png(rng.randrange(10**6))
            if rng.random() < 0.5:
                answer = self.ask("POST", f"/models/{self.model_id}/predict", files=as_form({name: data}))
                counted["name", "refused" if answer.status_code >= 300 else "accepted"] += 1
            else:
                answer = self.ask("POST", "/datasets", files=as_form(good(rng) | {name: data}))
                counted += self.settle(answer, {name: "name"})
        return counted

    def loads(self, uploads: int, seed: int) -> Iterator[tuple[Callable[..., Any], random.Random, int]]:
        """Yield doors with how many files to send through each, in turns, until so many bad files were sent."""
        shares: list[tuple[Callable[..., Any], float, int]] = [
            (self.form, 0.22, LOAD), (self.packed, 0.13, LOAD), (self.zipped, 0.13, LOAD), (self.predicted, 0.21, LOAD),
            (self.batched, 0.1, LOAD), (self.archive, 0.07, 10), (self.table, 0.04, 5), (self.mapping, 0.06, 30),
            (self.weights, 0.02, 5), (self.named, 0.02, 5),
            (self.model, 0.003, 5),
        ]  # fmt: skip
        left = [max(1, round(uploads * share)) for _, share, _ in shares]
        left[0] -= sum(left) - uploads  # what rounding has added
        turn = 0
        while any(left):
            for place, (door, _, load) in enumerate(shares):
                count = min(load, left[place])
                if count:
                    left[place] -= count
                    yield door, random.Random(f"{seed}/{turn}/{door.__name__}"), count
            turn += 1


def good(rng: random.Random) -> dict[str, bytes]:
    """Return a few good images of two classes, so that a check comes to its end."""
    return {
        f"study/{label}/good_{i}.png": png(rng.randrange(10**9), coarse=label == "a")
        for label in "ab"
        for i in range(3)
    }
