"""Figures of the running server for Prometheus: requests, the queue, jobs, images answered, disk and device memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import psutil  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backend.devices import Device
from backend.lanes import Lanes

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """A registry of the server's own, so that two servers in one process do not count for each other.

    Routes are counted by their pattern: no id and no name of an upload is in a figure.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Histogram(
            "wara_request_seconds", "Time from a request to the end of its answer", ("method", "route", "status"),
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._batches = Histogram(
            "wara_answer_batch_images", "Images that were run through a model together", buckets=IMAGES,
            registry=self.registry,
        )  # fmt: skip
        self._images = Counter("wara_images_answered", "Images that models have classified", registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def batch(self, images: int) -> None:
        """Count a batch that went through a model."""
        self._batches.observe(images)
        self._images.inc(images)

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)


class State(Collector):
    """What is looked up at the moment of asking; put into ``Metrics.registry``."""

    def __init__(
        self,
        jobs: Callable[[], dict[str, int]],
        waiting: Callable[[], int],
        lanes: Lanes,
        disk_free_mb: Callable[[], float],
        devices: Callable[[], tuple[Device, ...] | None],
        models: Callable[[], int | None],
    ) -> None:
        self._jobs, self._waiting, self._lanes = jobs, waiting, lanes
        self._disk_free_mb, self._devices, self._models = disk_free_mb, devices, models

    def collect(self) -> Iterable[Metric]:
        """Look everything up."""
        jobs = GaugeMetricFamily("wara_jobs", "Trainings by state", labels=["state"])
        for state, number in self._jobs().items():
            jobs.add_metric([state], number)
        yield jobs
        yield GaugeMetricFamily("wara_images_waiting", "Images being read or waiting for a model", self._waiting())
        inside = GaugeMetricFamily("wara_lane_requests", "Requests in work or waiting, by kind", labels=["lane"])
        refused = CounterMetricFamily("wara_lane_refused", "Requests that were told to come later", labels=["lane"])
        for lane in self._lanes.all():
            inside.add_metric([lane.name], lane.inside)
            refused.add_metric([lane.name], lane.refused)
        yield from (inside, refused)
        yield GaugeMetricFamily("wara_disk_free_bytes", "Free space of the data folder", self._disk_free_mb() * 2**20)
        held = "Memory of the process that holds the models; 0 while there is none"
        yield GaugeMetricFamily("wara_models_resident_memory_bytes", held, _resident(self._models()))
        yield from self._memory()

    def _memory(self) -> Iterable[Metric]:
        free = GaugeMetricFamily("wara_device_memory_free_bytes", "Free memory by device", labels=["device"])
        total = GaugeMetricFamily("wara_device_memory_bytes", "Memory by device", labels=["device"])
        for number, device in enumerate(self._devices() or ()):
            if device.type == "cuda":
                import torch

                left, whole = torch.cuda.mem_get_info(number)
            elif device.type == "cpu":
                memory = psutil.virtual_memory()
                left, whole = memory.available, memory.total
            else:
                continue
            free.add_metric([device.name], left)
            total.add_metric([device.name], whole)
        yield from (free, total)


def _resident(pid: int | None) -> int:
    try:
        return 0 if pid is None else int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:  # it ended at this moment
        return 0
