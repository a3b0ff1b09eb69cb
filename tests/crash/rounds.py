"""One round: something acknowledged, something under way, a kill -9, a restart, and a look at everything."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from backend.db.models import FINISHED_STATES
from backend.jobs.process import ProcessIdentity
from tests.backend.support import API, Server, as_form, png, study
from tests.backend.tus.support import Sender, packed

VICTIMS = ("server", "job", "both")
MOMENTS = ("upload", "training", "evaluation", "prediction")
PHASES = {"training": ("training",), "evaluation": ("testing", "analysing")}
EPOCHS = 24
TIMES = ("seconds", "images_per_second", "peak_memory_mb")
# Up to this long after its moment has come a victim lives on.
DELAYS = {"upload": 0.4, "training": 2.5, "evaluation": 0.8, "prediction": 2.0}
PIECE = 200
HEAD = f"{'round':>5}  {'victim':7} {'moment':11} {'found after the kill':78} ok"


@dataclass
class Row:
    """What a round found."""

    number: int
    victim: str
    moment: str
    found: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.wrong

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)

    def __str__(self) -> str:
        text = "; ".join([*self.found, *(f"WRONG: {what}" for what in self.wrong)])
        return f"{self.number:>5}  {self.victim:7} {self.moment:11} {text:78} {'yes' if self.ok else 'NO'}"


def plan(rounds: int, seed: int) -> list[tuple[str, str]]:
    """Every victim at every moment, in an order by the seed, as often as there are rounds."""
    chance = random.Random(f"plan {seed}")
    chosen: list[tuple[str, str]] = []
    while len(chosen) < rounds:
        every = list(itertools.product(VICTIMS, MOMENTS))
        chance.shuffle(every)
        chosen += every
    return chosen[:rounds]


def wait_until(condition: Callable[[], Any]) -> Any:
    """Ask a few times a second: asked without a break, the server and its jobs would have no time for themselves."""
    end = time.monotonic() + 300
    while not (answer := condition()):
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.15)
    return answer


class Bench:
    """A server that is killed and started again on one data folder, and a ledger of all that it acknowledged."""

    def __init__(self, root: Path, seed: int, epochs: int = EPOCHS) -> None:
        self.server = Server(root / "data", WARA_WORKER_ATTEMPTS="3")
        self.server.folder.mkdir(exist_ok=True)
        self.seed = seed
        self.order = {"epochs": epochs, "patience": epochs, "dropout": 0.1, "seed": 3}
        self.datasets: dict[str, int] = {}
        self.jobs: list[str] = []
        self.models: dict[str, str] = {}
        self.pictures = {f"new/{number}.png": png(9_000 + number, coarse=number % 2 == 0) for number in range(4)}

    def begin(self) -> str:
        """Start the server and do once, undisturbed, what every round does."""
        self.studio = self.server.start()
        self.base = self.studio.ready(study())["id"]
        self.datasets[self.base] = 24
        job = self._ended(self._train())
        assert job["state"] == "succeeded", job
        self.undisturbed = self._metrics(job["id"])
        self.adapter = self.models[job["id"]] = self._adapter(job["id"])
        self.answers = self._predict(job["id"])
        self.first = job["id"]
        return f"test AUROC {self.undisturbed['test']['auroc']['value']:.3f}, adapter {self.adapter[:12]}"

    def close(self) -> None:
        """End the server and whatever it started."""
        self._kill_server()
        self._let_go()
        for note in self.server.folder.glob("jobs/*/process.json"):
            found = ProcessIdentity.noted_in(note.parent)
            if found is not None:
                found.signal_group(signal.SIGKILL)

    def round(self, number: int, victim: str, moment: str) -> Row:
        """Kill a victim at a moment, start again what a person would, and compare."""
        row, chance = Row(number, victim, moment), random.Random(f"{self.seed} {number}")
        job_id = self._train()
        wait_until(lambda: self._worker(job_id) is not None)
        if moment in PHASES:
            wait_until(lambda: self._phase(job_id) in (*PHASES[moment], "done"))
        delay = chance.uniform(0, DELAYS[moment])
        match moment:
            case "upload":
                self._upload(row, number, chance, lambda: self._kill(row, victim, job_id, delay))
            case "prediction":
                self._ask(row, lambda: self._kill(row, victim, job_id, delay))
            case _:
                self._kill(row, victim, job_id, delay)
                self._restart()
        self._compare(row, job_id)
        self._look_at_all(row)
        return row

    def _train(self) -> str:
        job_id = self.studio.train(self.base, **self.order)["id"]
        self.jobs.append(job_id)
        return job_id

    def _worker(self, job_id: str) -> ProcessIdentity | None:
        return ProcessIdentity.noted_in(self.server.folder / "jobs" / job_id)

    def _ended(self, job_id: str) -> dict[str, Any]:
        wait_until(lambda: self.studio.job(job_id)["state"] in FINISHED_STATES)
        return self.studio.job(job_id)

    def _phase(self, job_id: str) -> str | None:
        phase: str | None = self.studio.job(job_id)["phase"]
        return phase

    def _kill(self, row: Row, victim: str, job_id: str, delay: float) -> None:
        time.sleep(delay)
        epochs = 0
        with suppress(FileNotFoundError):
            lines = (self.server.folder / "jobs" / job_id / "events.jsonl").read_text().splitlines()
            epochs = sum('"type": "epoch"' in line for line in lines)
        if victim in ("server", "both"):
            self._kill_server()
        worker = self._worker(job_id)
        alive = worker is not None and worker.is_alive()
        if victim in ("job", "both") and worker is not None and alive:
            worker.signal_group(signal.SIGKILL)
        row.found.append(f"job {'after pass ' + str(epochs) if alive else 'over already'}")

    def _kill_server(self) -> None:
        process = self.server.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(30)

    def _restart(self) -> None:
        """Start the server again, if it is gone."""
        process = self.server.process
        assert process is not None
        if process.poll() is not None:
            self._let_go()
            self.studio = self.server.start()

    def _let_go(self) -> None:
        """Close what this side held of a server that is gone."""
        if self.server.process is not None and self.server.process.stdout is not None:
            self.server.process.stdout.close()
        if self.server.client is not None:
            self.server.client.close()

    def _upload(self, row: Row, number: int, chance: random.Random, kill: Callable[[], None]) -> None:
        """Send a data set in pieces until the kill, and the rest after it."""
        files = study(5, start=100 * number)
        data = packed(files)
        sender = Sender(self.studio, self.server.folder)
        dataset_id = sender.dataset(name=f"round {number}")
        url, sent, killer = sender.begun(dataset_id, len(data)), 0, threading.Thread(target=kill)
        killer.start()
        with suppress(httpx.HTTPError):
            while sent < len(data) - PIECE:  # the last piece is always sent after the kill
                piece = data[sent : min(sent + chance.randint(1, PIECE), len(data) - PIECE)]
                answer = sender.patch(url, sent, piece)
                if answer.status_code != 204:
                    row.check(False, f"a piece was answered {answer.status_code}")
                    break
                sent += len(piece)
        killer.join()
        self._restart()
        sender = Sender(self.studio, self.server.folder)
        there = sender.offset(url)
        row.found.append(f"upload {there:,} of {len(data):,} bytes, {sent:,} acknowledged")
        row.check(there >= sent, "acknowledged bytes are gone")
        row.check(sender.patch(url, there, data[there:]).status_code == 204, "the upload could not be gone on with")
        row.check(sender.finish(dataset_id).status_code == 202, "the upload could not be finished")
        checked = self.studio.checked(dataset_id)
        row.check((checked["status"], checked["images"]) == ("ready", 10), f"the data set is {checked['status']}")
        self.datasets[dataset_id] = 10

    def _ask(self, row: Row, kill: Callable[[], None]) -> None:
        """Have images classified again and again until the kill, and once more after it."""
        killer, answers = threading.Thread(target=kill), 0
        killer.start()
        with suppress(httpx.HTTPError):
            while killer.is_alive() or answers == 0:
                row.check(self._predict(self.first) == self.answers, "an answer before the kill differs")
                answers += 1
        killer.join()
        self._restart()
        row.found.append(f"{answers} answers before")
        row.check(self._predict(self.first) == self.answers, "the answer after the kill differs")

    def _predict(self, model_id: str) -> Any:
        answer = self.studio.http.post(f"{API}/models/{model_id}/predict", files=as_form(self.pictures))
        answer.raise_for_status()
        return [[item["file"], item["label"], item["probabilities"]] for item in answer.json()["items"]]

    def _compare(self, row: Row, job_id: str) -> None:
        """The job ends, and with what the undisturbed one ended with, to the last bit."""
        job = self._ended(job_id)
        codes = [each["code"] for each in job["happenings"]]
        row.found.append(" > ".join(code for code in codes if code != "queued"))
        row.check(job["state"] == "succeeded", f"the job {job['state']}: {(job['error'] or {}).get('detail')}")
        if job["state"] != "succeeded":
            return
        self.models[job_id] = self._adapter(job_id)
        row.check(self._metrics(job_id) == self.undisturbed, "other metrics")
        row.check(self.models[job_id] == self.adapter, "another adapter")
        row.check(self._predict(job_id) == self.answers, "other answers")

    def _metrics(self, model_id: str) -> dict[str, Any]:
        found = json.loads((self.server.folder / "models" / model_id / "metrics.json").read_text())
        return {key: value for key, value in found.items() if key not in TIMES}

    def _adapter(self, model_id: str) -> str:
        weights = self.server.folder / "models" / model_id / "adapter" / "adapter_model.safetensors"
        return hashlib.sha256(weights.read_bytes()).hexdigest()

    def _look_at_all(self, row: Row) -> None:
        """Nothing of all that was ever acknowledged is missing, changed or left running."""
        http = self.studio.http
        listed = {item["id"]: item for item in http.get(f"{API}/datasets").json()["items"]}
        for dataset_id, images in self.datasets.items():
            there = listed.get(dataset_id, {})
            row.check((there.get("status"), there.get("images")) == ("ready", images), f"data set {dataset_id}")
        jobs = {item["id"]: item["state"] for item in http.get(f"{API}/jobs").json()["items"]}
        row.check(all(jobs.get(job_id) == "succeeded" for job_id in self.jobs), "a job is missing or not done")
        models = {item["id"] for item in http.get(f"{API}/models").json()["items"]}
        for model_id, digest in self.models.items():
            row.check(model_id in models and self._adapter(model_id) == digest, f"model {model_id}")
            row.check(not (self.server.folder / "models" / model_id / "checkpoint").exists(), "a checkpoint was left")
        for note in self.server.folder.glob("jobs/*/process.json"):
            found = ProcessIdentity.noted_in(note.parent)
            row.check(found is None or not found.is_alive(), "a process was left running")
        row.check("Traceback" not in self.server.log(), "the server's log holds an error")
        if row.wrong and os.environ.get("WARA_CRASH_LOG"):
            Path(os.environ["WARA_CRASH_LOG"]).write_text(self.server.log())

