"""What people do at once, for locust: classify, upload data sets and delete them, look at pages. See ``__main__``."""

from __future__ import annotations

import io
import os
import random
import time

import numpy as np
from locust import HttpUser, between, constant, task
from PIL import Image

API = "/api/v1"
MODEL = os.environ["WARA_LOAD_MODEL"]
DATASET = os.environ["WARA_LOAD_DATASET"]


def drawn(seed: int, pixels: int = 224) -> bytes:
    """Return a JPEG of smooth noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (pixels // 8, pixels // 8), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((pixels, pixels), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


IMAGES = [drawn(seed) for seed in range(64)]


class Patient(HttpUser):
    """Asks again after a refusal that says when; every other refusal and every 5xx is a failure."""

    abstract = True

    def ask(self, method: str, path: str, name: str, **options: object) -> object:
        with self.client.request(method, path, name=name, catch_response=True, **options) as answer:
            if answer.status_code in (429, 503) and "Retry-After" in answer.headers:
                answer.success()
                self.environment.events.request.fire(
                    request_type="busy", name=name, response_time=0, response_length=0, exception=None, context={}
                )
            return answer


class Classifier(Patient):
    """Sends one image after the other."""

    weight = 64
    wait_time = constant(0)

    @task
    def classify(self) -> None:
        files = {"files": ("image.jpg", random.choice(IMAGES), "image/jpeg")}
        self.ask("POST", f"{API}/models/{MODEL}/predict", "classify", files=files)


class Uploader(Patient):
    """Sends a data set of 60 images, waits for its check, looks at its report, deletes it."""

    weight = 4
    wait_time = between(1, 3)

    @task
    def upload(self) -> None:
        seed = random.randrange(1 << 30)
        files = [
            ("files", (f"study/{'ab'[number % 2]}/{number}.jpg", drawn(seed + number, 128), "image/jpeg"))
            for number in range(60)
        ]
        made = self.ask("POST", f"{API}/datasets", "upload 60 images", files=files)
        if made.status_code != 202 and made.status_code != 201:
            return
        dataset = made.json()["id"]
        for _ in range(120):
            if self.ask("GET", f"{API}/datasets/{dataset}", "look at a check").json()["status"] != "checking":
                break
            time.sleep(0.5)  # locust makes it wait for this client alone
        self.ask("GET", f"{API}/datasets/{dataset}/report", "data report")
        self.ask("DELETE", f"{API}/datasets/{dataset}", "delete a data set")


class Visitor(Patient):
    """Opens pages, lists and images."""

    weight = 8
    wait_time = between(0.5, 2)

    @task
    def look(self) -> None:
        self.ask("GET", "/", "page")
        self.ask("GET", f"{API}/health", "health")
        self.ask("GET", f"{API}/jobs", "trainings")
        found = self.ask("GET", f"{API}/datasets/{DATASET}/images?limit=24", "images")
        for item in found.json()["items"][:6]:
            self.ask("GET", item["url"] if item["url"].startswith("/") else f"/{item['url']}", "thumbnail")
