"""Figures for Prometheus: what is counted, and that no name and no id is in them."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.backend.support import API, Studio, png


def figures(studio: Studio) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = studio.http.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def test_requests_images_jobs_memory_and_disk_are_counted(trained: tuple[Studio, dict[str, Any]]) -> None:
    studio, job = trained
    before = figures(studio)
    files = [("files", (f"secret-{number}.png", png(number))) for number in range(3)]
    assert studio.http.post(f"{API}/models/{job['model_id']}/predict", files=files).status_code == 200
    after = figures(studio)
    route = frozenset({("method", "POST"), ("route", "/models/{model_id}/predict"), ("status", "200")})
    name = ("wara_request_seconds_count", route)
    assert after[name] == before.get(name, 0) + 1
    images = ("wara_images_answered_total", frozenset[tuple[str, str]]())
    assert after[images] == before[images] + 3
    assert after["wara_jobs", frozenset({("state", "running")})] == 0
    assert after["wara_images_waiting", frozenset[tuple[str, str]]()] == 0
    assert after["wara_disk_free_bytes", frozenset[tuple[str, str]]()] > 0
    assert any(name == "wara_device_memory_free_bytes" and value > 0 for (name, _), value in after.items())
    assert after["process_resident_memory_bytes", frozenset[tuple[str, str]]()] > 0
    assert after["wara_models_resident_memory_bytes", frozenset[tuple[str, str]]()] > 0


def test_neither_names_nor_ids_are_in_the_figures(trained: tuple[Studio, dict[str, Any]]) -> None:
    studio, job = trained
    studio.http.get(f"{API}/models/{job['model_id']}")
    studio.http.get(f"{API}/no/such/secret-route")
    text = studio.http.get("/metrics").text
    assert job["model_id"] not in text and "secret" not in text
