"""The API's own page: there, complete, and without any address outside."""

from __future__ import annotations

import re

from tests.backend.support import Studio


def test_the_page_loads_from_this_server_alone(studio: Studio) -> None:
    page = studio.http.get("/api/docs")
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) == 3 and "http" not in page.text
    for address in addresses:
        answer = studio.http.get(address)
        assert answer.status_code == 200 and len(answer.content) > 100


def test_the_description_lists_every_route_and_the_form_of_uploads(studio: Studio) -> None:
    document = studio.http.get("/api/openapi.json").json()
    for path in (
        "/health", "/backbones", "/datasets", "/datasets/{dataset_id}/files", "/datasets/{dataset_id}/finish",
        "/datasets/{dataset_id}/report", "/datasets/{dataset_id}/images", "/jobs", "/jobs/{job_id}/events",
        "/jobs/{job_id}/cancel", "/models/{model_id}/card", "/models/{model_id}/download", "/models/{model_id}/predict",
        "/models/{model_id}/analysis/subband-energy.png", "/models/{model_id}/analysis/singular-spectrum",
    ):  # fmt: skip
        assert f"/api/v1{path}" in document["paths"]
    body = document["paths"]["/api/v1/datasets"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert body["properties"]["files"]["type"] == "array"
